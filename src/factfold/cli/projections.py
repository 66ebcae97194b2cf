"""`factfold projections`: lists projections and reactions, runs and rebuilds them, sees to what they have parked."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Never, TypeAlias, TypeGuard, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from factfold import AsyncStore, Projection, Store
from factfold.checkpoints import ParkedEvent
from factfold.cli.inspect import existing
from factfold.cli.output import Column, fail, listing
from factfold.consumers import Consumer
from factfold.errors import StoreUnavailableError
from factfold.statuses import ConsumerStatus
from factfold.storage import Storage

R = TypeVar("R")

AnyConsumer: TypeAlias = Consumer[Any]

GLANCE = 0.2
"""Seconds between two looks at those that run."""


class Action(StrEnum):
    """What is to be done."""

    LIST = "list"
    RUN = "run"
    REBUILD = "rebuild"
    PARKED = "parked"
    REPLAY = "replay"
    DISCARD = "discard"
    WITHDRAW = "withdraw"


def act(url: str, namespace: str, place: str | None, action: Action, name: str | None, position: int | None) -> bool:
    """Does it. False: something has failed that should not have."""
    if place is not None and place in tuple(Action):
        action = Action(place)  # it needs no MODULE:NAME
        place = None
    storage = existing(url, namespace)
    if action is Action.LIST:
        with Store(storage, namespace=namespace) as store:
            return _list((*store.projections(), *store.reactions()))
    if action is Action.WITHDRAW:
        if name is None:
            fail("withdraw needs --name: which projection is not to run inline any more")
        with Store(storage, namespace=namespace) as store:
            try:
                store.withdraw(name)
            except LookupError as error:
                fail(str(error))
        print(f"{name} does not run inline any more; run it like others")
        return True
    if place is None:
        fail(f"{action} needs MODULE:NAME, where the projections stand in your program, such as bank.views:balances")
    consumers = _chosen(_found(place), name)
    with _operator(storage, namespace, consumers) as operator:
        match action:
            case Action.RUN:
                return _run(operator, consumers)
            case Action.REBUILD:
                return _rebuild(operator, consumers)
            case Action.PARKED:
                return _parked(operator, consumers)
            case _:
                return _unpark(operator, consumers, action, position)


# -- What is run, and with what ----------------------------------------------------------------------------------------


def _found(place: str) -> list[AnyConsumer]:
    """The projections and reactions that MODULE:NAME means: one, or several in a sequence."""
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        fail(f"{place!r} is not MODULE:NAME, such as bank.views:balances")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            fail(f"there is no module {module!r} here; run this where your program can be imported")
        raise
    except AttributeError:
        fail(f"the module {module} has no {name!r}")
    several = list(cast("Iterable[object]", found)) if isinstance(found, Iterable) else [found]
    chosen: list[AnyConsumer] = []
    for one in several:
        if not _is_consumer(one):
            fail(f"{place} is {one!r}: give a Projection, a Reaction, or a sequence of them")
        chosen.append(one)
    if not chosen:
        fail(f"{place} is empty: give a Projection, a Reaction, or a sequence of them")
    return chosen


def _is_consumer(found: object) -> TypeGuard[AnyConsumer]:
    return isinstance(found, Consumer)


def _chosen(consumers: Sequence[AnyConsumer], name: str | None) -> list[AnyConsumer]:
    chosen = [one for one in consumers if name in (None, one.name)]
    if not chosen:
        fail(f"there is no {name!r} among {', '.join(one.name for one in consumers)}")
    return chosen


class Operator(ABC):
    """A store of the kind that the handlers are for, worked with from here."""

    @abstractmethod
    def __enter__(self) -> Operator: ...
    @abstractmethod
    def __exit__(self, *error: object) -> None: ...
    @abstractmethod
    def start(self, consumers: Sequence[AnyConsumer]) -> None: ...
    @abstractmethod
    def statuses(self) -> tuple[ConsumerStatus, ...]: ...
    @abstractmethod
    def pause(self, seconds: float) -> None: ...
    @abstractmethod
    def parked(self, consumer: AnyConsumer) -> tuple[ParkedEvent, ...]: ...
    @abstractmethod
    def replay(self, consumer: AnyConsumer, position: int) -> bool: ...
    @abstractmethod
    def discard(self, consumer: AnyConsumer, position: int) -> bool: ...


class _Threads(Operator):
    def __init__(self, storage: Storage, namespace: str) -> None:
        self._store = Store(storage, namespace=namespace)

    def __enter__(self) -> Operator:
        self._store.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._store.close()

    def start(self, consumers: Sequence[AnyConsumer]) -> None:
        self._store.start(*consumers)

    def statuses(self) -> tuple[ConsumerStatus, ...]:
        return (*self._store.projections(), *self._store.reactions())

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def parked(self, consumer: AnyConsumer) -> tuple[ParkedEvent, ...]:
        return self._store.parked(consumer)

    def replay(self, consumer: AnyConsumer, position: int) -> bool:
        return self._store.replay(consumer, position)

    def discard(self, consumer: AnyConsumer, position: int) -> bool:
        return self._store.discard(consumer, position)


class _Tasks(Operator):
    """The loop runs while something is awaited here, a pause too."""

    def __init__(self, storage: Storage, namespace: str) -> None:
        self._store = AsyncStore(storage, namespace=namespace)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Operator:
        self._runner.__enter__()
        self._run(self._store.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._store.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        return self._runner.run(work)

    def start(self, consumers: Sequence[AnyConsumer]) -> None:
        self._run(self._store.start(*consumers))

    def statuses(self) -> tuple[ConsumerStatus, ...]:
        return (*self._run(self._store.projections()), *self._run(self._store.reactions()))

    def pause(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    def parked(self, consumer: AnyConsumer) -> tuple[ParkedEvent, ...]:
        return self._run(self._store.parked(consumer))

    def replay(self, consumer: AnyConsumer, position: int) -> bool:
        return self._run(self._store.replay(consumer, position))

    def discard(self, consumer: AnyConsumer, position: int) -> bool:
        return self._run(self._store.discard(consumer, position))


def _operator(storage: Storage, namespace: str, consumers: Sequence[AnyConsumer]) -> Operator:
    asynchronous = any(one.is_async for one in consumers)
    return (_Tasks if asynchronous else _Threads)(storage, namespace)


# -- Actions -----------------------------------------------------------------------------------------------------------


def _list(statuses: Sequence[ConsumerStatus]) -> bool:
    columns = (
        Column("kind"),
        Column("name"),
        Column("version", number=True),
        Column("state"),
        Column("serving"),
        Column("position", number=True),
        Column("lag", number=True),
        Column("lag (s)", number=True),
        Column("parked", number=True),
        Column("error"),
    )
    rows = (
        (
            one.kind,
            one.name,
            str(one.version),
            one.state,
            "yes" if one.serving else "no",
            str(one.position),
            str(one.lag_events),
            f"{one.lag_seconds:.1f}",
            str(one.parked),
            one.error,
        )
        for one in statuses
    )
    listing(columns, rows)
    return not any(one.state == "failed" for one in statuses)


def _run(operator: Operator, consumers: Sequence[AnyConsumer]) -> bool:
    """Runs them until Ctrl-C, or SIGTERM, or until all have stopped."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        operator.start(consumers)
        return _follow(operator, consumers, until_caught_up=False)
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
        return True


