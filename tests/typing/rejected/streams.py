"""Stream types, stream ids and events that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from factfold import RecordedEvent, Stream, StreamType, event, metadata, stream
from tests.typing.domain import Account, Deposited, Opened, accounts, courses

# -- Folds -------------------------------------------------------------------------------------------------------------


def number(state: int, event: Deposited) -> int:
    return state + event.amount


def forgets_the_state(event: Deposited) -> int:
    return event.amount


def takes_a_number(state: int, event: Deposited, id: int) -> int:
    return state + event.amount + id


def takes_too_much(state: int, event: Deposited, id: str, more: str) -> int:
    return state + event.amount


def becomes_something_else(state: int, event: Deposited) -> str:
    return str(state + event.amount)


numbers = stream("number", initial=0)(number)
texts = stream("text", initial="none")(number)  # type: ignore[call-overload]
none = stream("none", initial=None)(number)  # type: ignore[call-overload]
one_parameter = stream("one", initial=0)(forgets_the_state)  # type: ignore[call-overload]
wrong_id = stream("id", initial=0)(takes_a_number)  # type: ignore[call-overload]
four_parameters = stream("four", initial=0)(takes_too_much)  # type: ignore[call-overload]
other_state = stream("other", initial=0)(becomes_something_else)  # type: ignore[call-overload]
no_initial = stream("no_initial")  # type: ignore[call-arg,var-annotated]
no_category = stream(initial=0)  # type: ignore[call-arg]
positional_initial = stream("positional", 0)  # type: ignore[call-arg]
snapshots_sometimes = stream("sometimes", initial=0, snapshot_every="often")  # type: ignore[arg-type]

# -- Streams -----------------------------------------------------------------------------------------------------------

accounts("alice", 7)
accounts(1.5)  # type: ignore[arg-type]
accounts(None)  # type: ignore[arg-type]
accounts(b"alice")  # type: ignore[arg-type]
accounts(("alice", 7))  # type: ignore[arg-type]
accounts("alice").id = "account:bob"  # type: ignore[misc]
accounts.initial = Account()  # type: ignore[misc]

of_another_state: Stream[int, Opened | Deposited] = accounts("alice")  # type: ignore[assignment]
of_more_events: Stream[Account, Opened | Deposited | int] = accounts("alice")  # type: ignore[assignment]
of_another_type: StreamType[Account, Opened] = accounts  # type: ignore[assignment]
accounts.of(Opened("ann"))  # type: ignore[arg-type]

# -- Events ------------------------------------------------------------------------------------------------------------

event("account.opened")  # type: ignore[arg-type]
event(name=Opened)  # type: ignore[arg-type]
event(version="2")  # type: ignore[arg-type]
event(streams=(accounts, courses))  # type: ignore[arg-type]


def an_event_is_not_changed(recorded: RecordedEvent[Deposited]) -> None:
    recorded.event.amount = 1_000_000  # type: ignore[misc]
    recorded.position = 1  # type: ignore[misc]
    opened: RecordedEvent[Opened] = recorded  # type: ignore[assignment]
    print(opened, recorded.event.owner)  # type: ignore[attr-defined]


def nothing_else_is_metadata() -> None:
    with metadata(actor=7):  # type: ignore[arg-type]
        pass
    with metadata(extra={"accounts": accounts}):  # type: ignore[dict-item]
        pass
    with metadata(user="ann"):  # type: ignore[call-arg]
        pass
