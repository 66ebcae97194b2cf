"""Projections: read models that follow the log, exactly once where they live in the store's own SQL database."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeGuard, TypeVar, cast, get_args, get_origin, overload

from msgspec import Struct

from factfold.annotations import describe, function_hints, names_around, show
from factfold.checkpoints import projection_key
from factfold.consumers import (
    AWAY,
    LEASE,
    PATIENCE,
    RETRY,
    Consumer,
    HandlerFailedError,
    OnError,
    Place,
    is_failure,
)
from factfold.errors import DefinitionError, UnsupportedError
from factfold.events import RecordedEvent
from factfold.handlers import Async, Sync, as_it_is
from factfold.retry import Retry
from factfold.transaction import inside_command

E = TypeVar("E")
X = TypeVar("X")
X_co = TypeVar("X_co", covariant=True)


class ReadModel(Struct, Generic[X_co], frozen=True):
    """Where a projection writes: a connection of the driver, in a transaction that ends when all is handled.

    X is the driver's own type: `sqlite3.Connection`, or under Store `psycopg.Connection`, and under AsyncStore
    `psycopg.AsyncConnection`.
    """

    _connection: X_co | None
    _projection: Projection
    _namespace: str

    @property
    def connection(self) -> X_co:
        """The connection. It commits by itself; a handler neither commits nor rolls back.

        Raises UnsupportedError when the storage is no SQL database.
        """
        if self._connection is None:
            raise UnsupportedError(
                f"{self._projection.label}: this storage has no SQL database for a read model, so there is no "
                "connection. Write it elsewhere; `recorded.position` tells what has been written already."
            )
        return self._connection

    def table(self, name: str) -> str:
        """The physical name of a table of this version, quoted for SQL. The plain name is a view of what serves.

        In another namespace than "default" both begin with its name: `tenant_balances`.

        Raises DefinitionError when the projection was not given this name with `tables=`.
        """
        return quoted(self._projection.physical(name, self._namespace))


class ProjectionContext(ReadModel[X_co], Generic[X_co], frozen=True):
    """The second parameter of a projection's handler: where to write, and the event as recorded."""

    recorded: RecordedEvent[object]


