"""What fails in a batch fails its own callers: what a storage refuses, what a fold raises, a storage that is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from factfold import (
    AppendRefusedError,
    ConflictError,
    EncodingError,
    LockLostError,
    LogDivergedError,
    OutcomeUnknownError,
    Receipt,
    Retry,
    StorageError,
    StorageFullError,
    Store,
    StoreUnavailableError,
    Transaction,
    stream,
)
from factfold.events import uuid7
from factfold.storage.base import Append
from tests.conftest import MakeStore
from tests.faults import once, raising
from tests.ledger import (
    Deposited,
    InsufficientFundsError,
    Opened,
    accounts,
    balance,
    deposit,
    open_account,
    transfer,
    withdraw,
)
from tests.together import Call, MakeTogether, Together, results


@dataclass(frozen=True)
class Strict:
    total: int = 0


@stream("ledger", initial=Strict())
def strict(state: Strict, event: Deposited) -> Strict:
    if event.amount == 13:
        raise LookupError("this fold does not like 13")
    return Strict(state.total + event.amount)


def refusing(*amounts: int) -> Callable[[object], None]:
    """A hook before an append that refuses deposits of these amounts."""

    def hook(asked: object) -> None:
        assert isinstance(asked, Append)
        if any(f'"amount":{amount}}}'.encode() in event.data for event in asked.events for amount in amounts):
            raise AppendRefusedError("the storage does not like this amount")

    return hook


@pytest.mark.parametrize("poison", [[0], [3], [7], [2, 5], [0, 1, 2, 3], list(range(8))])
def test_a_payload_that_the_storage_refuses_fails_its_own_command_only(together: Together, poison: list[int]) -> None:
    for number in range(8):
        together.store.state(accounts(str(number)))
    amounts = [1000 + number for number in range(8)]
    together.faulty.before["append"] = refusing(*(amounts[number] for number in poison))

    outcomes = together.execute(*[(deposit, str(number), amounts[number]) for number in range(8)])

    for number, outcome in enumerate(outcomes):
        if number in poison:
            assert isinstance(outcome, AppendRefusedError)
        else:
            assert isinstance(outcome, Receipt)
            assert outcome.result == amounts[number]
            assert outcome.attempts == 1
    found = [together.store.state(accounts(str(number))).balance for number in range(8)]
    assert found == [0 if number in poison else amounts[number] for number in range(8)]
    assert together.store.head() == 8 - len(poison)


def test_who_decided_on_what_was_refused_decides_again(together: Together) -> None:
    together.store.execute(deposit, "ann", 1)
    together.faulty.before["append"] = refusing(1000)

    outcomes = together.execute(
        (withdraw, "ann", 500), (deposit, "ann", 1000), (withdraw, "ann", 500), (balance, "ann"), (deposit, "ann", 2)
    )

    assert results(outcomes) == [InsufficientFundsError, AppendRefusedError, InsufficientFundsError, 1, 3]
    assert together.store.state(accounts("ann")).balance == 3


def test_a_storage_that_is_full_tells_every_writer_and_disturbs_no_reader(together: Together) -> None:
    together.store.execute(deposit, "ann", 5)
    together.faulty.before["append"] = raising(StorageFullError("full"))

    outcomes = together.execute((deposit, "ann", 1), (balance, "ann"), (withdraw, "ann", 9), (deposit, "ann", 2))

    assert results(outcomes) == [StorageFullError, 5, InsufficientFundsError, StorageFullError]
    del together.faulty.before["append"]
    assert together.store.execute(deposit, "ann", 1).result == 6


def test_a_fold_that_raises_fails_only_the_commands_that_read_it(together: Together, rival: Store) -> None:
    rival.execute(deposit, "ann", 13)
    together.store.state(accounts("ann"))

    def read_strict(tx: Transaction) -> Strict:
        return tx.read(strict("ann")).state

    outcomes = together.execute((deposit, "ann", 1), (read_strict,), (read_strict,), (deposit, "ann", 2))

    assert results(outcomes) == [14, LookupError, LookupError, 16]
    with pytest.raises(LookupError):
        together.store.state(strict("ann"))
    assert together.store.execute(deposit, "ben", 1).result == 1


def test_a_fold_that_raises_on_what_the_batch_appended_fails_only_the_commands_that_read_it(
    together: Together,
) -> None:
    together.store.state(accounts("ann"))
    together.store.state(strict("ann"))

    def read_strict(tx: Transaction) -> Strict:
        return tx.read(strict("ann")).state

    outcomes = together.execute(
        (deposit, "ann", 1), (read_strict,), (deposit, "ann", 13), (read_strict,), (balance, "ann")
    )

    assert results(outcomes) == [1, Strict(1), 14, LookupError, 14]
    with pytest.raises(LookupError):
        together.store.state(strict("ann"))
    assert together.store.state(accounts("ann")).balance == 14


def test_a_cached_fold_that_raises_on_what_others_wrote_fails_only_those_that_read_it(
    together: Together, rival: Store
) -> None:
    together.store.state(accounts("ann"))
    together.store.state(strict("ann"))

    outcomes = together.execute(
        (deposit, "ann", 1), (balance, "ann"), meanwhile=lambda: rival.execute(deposit, "ann", 13)
    )

    assert results(outcomes) == [14, 14]
    with pytest.raises(LookupError):
        together.store.state(strict("ann"))


def test_a_transform_that_fails_on_an_event_fails_its_own_command_only(make_together: MakeTogether) -> None:
    class Picky:
        def outgoing(self, data: bytes) -> bytes:
            if b"13" in data:
                raise ArithmeticError("not this one")
            return data

        def incoming(self, data: bytes) -> bytes:
            return data

    together = make_together(transform=Picky())
    together.store.state(accounts("ann"))

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ann", 13), (deposit, "ann", 2))

    assert results(outcomes) == [1, EncodingError, 3]


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), StorageError("odd"), RuntimeError("a bug")])
@pytest.mark.parametrize("method", ["append", "check", "lock", "load", "head"])
def test_when_the_storage_fails_everybody_is_told_and_the_store_goes_on(
    together: Together, rival: Store, method: str, error: Exception
) -> None:
    together.store.execute(deposit, "ann", 1)
    together.store.state(accounts("ben"))
    together.faulty.before[method] = raising(error)

    def meanwhile() -> None:
        if method == "lock":
            rival.execute(deposit, "ann", 1)  # so that it is needed
        if method == "head":
            together.heart.abandon()  # as if a leader had been interrupted

    calls: dict[str, list[Call]] = {
        "load": [(deposit, "cold", 1), (balance, "colder")],
        "check": [(balance, "ann"), (balance, "ben")],
    }
    writers: list[Call] = [(deposit, "ann", 1), (deposit, "ben", 1)]
    outcomes = together.execute(*calls.get(method, writers), meanwhile=meanwhile)

    assert results(outcomes) == [type(error)] * 2
    del together.faulty.before[method]
    before = rival.state(accounts("ann")).balance
    assert together.store.execute(deposit, "ann", 1).result == before + 1
    assert together.store.execute(deposit, "cold", 1).result == 1
    assert together.store.verify(accounts).ok


def test_a_storage_that_fails_to_append_disturbs_no_reader(together: Together) -> None:
    together.store.execute(deposit, "ann", 5)
    together.faulty.before["append"] = raising(StoreUnavailableError("locked for too long"))

    outcomes = together.execute((deposit, "ann", 1), (balance, "ann"), (withdraw, "ann", 7))

    assert results(outcomes) == [StoreUnavailableError, 5, InsufficientFundsError]


@pytest.mark.parametrize("method", ["append", "check", "load"])
def test_when_the_log_went_backwards_what_was_cached_is_dropped(together: Together, method: str) -> None:
    together.store.execute(deposit, "ann", 1)
    together.faulty.before[method] = once(raising(LogDivergedError("here", 1, uuid7(), None)))
    command = {"append": deposit, "check": balance, "load": deposit}[method]

    with pytest.raises(LogDivergedError, match="went backwards"):
        together.store.execute(command, "cold" if method == "load" else "ann", *([1] if command is deposit else []))

    loads = together.store.stats().loads
    assert together.store.execute(deposit, "ann", 1).result == 2
    assert together.store.stats().loads > loads  # from the log


def test_a_storage_that_never_comes_back_does_not_keep_a_reader_waiting(together: Together) -> None:
    together.store.execute(deposit, "ann", 5)
    together.faulty.before["check"] = raising(StoreUnavailableError("gone"))

    with pytest.raises(StoreUnavailableError, match="gone"):
        together.store.execute(balance, "ann")


def test_conflicts_that_exhaust_the_attempts_fail_the_writers_and_not_the_readers(
    make_together: MakeTogether, rival: Store
) -> None:
    together = make_together(retry=Retry(max_attempts=1))
    together.store.execute(deposit, "ann", 1)

    outcomes = together.execute(
        (deposit, "ann", 1), (balance, "ann"), meanwhile=lambda: rival.execute(deposit, "ann", 1)
    )

    assert results(outcomes) == [ConflictError, 2]


def test_who_has_lost_is_told_on_which_streams_and_who_has_not_is_written(
    make_together: MakeTogether, rival: Store
) -> None:
    together = make_together(retry=Retry(max_attempts=1))
    for id in ("ann", "ben", "eve", "zoe"):
        together.store.state(accounts(id))

    def strangers() -> None:
        rival.execute(deposit, "ann", 1)
        rival.execute(deposit, "ben", 1)

    outcomes = together.execute(
        (deposit, "ann", 1), (transfer, "zoe", "ben", 0), (deposit, "eve", 1), (balance, "ann"), meanwhile=strangers
    )

    assert results(outcomes)[0::2] == [ConflictError, 1]
    assert results(outcomes)[1::2] == [ConflictError, 1]
    assert [each.streams for each in outcomes if isinstance(each, ConflictError)] == [("ledger:ann",), ("ledger:ben",)]
    assert rival.state(accounts("eve")).balance == 1


def test_what_only_a_reader_has_lost_fails_no_writer(make_together: MakeTogether, rival: Store) -> None:
    together = make_together(retry=Retry(max_attempts=1))
    for id in ("ann", "eve"):
        together.store.state(accounts(id))

    outcomes = together.execute(
        (deposit, "eve", 1), (balance, "ann"), meanwhile=lambda: rival.execute(deposit, "ann", 1)
    )

    assert results(outcomes) == [1, 1]


def test_a_last_append_that_is_found_not_to_have_happened_is_no_conflict(
    make_together: MakeTogether, rival: Store
) -> None:
    together = make_together(retry=Retry(max_attempts=1))
    together.store.state(accounts("ann"))
    reason = OutcomeUnknownError("the connection broke")
    together.faulty.before["append"] = once(raising(reason))

    (outcome,) = together.execute((deposit, "ann", 1))

    assert isinstance(outcome, StoreUnavailableError)
    assert "the connection broke" in str(outcome) and "nothing of it was written" in str(outcome)
    assert outcome.__cause__ is reason
    assert together.store.stats().conflicts == 0
    assert rival.head() == 0
    assert together.store.execute(deposit, "ann", 1).result == 1


def test_a_last_append_that_lost_its_lock_says_so(make_together: MakeTogether, rival: Store) -> None:
    together = make_together(retry=Retry(max_attempts=1))
    together.store.state(accounts("ann"))
    together.faulty.before["append"] = once(raising(LockLostError("the lock was taken away")))

    with pytest.raises(LockLostError, match="taken away"):
        together.store.execute(deposit, "ann", 1)
    assert rival.head() == 0


def test_a_store_counts_what_it_does(make_store: MakeStore) -> None:
    store = make_store()
    assert store.stats().commands == 0
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 1)
    with pytest.raises(InsufficientFundsError):
        store.execute(withdraw, "ann", 5)

    stats = store.stats()
    assert (stats.commands, stats.conflicts, stats.loads, stats.cached) == (3, 0, 1, 1)
    assert stats.attempts == stats.batches >= 3
    assert Opened in accounts.event_types
