"""An append whose outcome is not known is resolved before anybody is told: it happened once, or never will."""

from __future__ import annotations

import pytest

from factfold import (
    AppendRefusedError,
    OutcomeUnknownError,
    Receipt,
    Retry,
    StorageFullError,
    Store,
    StoreUnavailableError,
)
from factfold.storage.base import Append, Log
from tests.engines import EVERY_ENGINE
from tests.faults import once, raising
from tests.interrupting import check_all_is_well, warm
from tests.ledger import InsufficientFundsError, balance, deposit, withdraw
from tests.together import MakeTogether, Together, results

ENGINES = EVERY_ENGINE

LOST = OutcomeUnknownError("the connection broke")


def test_an_append_that_happened_is_answered_as_if_nothing_had_been(together: Together, rival: Store) -> None:
    warm(together.store)
    together.faulty.after["append"] = once(raising(LOST))

    outcomes = together.execute((deposit, "ann", 1), (withdraw, "ben", 5), (deposit, "ann", 2), (balance, "ann"))

    assert results(outcomes) == [1, InsufficientFundsError, 3, 3]
    first, _, third, _ = outcomes
    assert isinstance(first, Receipt) and isinstance(third, Receipt)
    assert list(rival.log()) and [each.position for each in (*first.events, *third.events)] == [1, 2]
    assert third.attempts == 1
    check_all_is_well(together.store, rival, ann=3)


def test_an_append_that_happened_while_others_wrote_is_found_where_it_stands(together: Together, rival: Store) -> None:
    warm(together.store)

    def break_then_write(_: object) -> None:
        rival.execute(deposit, "ann", 100)
        raise LOST

    together.faulty.before["append"] = once(lambda _: rival.execute(deposit, "other", 1))
    together.faulty.after["append"] = once(break_then_write)

    (outcome,) = together.execute((deposit, "ann", 1))

    assert isinstance(outcome, Receipt)
    assert (outcome.result, outcome.position) == (1, 2)
    check_all_is_well(together.store, rival, ann=101, other=1)


def test_an_append_that_did_not_happen_is_decided_again(together: Together, rival: Store) -> None:
    warm(together.store)
    together.faulty.before["append"] = once(raising(LOST))

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ann", 2))

    assert results(outcomes) == [1, 3]
    assert all(isinstance(each, Receipt) and each.attempts == 2 for each in outcomes)
    check_all_is_well(together.store, rival, ann=3)


def test_an_append_that_was_resolved_as_not_happened_never_happens(together: Together, rival: Store) -> None:
    warm(together.store)
    sent: list[Append] = []

    def lose(asked: object) -> None:
        assert isinstance(asked, Append)
        sent.append(asked)
        raise LOST

    together.faulty.before["append"] = once(lose)
    together.store.execute(deposit, "ann", 1)

    late: Log = together.faulty.open().log("default")
    with pytest.raises(AppendRefusedError, match="void"):
        late.append(sent[0])
    check_all_is_well(together.store, rival, ann=1)


@pytest.mark.parametrize("happened", [False, True])
def test_a_storage_that_cannot_be_asked_at_first_is_asked_again(
    make_together: MakeTogether, rival: Store, happened: bool
) -> None:
    together = make_together(retry=Retry(max_attempts=4, base=0.0))
    warm(together.store)
    hooks = together.faulty.after if happened else together.faulty.before
    hooks["append"] = once(raising(LOST))
    failures = [StoreUnavailableError("still gone"), StorageFullError("no room for a note"), LOST]

    def fail(_: object) -> None:
        if failures:
            raise failures.pop()

    together.faulty.before["resolve"] = fail

    assert results(together.execute((deposit, "ann", 1), (deposit, "ben", 1))) == [1, 1]
    assert together.faulty.calls["resolve"] == 4
    check_all_is_well(together.store, rival, ann=1, ben=1)


@pytest.mark.parametrize("reason", [StoreUnavailableError("gone"), StorageFullError("no room for a note")])
@pytest.mark.parametrize("happened", [False, True])
def test_where_a_storage_cannot_be_asked_at_all_the_outcome_is_reported_as_unknown(
    make_together: MakeTogether, rival: Store, happened: bool, reason: Exception
) -> None:
    together = make_together(retry=Retry(max_attempts=3, base=0.0))
    warm(together.store)
    hooks = together.faulty.after if happened else together.faulty.before
    hooks["append"] = once(raising(LOST))
    together.faulty.before["resolve"] = raising(reason)

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ben", 1))

    assert results(outcomes) == [OutcomeUnknownError, OutcomeUnknownError]
    assert together.faulty.calls["resolve"] == 3
    assert all(isinstance(each, BaseException) and each.__cause__ is reason for each in outcomes)
    check_all_is_well(together.store, rival, ann=int(happened), ben=int(happened))


@pytest.mark.parametrize("happened", [False, True])
def test_what_a_storage_did_not_foresee_is_resolved_too(together: Together, rival: Store, happened: bool) -> None:
    warm(together.store)
    hooks = together.faulty.after if happened else together.faulty.before
    hooks["append"] = once(raising(ZeroDivisionError("a bug of the driver")))

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ben", 1))

    assert results(outcomes) == ([1, 1] if happened else [ZeroDivisionError] * 2)
    check_all_is_well(together.store, rival, ann=int(happened), ben=int(happened))


def test_the_append_under_the_lock_is_resolved_too(together: Together, rival: Store) -> None:
    warm(together.store)

    def disturb(_: object) -> None:
        rival.execute(deposit, "ann", 10)
        together.faulty.after["append"] = raising(LOST)
        together.faulty.after["resolve"] = lambda _: together.faulty.after.pop("append")

    def conflict_only(answer: object) -> None:
        """The first append is a conflict, and its answer comes."""

    together.faulty.before["append"] = once(disturb)
    together.faulty.after["lock"] = conflict_only

    assert results(together.execute((deposit, "ann", 1), (deposit, "ben", 1))) == [11, 1]
    check_all_is_well(together.store, rival, ann=11, ben=1)
