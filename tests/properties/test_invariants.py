"""No run of a command ever sees a mix of states that never existed: the commands look for themselves, in every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from factfold import Store, Transaction, event, stream
from tests.properties.callers import Answer, NewStorage, Run, callers
from tests.properties.limits import Limits, cache_sizes, examples, limits

PURSES = 4
COINS = 10


@dataclass(frozen=True)
class Earned:
    coins: int


@dataclass(frozen=True)
class Spent:
    coins: int


@event(streams=("foot", "foot"))
@dataclass(frozen=True)
class Hopped:
    """Both feet leave the ground at once."""


@dataclass(frozen=True)
class Purse:
    coins: int = COINS
    payments: int = 0


@stream("purse", initial=Purse())
def purses(state: Purse, event: Earned | Spent) -> Purse:
    coins = event.coins if isinstance(event, Earned) else -event.coins
    return replace(state, coins=state.coins + coins, payments=state.payments + 1)


@stream("purse", initial=0)
def incomes(state: int, event: Earned) -> int:
    return state + event.coins


@stream("purse", initial=0)
def expenses(state: int, event: Spent) -> int:
    return state + event.coins


@stream("foot", initial=0)
def feet(state: int, event: Hopped) -> int:
    return state + 1


class TooPoorError(Exception):
    """Raised by a command; its arguments are the purse and the coins in it."""


@dataclass
class Witness:
    """What commands saw that cannot have been."""

    wrong: list[object] = field(default_factory=list)

    def expect(self, right: bool, *seen: object) -> None:
        if not right:
            self.wrong.append(seen)


@dataclass(frozen=True)
class Pay:
    witness: Witness
    source: int
    target: int
    coins: int

    def __call__(self, tx: Transaction) -> int:
        source, target = tx.read(purses(self.source), purses(self.target))
        if source.state.coins < self.coins:
            raise TooPoorError(self.source, source.state.coins)
        paid = tx.read(expenses(self.source))
        before = paid.state
        source.append(Spent(self.coins))
        target.append(Earned(self.coins))
        self.witness.expect(paid.state == before + self.coins, "expenses", before, paid.state)
        return paid.version


@dataclass(frozen=True)
class Count:
    """Counts all coins: looks into all purses at once, or where the last one tells it to look next."""

    witness: Witness
    at_once: bool

    def __call__(self, tx: Transaction) -> int:
        if self.at_once:
            views = tx.read([purses(number) for number in range(PURSES)])
        else:
            first = tx.read(purses(0))
            start = first.state.coins + first.version
            views = tuple(tx.read(purses((start + step) % PURSES)) for step in range(PURSES))
        coins = [view.state.coins for view in views]
        self.witness.expect(sum(coins) == PURSES * COINS, "coins", coins)
        for number in range(PURSES):
            purse, income, expense = tx.read(purses(number), incomes(number), expenses(number))
            balance = COINS + income.state - expense.state
            self.witness.expect(purse.state.coins == balance, "balance", purse.state, income.state, expense.state)
            self.witness.expect(purse.version == max(income.version, expense.version), "version", number)
            self.witness.expect(purse.version == purse.state.payments, "payments", number)
        return sum(coins)


@dataclass(frozen=True)
class Hop:
    witness: Witness

    def __call__(self, tx: Transaction) -> int:
        left = tx.read(feet("left"))
        right = tx.read(feet("right"))
        self.witness.expect(left.state == right.state, "feet", left.state, right.state)
        tx.append(Hopped(), left, right)
        self.witness.expect(left.state == right.state, "feet after", left.state, right.state)
        return right.state


purse_numbers = st.integers(0, PURSES - 1)
command = st.one_of(
    st.tuples(st.just(Pay), purse_numbers, purse_numbers, st.integers(1, COINS + 5)),
    st.tuples(st.just(Count), st.booleans()),
    st.tuples(st.just(Hop)),
)
commands = st.integers(0, 32).flatmap(lambda count: st.lists(command, min_size=count, max_size=count))


@callers
@examples(1)
@given(commands=commands, sizes=cache_sizes, limits=limits)
def test_what_a_run_sees_was_there_at_one_moment(
    new_storage: NewStorage, execute_all: Run, commands: list[tuple[object, ...]], sizes: list[int], limits: Limits
) -> None:
    witness = Witness()
    with new_storage() as storage, limits.apply():
        made = [kind(witness, *given) for kind, *given in commands]  # type: ignore[operator]  # each is a class
        answers = execute_all(storage, sizes, made, [None] * len(made))

        assert witness.wrong == []
        errors = [answer.outcome for answer in answers if isinstance(answer.outcome, Exception)]
        assert all(isinstance(error, TooPoorError) for error in errors), errors
        with Store(storage) as store:
            assert {error.args for error in errors} <= set(_purses_that_were(store))
        hops = [_result(answer) for command, answer in zip(made, answers, strict=True) if isinstance(command, Hop)]
        assert sorted(hops) == list(range(1, len(hops) + 1)), "each hop follows on another one"


def _result(answer: Answer) -> int:
    assert not isinstance(answer.outcome, Exception)
    return int(answer.outcome.result)


def _purses_that_were(store: Store) -> Iterator[tuple[int, int]]:
    """Each purse, with each number of coins that was in it at some moment."""
    for number in range(PURSES):
        coins = COINS
        yield number, coins
        for recorded in store.events(purses(number)):
            coins += recorded.event.coins if isinstance(recorded.event, Earned) else -recorded.event.coins
            yield number, coins
