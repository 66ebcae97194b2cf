"""A projection in a scenario: it follows what is given, and then is built again from all of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct, structs

from factfold.errors import ConsumerStoppedError, DefinitionError, UnsupportedError
from factfold.projections import Projection
from factfold.storage.sqlite import SQLite
from factfold.store import Store
from factfold.testing.noting import Notes, settings_of
from factfold.testing.parking import Handled
from factfold.testing.rehearsing import Rehearsal, rehearsal, rehearsed, setup_of
from factfold.testing.setting import Setting
from factfold.testing.tables import Copied, InStore, Tables, contents, row_difference


class Built(Struct, frozen=True):
    """What came of a projection.

    Attributes:
        projection: whose handlers these were.
        handled: what it was given, and what it has parked.
        stopped: why it did not go on, if it did not.
        tables: where it wrote; None where there is no SQL database.
        storage, namespace: where it ran.
        fault: what was another thing when it was built again, or "".
    """

    projection: Projection
    handled: Handled
    stopped: ConsumerStoppedError | None
    tables: Tables | None
    storage: str
    namespace: str
    fault: str


def project(setting: Setting, projection: Projection) -> Built:
    """Runs a projection over what was given. Raises what an append raises, and why its tables could not be made."""
    if setting.store is not None:
        return _build(setting, projection, setting.empty())
    with TemporaryDirectory(prefix="factfold-") as directory:
        path = Path(directory) / "scenario.db"
        path.write_bytes(_blank())
        with Store(_on(path)) as store:
            built = _build(setting, projection, store)
        return structs.replace(built, tables=Copied(path))


@cache
def _blank() -> bytes:
    """A database without events, made once: to make it takes longer than to use it."""
    with TemporaryDirectory(prefix="factfold-") as directory:
        path = Path(directory) / "blank.db"
        with Store(_on(path)):
            pass  # which makes its tables
        return path.read_bytes()


def _on(path: Path) -> SQLite:
    """What survives a power failure is nothing that a scenario could ask."""
    return SQLite(path, synchronous="normal")


def _build(setting: Setting, projection: Projection, store: Store) -> Built:
    tables = InStore.of(store)
    namespace = settings_of(store).namespace
    first = rehearsed(projection)
    with rehearsal(projection, store, Notes(setting.now)) as running:
        try:
            running.catch_up(first)  # which makes the tables
            stopped = _follow(setting, first, running)
        except (ConsumerStoppedError, DefinitionError) as error:
            _explain(error, setting)
            raise
        fault = ""
        if stopped is None and tables is not None and setup_of(projection) is not None:
            fault = _fault_of_another(first, tables, namespace, running)
        recorded = store.log(types=projection, category=projection.category)
        handled = Handled(projection.label, {one.position: one for one in recorded}, running.parked(first))
    return Built(projection, handled, stopped, tables, settings_of(store).storage.name, namespace, fault)


def _follow(setting: Setting, projection: Projection, running: Rehearsal) -> ConsumerStoppedError | None:
    """Has what is given happen step by step, and the projection follow; gives why it stopped."""
    for given in setting.givens:
        running.give(given)
        try:
            running.catch_up(projection)
        except ConsumerStoppedError as error:
            _explain(error, setting)
            return error
    return None


def _explain(error: ConsumerStoppedError | DefinitionError, setting: Setting) -> None:
    """Says where it runs, where that may be what is wrong."""
    wrong = error if isinstance(error, DefinitionError) else error.__cause__
    if setting.store is None and isinstance(wrong, DefinitionError | UnsupportedError):
        error.add_note("A scenario runs a projection on SQLite, and scenario(store) on the engine of a store.")


def _fault_of_another(projection: Projection, tables: Tables, namespace: str, running: Rehearsal) -> str:
    """Builds another version beside, all at once, and has it take over, as when it is deployed; says what differs."""
    before = contents(tables, projection, namespace)
    another = rehearsed(projection)
    another.version += 1
    try:
        running.catch_up(another)
    except ConsumerStoppedError as error:
        return f"could not be built again from the same events, as another version beside this one: {error.reason}"
    after = contents(tables, another, namespace)
    for name in projection.tables:
        differs = row_difference(before[name].rows, after[name].rows)
        if differs is not None:
            return (
                f"has other rows in {name} when it is built again from the same events, all at once (- first, "
                f"+ second time):\n{differs}\nIts handlers write what the event and its own tables say, into "
                "context.table(...), and use neither the time, nor chance, nor what they remember."
            )
    return ""
