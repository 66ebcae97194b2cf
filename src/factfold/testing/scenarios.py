"""Scenarios: what happened before, and what is done now; what has to come of it is said by what `when` gives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from factfold.commands import check_command, name_of
from factfold.projections import Projection
from factfold.reactions import Reaction
from factfold.store import Store
from factfold.streams import Stream
from factfold.testing.fixed import NOW, moment
from factfold.testing.named import Exactly, check_events, checked_stream
from factfold.testing.noting import settings_of
from factfold.testing.outcome import Outcome
from factfold.testing.projected import Projected
from factfold.testing.projecting import project
from factfold.testing.reacted import Reacted
from factfold.testing.reacting import react
from factfold.testing.setting import Given, Setting
from factfold.transaction import Transaction

S = TypeVar("S")
E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")


class Scenario:
    """What happened before. Each call adds to it in a new scenario, so that several tests may start from one.

        scenario().given(accounts("alice"), Opened("Alice"), Deposited(100)).when(withdraw, "alice", 30)

    `setting` is for what runs something else than a command in it.
    """

    __slots__ = ("setting",)

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def given(self, stream: Exactly[S, E], event: E, /, *events: E) -> Scenario:
        """These events are in the stream, after what was given before.

        They are appended by way of a command, so that all is checked that is checked in earnest. A shared event, which
        is in several streams, comes by `given_shared`. Raises TypeError for what is no stream, or no event of it.
        """
        named = checked_stream("given", stream)
        check_events("given", named, (event, *events))
        return Scenario(self.setting.with_given(Given((event, *events), (named,))))

    def given_shared(self, event: E, stream: Stream[object, E], /, *streams: Stream[object, E]) -> Scenario:
        """This one event is in all of these streams, after what was given before. Raises TypeError as `given`."""
        named = tuple([checked_stream("given_shared", each) for each in (stream, *streams)])
        for each in named:
            check_events("given_shared", each, (event,))
        return Scenario(self.setting.with_given(Given((event,), named)))

    def when(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcome[R]:
        """Executes a command, whatever it may raise: what has to come of it is said by the methods of the outcome.

        Raises TypeError, InvalidCommandError for what is no command, and what an append of the given events raises.
        """
        _check_no_consumer(command)
        check_command(command)
        return Outcome(name_of(command), self.setting.run(command, args, kwargs))

    def when_projected(self, projection: Projection, /) -> Projected:
        """Has a projection follow what was given, then builds it again from all of it: the rows have to be the same.

        It runs on a temporary database of SQLite, or on the engine of the scenario's store. Handlers that are
        `async def` run in an event loop of their own. Failing events are tried again without pauses.

        Raises TypeError for what is no projection, ConsumerStoppedError when its tables cannot be made, ValueError when
        the scenario's store runs projections inline, and what an append of the given events raises.
        """
        _check_consumer(".when_projected", projection, Projection)
        self._check_not_inline(".when_projected")
        return Projected(project(self.setting, projection))

    def when_reacted(self, reaction: Reaction, /) -> Reacted:
        """Has a reaction handle what was given, from the beginning, and what follows from that, until it is at rest.

        Then its handlers are called again with the same events, as after a crash: nothing more may happen. Handlers
        that are `async def` run in an event loop of their own. Failing events are tried again without pauses.

        Raises TypeError for what is no reaction, ValueError when the scenario's store runs projections inline, and what
        an append of the given events raises.
        """
        _check_consumer(".when_reacted", reaction, Reaction)
        self._check_not_inline(".when_reacted")
        return Reacted(react(self.setting, reaction))

    def _check_not_inline(self, call: str) -> None:
        store = self.setting.store
        if store is not None and settings_of(store).inline:
            raise ValueError(
                f"{call}(): {store!r} runs projections inline, and other stores on it would have to, too: give the "
                "scenario a store without inline=[...]"
            )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Says what is missing where `then` comes before `when`; a type checker says it, too."""
            hint = ""
            if name.startswith("then"):
                hint = ": say first what is done, .when(command, ...), .when_projected(...) or .when_reacted(...)"
            raise AttributeError(f"A scenario has no {name!r}{hint}", name=name, obj=self)

    def __repr__(self) -> str:
        return f"Scenario(given={[str(given) for given in self.setting.givens]})"


def scenario(store: Store | None = None, *, now: datetime = NOW) -> Scenario:
    """A scenario in which nothing has happened yet.

    In it `tx.now` is `now`, and the n-th call of `tx.new_id()` gives `nth_id(n)`. It runs in memory (a projection on
    SQLite), or on the engine of `store`: each `when` in a namespace of its own, which stays there.

    Raises TypeError, ValueError for what is no store, or no aware datetime.
    """
    _check_store(store)
    return Scenario(Setting(moment("now", now), store))


def _check_consumer(call: str, given: object, wanted: type[Projection | Reaction]) -> None:
    if not isinstance(given, wanted):
        raise TypeError(f"{call}({given!r}): a {wanted.__name__} is needed, with its handlers. {_way_of(given)}")


def _check_no_consumer(given: object) -> None:
    if isinstance(given, Projection | Reaction):
        raise TypeError(f".when({given!r}): a command is needed. {_way_of(given)}")


def _way_of(given: object) -> str:
    """How it is given to a scenario."""
    if isinstance(given, Projection):
        return "A projection: .when_projected(projection)"
    if isinstance(given, Reaction):
        return "A reaction: .when_reacted(reaction)"
    return "A command: .when(command, ...)"


def _check_store(store: object) -> None:
    if store is not None and not isinstance(store, Store):
        raise TypeError(
            f"scenario({store!r}): it runs in memory, scenario(), or on the engine of a Store, scenario(store). (A "
            "command is the same under AsyncStore, and needs no scenario of its own there.)"
        )
