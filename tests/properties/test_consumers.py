"""Any interleaving of writers and of two runners that rob each other, fail and crash gives the fold of the log."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold import Projection, RecordedEvent, Retry, Store
from factfold.consumers import Place
from factfold.consuming import Consumption
from factfold.errands import Call, Errand, Rest, Transact, run
from factfold.errors import OutcomeUnknownError, StoreUnavailableError
from factfold.hub import Hub
from factfold.reading import event_decoder
from factfold.storage.base import Log, Swap
from factfold.storage.sqlite import SQLite
from tests.ledger import deposit, transfer
from tests.properties.callers import new_sqlite
from tests.properties.limits import examples
from tests.read_models import Money, balances, balances_in, folded

ROBBED_AT_ONCE = 1e-9
"""A lease that others may always take, while its owner believes in it: their clocks stand still."""


class Write(NamedTuple):
    """Somebody appends so many events."""

    events: int


class Go(NamedTuple):
    """A runner does so many errands, and then something happens to it."""

    runner: int
    errands: int
    then: str


class Fail(NamedTuple):
    """The next handlers that are called raise, so many of them."""

    handlers: int


step = st.one_of(
    st.builds(Write, st.integers(1, 6)),
    st.builds(
        Go,
        st.integers(0, 1),
        st.integers(1, 25),
        st.sampled_from(["nothing", "away", "unknown, done", "unknown, not done", "crash", "time passes"]),
    ),
    st.builds(Fail, st.integers(1, 4)),
)


class Runner:
    """One process that runs the projection, errand by errand; it is started again when it has ended."""

    def __init__(self, log: Log, projection: Projection) -> None:
        self._log = log
        self._projection = projection
        self.now = 0.0
        self._begin()

    def _begin(self) -> None:
        self._consumption = Consumption(
            self._projection,
            Hub(),
            event_decoder(None),
            log=self._log.name,
            place=Place(None, None, "default"),
            transactions=True,
            clock=lambda: self.now,
        )
        self._errands = self._consumption.steps()
        self._errand: Errand = next(self._errands)

    def go(self) -> None:
        """Does the errand that is asked for."""
        try:
            answer = perform(self._errand, self._log)
        except Exception as error:
            self._proceed(error=error)
        else:
            self._proceed(answer)

    def suffer(self, what: str) -> None:
        """Something happens on the way of an errand, or between two."""
        match what:
            case "away" if not isinstance(self._errand, Rest | Call):
                self._proceed(error=StoreUnavailableError("away"))
            case "unknown, done" | "unknown, not done" if isinstance(self._errand, Swap | Transact):
                try:
                    if what == "unknown, done":
                        perform(self._errand, self._log)
                except Exception as error:
                    self._proceed(error=error)
                else:
                    self._proceed(error=OutcomeUnknownError("the answer was lost"))
            case "crash":
                self._errands.close()
                self._begin()
            case "time passes":
                self.now += 1.0
            case _:
                pass

    def _proceed(self, answer: object = None, error: Exception | None = None) -> None:
        try:
            self._errand = self._errands.send(answer) if error is None else self._errands.throw(error)
        except StopIteration:
            self._begin()


def perform(errand: Errand, log: Log) -> object:
    """What an errand is answered with, by a storage at which nobody rests."""

    def one() -> Any:
        return (yield errand)

    return run(one(), log, lambda rest: False)


class Moods:
    """Lets handlers fail."""

    def __init__(self) -> None:
        self.failing = 0

    def __call__(self, event: Money, recorded: RecordedEvent[Any]) -> None:
        if self.failing > 0:
            self.failing -= 1
            raise LookupError("bad luck")


@pytest.mark.parametrize("on_error", ["stop", "park"])
@examples(0.5)
@given(st.lists(step, min_size=5, max_size=40), st.sampled_from([1, 2, 5, 1000]), st.integers(1, 3))
def test_the_read_model_is_the_fold_of_the_log(on_error: str, steps: Sequence[Any], batch: int, attempts: int) -> None:
    moods = Moods()
    projection = balances(
        hook=moods, on_error=on_error, lease=ROBBED_AT_ONCE, retry=Retry(max_attempts=attempts, base=0.0)
    )
    with pytest.MonkeyPatch.context() as patch, new_sqlite() as storage, Store(storage) as store:
        patch.setattr("factfold.handling.BATCH", batch)
        patch.setattr("factfold.handling.FIRST_BATCH", batch)
        patch.setattr("factfold.feed.FIRST_PAGE", 3)
        assert isinstance(storage, SQLite)
        with closing(storage.open()) as engine:
            log = engine.log("default")
            runners = [Runner(log, projection) for _ in range(2)]
            chance = random.Random(len(steps))
            for each in steps:
                take_step(each, store, runners, moods, chance)
        moods.failing = 0
        patient = balances()
        store.catch_up(patient)
        for parked in store.parked(patient):
            assert store.replay(patient, parked.position)
        assert balances_in(storage) == folded(store)


def take_step(each: Any, store: Store, runners: Sequence[Runner], moods: Moods, chance: random.Random) -> None:
    match each:
        case Write(events):
            for _ in range(events):
                number = chance.randrange(3)
                store.execute(deposit, f"a{number}", chance.randrange(10))
                if chance.random() < 0.3:
                    store.execute(transfer, f"a{number}", f"a{(number + 1) % 3}", 0)
        case Fail(handlers):
            moods.failing += handlers
        case Go(runner, errands, then):
            for _ in range(errands):
                runners[runner].go()
            runners[runner].suffer(then)
        case other:
            raise AssertionError(other)