class Projection(Consumer[ProjectionContext[object]]):
    """A read model that follows the log: handlers, and a checkpoint that the storage keeps for them.

    In the store's own SQLite or PostgreSQL database the events of a batch and the checkpoint are one transaction: each
    event is handled exactly once, whatever crashes. Elsewhere each is handled at least once, in order.

    Args:
        name: of the projection.
        version: a higher one is built beside the one that serves, and takes over when it has caught up.
        tables: names of the tables that `setup` makes; by default one, named as the projection. A view of the plain
            name shows the table of the version that serves.
        category: only events that belong to a stream of this category.
        on_error: what happens when an event fails as often as `retry` allows: "stop" there, or "park" it and go on.
        retry: how often an event is tried, and how long to wait before it is tried again.
        lease: seconds without a sign of life after which another process takes over.
        patience: seconds without progress, though there is something to do, after which it is said not to get on.
        on_trouble: is called with a sentence when it stops, or does not get on.

    Raises DefinitionError when something of this cannot be.
    """

    kind = "projection"

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        tables: Sequence[str] | None = None,
        category: str | None = None,
        on_error: OnError = "stop",
        retry: Retry = RETRY,
        lease: float = LEASE,
        patience: float = PATIENCE,
        on_trouble: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(
            name,
            ProjectionContext,
            category=category,
            on_error=on_error,
            retry=retry,
            lease=lease,
            patience=patience,
            on_trouble=on_trouble,
        )
        if type(version) is not int or not 0 < version < 1_000_000:
            raise DefinitionError(f"{self.label}: version is a whole number above 0, not {version!r}.")
        self.version = version
        self.label = f"projection {name} (version {version})"
        self.tables = (name,) if tables is None else tuple(tables)
        for table in self.tables if tables is not None else ():
            if not _TABLE.fullmatch(table):
                raise DefinitionError(
                    f"{self.label}: {table!r} cannot be a table: letters, digits and '_', at most 40, beginning with a "
                    "letter."
                )
        self._known: set[type] = set()  # classes of connections that its handlers can use
        self._setup: SetUp[object] | None = None
        self._batch: BatchHandler[object, object] | None = None

    @property
    def key(self) -> str:
        """Its name in the storage."""
        return projection_key(self.name, self.version)

    def physical(self, table: str, namespace: str) -> str:
        """The name of this version's table in the database. Raises DefinitionError."""
        if table not in self.tables:
            raise DefinitionError(
                f"{self.label} has no table {table!r} but {', '.join(self.tables)}. Name its tables: "
                f"Projection({self.name!r}, tables=[...])."
            )
        return f"{visible(table, namespace)}_v{self.version}"

    # -- Handlers --------------------------------------------------------------------------------------------------

    @overload
    def on(self, handler: Sync[E, ProjectionContext[X]], /) -> Sync[E, ProjectionContext[X]]: ...
    @overload
    def on(self, handler: Async[E, ProjectionContext[X]], /) -> Async[E, ProjectionContext[X]]: ...

    def on(self, handler: Handler[E, X], /) -> Handler[E, X]:
        """Decorator: the function below handles the events that annotate its first parameter, a class or a union.

        It may be `async def`, for an AsyncStore. Raises DefinitionError saying what is wrong with it.
        """
        if self._batch is not None:
            raise self._two(handler, self._batch)
        self._register(handler, names_around(handler), as_it_is)
        return handler

    def on_batch(self, handler: BatchHandler[E, X], /) -> BatchHandler[E, X]:
        """Decorator: the function below handles many events at once, `(events: Sequence[RecordedEvent[E]], model)`.

        For read models that are written faster so. It is the projection's only handler; the events are in order, all
        of one transaction. When it fails, it is called again with fewer, at last with the one that makes it fail.
        Raises DefinitionError.
        """
        others = list(self._handlers.values())
        if others:
            raise self._two(handler, others[0])
        self._register(handler, names_around(handler), _events_of_batch)
        self._batch = cast("BatchHandler[object, object]", handler)  # it is given what it is annotated with
        return handler

    def setup(self, function: SetUp[X], /) -> SetUp[X]:
        """Decorator: the function below makes the tables, once for each version, before its first event.

        `(model: ReadModel[...])`; it may be `async def`, for an AsyncStore. Raises DefinitionError.
        """
        if self._setup is not None:
            raise DefinitionError(f"{self.label} is set up by {describe(self._setup)} already.")
        self._given[function] = next(iter(function_hints(function, names_around(function)).values()), None)
        self._setup = cast("SetUp[object]", function)  # it is given what it is annotated with
        return function

    def _two(self, one: object, other: object) -> DefinitionError:
        return DefinitionError(
            f"{describe(one)}: {self.label} has {describe(other)} already. A handler of batches is the only one of its "
            "projection, so that all events stay in order. Let it take the union of all events."
        )

    @property
    def at_once(self) -> bool:
        """Whether its handler is given many events at once."""
        return self._batch is not None

    def check_store(self, *, asynchronous: bool) -> None:
        """Raises DefinitionError when it is not for a store of this kind."""
        super().check_store(asynchronous=asynchronous)
        if not asynchronous and inspect.iscoroutinefunction(self._setup):
            raise DefinitionError(
                f"{describe(self._setup)} is `async def`, and nothing in a Store awaits it. Use an AsyncStore, or make "
                "it a plain `def`."
            )

    # -- Work ------------------------------------------------------------------------------------------------------

    def work(self, events: Sequence[RecordedEvent[object]], place: Place) -> object:
        """Has events handled, in order, in the read model's database. Raises HandlerFailedError, DefinitionError."""
        self._check_connection(place.connection)
        if not events:
            return None  # a handler of batches can count on having one
        inside = inside_command.set(True)
        try:
            returned = super().work(events, place) if self._batch is None else self._work_at_once(events, place)
        finally:
            inside_command.reset(inside)
        return _inside(returned) if _is_awaitable(returned) else None

    def _check_connection(self, connection: object) -> None:
        """Refuses handlers that are annotated with another driver's connection. Raises DefinitionError."""
        if connection is None or type(connection) in self._known:
            return
        for handler, given in self._given.items():
            wanted = [one for one in map(_class_of, get_args(given)) if isinstance(one, type) and one is not Any]
            if wanted and not isinstance(connection, wanted[0]):
                raise DefinitionError(
                    f"{describe(handler)} wants a connection of the class {show(wanted[0])}, and the storage's is a "
                    f"{type(connection).__module__}.{type(connection).__qualname__}."
                )
            if wanted and _executes_async(wanted[0]) and not inspect.iscoroutinefunction(handler):
                raise DefinitionError(
                    f"{describe(handler)} has a connection of the class {show(wanted[0])}, whose methods are to be "
                    "awaited, and nothing awaits them in a plain `def`. Make it `async def`."
                )
        self._known.add(type(connection))

    def _work_at_once(self, events: Sequence[RecordedEvent[object]], place: Place) -> object:
        assert self._batch is not None
        try:
            returned = self._batch(events, ReadModel(place.connection, self, place.namespace))
        except AWAY:
            raise
        except Exception as error:
            raise HandlerFailedError(None) from error
        if not self.is_async:
            self.refuse_awaitable(returned)
        return _or_failed(returned) if _is_awaitable(returned) else None

    def _context_for(self, recorded: RecordedEvent[object], place: Place) -> ProjectionContext[object]:
        return ProjectionContext(place.connection, self, place.namespace, recorded)

    def set_up(self, place: Place) -> object:
        """Makes the tables. Outside of an SQL database it does whatever the function does."""
        if self._setup is None:
            return None
        connection, namespace = place.connection, place.namespace
        self._check_connection(connection)
        physical = [quoted(self.physical(table, namespace)) for table in self.tables]
        inside = inside_command.set(True)
        try:
            returned = self._setup(ReadModel(connection, self, namespace))
        except AWAY:
            raise
        except Exception as error:
            raise HandlerFailedError(None) from error
        finally:
            inside_command.reset(inside)
        if connection is None:
            return _inside(_or_failed(returned)) if _is_awaitable(returned) else None
        returned = _then(returned, connection, [f"SELECT * FROM {table} LIMIT 0" for table in physical])
        return _inside(returned) if _is_awaitable(returned) else None

    def switch(self, place: Place) -> object:
        """Has the views show the tables of this version."""
        if self._setup is None:
            return None
        # Who waits for a view keeps all others waiting who read it later: better once more than long.
        brief = [f"SET LOCAL lock_timeout = '{BRIEF}ms'"] if is_psycopg(place.connection) else []
        return _then(None, place.connection, brief + self._switching(place.namespace))

    def _switching(self, namespace: str) -> list[str]:
        statements: list[str] = []
        for table in self.tables:
            view, physical = quoted(visible(table, namespace)), quoted(self.physical(table, namespace))
            statements += [f"DROP VIEW IF EXISTS {view}", f"CREATE VIEW {view} AS SELECT * FROM {physical}"]
        return statements