def _rebuild(operator: Operator, consumers: Sequence[AnyConsumer]) -> bool:
    """Builds new versions beside those that serve, until they serve."""
    serving = {(one.name, one.version) for one in operator.statuses() if one.serving and one.kind == "projection"}
    for consumer in consumers:
        if not isinstance(consumer, Projection):
            fail(f"{consumer.label} is no projection, there is nothing to rebuild")
        if (consumer.name, consumer.version) in serving:
            fail(f"{consumer.label} serves already. Give it a higher version, and it is built anew beside this one")
    operator.start(consumers)
    return _follow(operator, consumers, until_caught_up=True)


def _follow(operator: Operator, consumers: Sequence[AnyConsumer], *, until_caught_up: bool) -> bool:
    """Shows how they get on: a bar for each on a terminal, a line whenever the state changes elsewhere."""
    keys = {(one.kind, one.name, one.version) for one in consumers}
    console = Console()
    shown: dict[str, TaskID] = {}
    said: dict[str, str] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        while True:
            try:
                known = operator.statuses()
            except StoreUnavailableError:  # those who run wait until it is back, and have said why
                for label, task in shown.items():
                    progress.update(task, state="retrying")
                    if said.get(label, "retrying") != "retrying":
                        said[label] = "retrying"
                        print(f"{label}: retrying, the storage is away", flush=True)
                operator.pause(GLANCE)
                continue
            mine = [one for one in known if (one.kind, one.name, one.version) in keys]
            for one in mine:
                label = f"{one.kind} {one.name} v{one.version}"
                head = one.position + one.lag_events
                if label not in shown:
                    shown[label] = progress.add_task(label, total=head, state="")
                progress.update(shown[label], completed=one.position, total=head, state=one.state)
                if not console.is_terminal and said.get(label) != one.state:
                    said[label] = one.state
                    print(f"{label}: {one.state} at position {one.position:,} of {head:,}", flush=True)
            if len(mine) == len(keys):
                failed = [one for one in mine if one.state in ("failed", "superseded")]
                if len(failed) == len(mine) or (failed and until_caught_up):
                    print(*(one.error or f"{one.name}: superseded" for one in failed), sep="\n", file=sys.stderr)
                    return False
                # Where another process builds it, this one waits.
                if until_caught_up and all(one.serving and one.state in ("live", "waiting") for one in mine):
                    return True
            operator.pause(GLANCE)


def _parked(operator: Operator, consumers: Sequence[AnyConsumer]) -> bool:
    """Lists the events that were left aside."""
    rows = (
        (consumer.name, str(one.position), one.failure.type, f"{one.failure.at:%Y-%m-%d %H:%M:%S}", one.failure.error)
        for consumer in consumers
        for one in operator.parked(consumer)
    )
    columns = (Column("name"), Column("position", number=True), Column("type"), Column("at (UTC)"), Column("error"))
    listing(columns, rows)
    return True


def _unpark(operator: Operator, consumers: Sequence[AnyConsumer], action: Action, position: int | None) -> bool:
    """Has parked events handled, or forgets them: the one at a position, or all."""
    whole = True
    count = 0
    for consumer in consumers:
        for one in operator.parked(consumer):
            if position not in (None, one.position):
                continue
            count += 1
            try:
                (operator.discard if action is Action.DISCARD else operator.replay)(consumer, one.position)
            except Exception as error:  # noqa: BLE001 - a handler may raise anything, and the others are still to be done
                whole = False
                print(f"{consumer.name}: the event at position {one.position} failed again: {error!r}", file=sys.stderr)
    if position is not None and not count:
        fail(f"nothing is parked at position {position}")
    print(
        f"{count:,} event(s) {'discarded' if action is Action.DISCARD else 'replayed'}"
        + ("" if whole else ", some failed")
    )
    return whole


def _terminate(number: int, frame: FrameType | None) -> Never:
    raise KeyboardInterrupt