def is_psycopg(connection: object) -> bool:
    """Whether a connection is one to PostgreSQL: the driver is not imported where it is not used."""
    return any(cls.__module__.startswith("psycopg") for cls in type(connection).__mro__)


def visible(table: str, namespace: str) -> str:
    """The name of the view of a table."""
    return table if namespace == "default" else f"{namespace}_{table}"


def quoted(name: str) -> str:
    """An identifier as it stands in SQL. Raises DefinitionError when a database would cut it off."""
    if len(name.encode()) > LONGEST_NAME:
        raise DefinitionError(
            f"The table {name!r} has more than {LONGEST_NAME} bytes in its name, and PostgreSQL would cut it off. Give "
            "it a shorter name, or the namespace one."
        )
    return '"' + name.replace('"', '""') + '"'


BRIEF = 250
"""Milliseconds for which a takeover waits for those who read the views that it switches, before it tries again."""

LONGEST_NAME = 63
"""Bytes of an identifier in PostgreSQL."""

_TABLE = re.compile(r"[A-Za-z_]\w{0,39}", re.ASCII)

Handler: TypeAlias = Callable[[E, ProjectionContext[X]], object]
"""Handles an event: a function, or an `async def` one."""

BatchHandler: TypeAlias = Callable[[Sequence[RecordedEvent[E]], ReadModel[X]], object]
"""Handles many events at once: a function, or an `async def` one."""

SetUp: TypeAlias = Callable[[ReadModel[X]], object]
"""Makes the tables of a projection: a function, or an `async def` one."""


class Executes(Protocol):
    """What is needed of a driver's connection."""

    def execute(self, sql: str, /) -> object: ...


def _events_of_batch(annotation: object, where: str) -> object:
    """E of `Sequence[RecordedEvent[E]]`."""
    item = get_args(annotation)[:1] if get_origin(annotation) is Sequence else ()
    if not item or get_origin(item[0]) is not RecordedEvent:
        raise DefinitionError(
            f"{where} is to be annotated as Sequence[RecordedEvent[...]], with the events that it handles."
        )
    return get_args(item[0])[0]


def _then(returned: object, connection: object, statements: Sequence[str]) -> object:
    """Executes statements, after `returned` has been awaited if it can be."""
    executing = cast("Executes", connection)  # of whatever driver
    if not _is_awaitable(returned):
        for index, sql in enumerate(statements):
            try:
                returned = executing.execute(sql)
            except Exception as error:
                raise HandlerFailedError(None) from error
            if _is_awaitable(returned):
                return _or_failed(_execute_all(returned, executing, statements[index + 1 :]))
        return None
    return _or_failed(_execute_all(returned, executing, statements))


def _class_of(annotation: object) -> object:
    """The class behind `Connection` and `Connection[TupleRow]`."""
    return get_origin(annotation) or annotation


def _executes_async(connection: object) -> bool:
    """Whether the methods of a class of connections are to be awaited."""
    return inspect.iscoroutinefunction(getattr(connection, "execute", None))


def _is_awaitable(returned: object) -> TypeGuard[Awaitable[object]]:
    return isinstance(returned, Awaitable)


async def _execute_all(first: Awaitable[object], connection: Executes, statements: Sequence[str]) -> None:
    await first
    for sql in statements:
        returned = connection.execute(sql)
        if _is_awaitable(returned):
            await returned


async def _or_failed(awaitable: Awaitable[object]) -> None:
    try:
        await awaitable
    except AWAY:
        raise
    except BaseException as error:
        if not is_failure(error):
            raise
        raise HandlerFailedError(None) from error


async def _inside(awaitable: Awaitable[object]) -> None:
    """Awaits what uses no store: it would wait for the transaction in which it is called."""
    inside = inside_command.set(True)
    try:
        await awaitable
    finally:
        inside_command.reset(inside)
