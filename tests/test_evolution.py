"""Event classes change: what their older versions have stored is read as events of today, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
import pydantic
import pytest

from factfold import (
    JSON,
    Context,
    DecodingError,
    DefinitionError,
    EncodingError,
    Handlers,
    Store,
    Transaction,
    event,
    stream,
    upcast,
)
from factfold.codec import event_type
from factfold.once import Executed
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.testing.contract.scribe import new
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.test_transforms import Rot13
from tests.wallets import HISTORY, PAID, TODAY, Emptied, Money, Paid, Wallet, pay, wallets, write

ENGINES = EVERY_ENGINE

SUM = Wallet(10, ("EUR", "EUR", "EUR", "CHF"))


# -- Every reader ------------------------------------------------------------------------------------------------------


def test_every_reader_gets_events_of_today(make_store: MakeStore, storage: Storage) -> None:
    write(storage, *HISTORY)
    store = make_store()
    ann = wallets("ann")

    assert store.state(ann) == SUM
    assert store.version(ann) == 4
    assert [each.event for each in store.events(ann)] == [*PAID]
    assert [each.event for each in store.events(ann, backwards=True)] == [*reversed(PAID)]
    assert [each.event for each in store.log(types=wallets)] == [*TODAY]
    assert [each.event for each in store.log(types=Paid)] == [*PAID]
    with store.subscribe(types=Paid, after=0) as by_type, store.subscribe(streams=ann, after=0) as by_stream:
        assert [each.event for each in islice(by_type, 4)] == [*PAID]
        assert [each.event for each in islice(by_stream, 4)] == [*PAID]
    assert store.verify(wallets).problems == ()


def test_an_event_under_its_old_name_is_part_of_the_boundary(make_store: MakeStore, storage: Storage) -> None:
    store = make_store()
    store.execute(pay, "ann", 7)
    write(storage, HISTORY[0])  # by a process that runs the former program still

    receipt = store.execute(pay, "ann", 1)

    assert (receipt.result, receipt.attempts) == (9, 2)


def test_what_is_appended_has_todays_name_and_version(make_store: MakeStore, storage: Storage) -> None:
    write(storage, *HISTORY)
    receipt = make_store().execute(pay, "ann", 5)

    (written,) = make_store().log(after=len(HISTORY))
    assert (written.type, written.stored.type_version) == ("wallet.paid", 3)
    assert written.event == {"amount": {"value": 5, "currency": "CHF"}, "note": ""}
    assert receipt.result == 15


# -- What is the same on every engine ----------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Memory:
    """A log that three versions of the program have written to."""
    memory = Memory()
    write(memory, *HISTORY)
    return memory


def test_handlers_get_events_of_today(memory: Memory) -> None:
    seen: list[object] = []
    handlers = Handlers()

    @handlers.on
    def _(event: Paid, context: Context) -> None:
        seen.append(event)

    with Store(memory) as store, store.subscribe(types=handlers, after=0) as subscription:
        for recorded in islice(subscription, 4):
            handlers.dispatch(recorded)
    assert seen == [*PAID]


def test_a_live_subscription_gets_what_older_programs_go_on_writing(memory: Memory) -> None:
    with Store(memory) as store, store.subscribe(types=wallets) as subscription:
        write(memory, HISTORY[1])
        assert next(subscription).event == PAID[1]


def test_a_recorded_event_tells_the_name_that_it_was_stored_under(memory: Memory) -> None:
    with Store(memory) as store:
        assert [each.type for each in store.events(wallets("ann"))] == ["Paid", "Paid", "wallet.paid", "wallet.paid"]


def test_a_repeated_execute_once_gives_the_events_as_they_are_today(memory: Memory) -> None:
    done = Executed(f"{__name__}.pay_once", "null", 1, ("tests.wallets.PaidThen",), (0,))
    marked = new("$once:key", type="$executed", data=msgspec.json.encode(done))
    write(memory, HISTORY[0], marked)

    with Store(memory) as store:
        receipt = store.execute_once("key", pay_once)
    assert receipt.repeated
    assert [each.event for each in receipt.events] == [PAID[0]]


def pay_once(tx: Transaction) -> None:
    raise AssertionError("it ran long ago")


def test_upcasters_come_after_the_transform() -> None:
    memory = Memory()
    sealed = [msgspec.structs.replace(one, data=Rot13().outgoing(one.data)) for one in HISTORY]
    write(memory, *sealed)
    with Store(memory, transform=Rot13()) as store:
        assert store.state(wallets("ann")) == SUM
        assert [each.event for each in store.log(types=Paid)] == [*PAID]
        assert store.verify(wallets).ok


def test_plain_json_is_given_as_it_is_stored(memory: Memory) -> None:
    with Store(memory) as store:
        assert next(store.log()).event == {"cents": 1, "clerk": "cid"}


def test_unknown_fields_are_left_out_and_missing_ones_are_errors() -> None:
    memory = Memory()
    known = new("wallet:ann", type="wallet.paid", type_version=3, data=b'{"amount":{"value":1,"currency":"CHF"},"x":1}')
    write(memory, known, new("wallet:ann", type="wallet.paid", type_version=3, data=b'{"amount":{"value":1}}'))
    with Store(memory) as store:
        events = store.events(wallets("ann"))
        assert next(events).event == Paid(Money(1, "CHF"))
        with pytest.raises(DecodingError, match=r"missing required field `currency`.*write an upcaster") as caught:
            next(events)
    assert (caught.value.position, caught.value.version) == (2, 2)


def test_large_numbers_come_through_upcasters_whole() -> None:
    memory = Memory()
    write(memory, new("wallet:ann", type="Paid", type_version=1, data=b'{"cents":%d}' % (10**30 + 1)))
    with Store(memory) as store:
        assert store.state(wallets("ann")).value == 10**30 + 1


def test_a_pydantic_model_has_upcasters_too() -> None:
    @event(version=2)
    class Noted(pydantic.BaseModel, frozen=True):
        text: str

    @upcast(Noted, 1)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        return {"text": data["words"]}

    assert event_type(Noted).read(b'{"words":"hello"}', 1) == Noted(text="hello")


def test_a_tagged_struct_that_is_renamed_keeps_its_tag_or_has_an_upcaster_for_it() -> None:
    @event(was=["Old"])
    class Kept(msgspec.Struct, frozen=True, tag="Old"):
        text: str

    @event(was=["Old"], version=2)
    class New(msgspec.Struct, frozen=True, tag=True, rename="upper"):
        text: str

    @upcast(New, 1)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        return {"type": "New", "TEXT": data["text"]}

    data = b'{"type":"Old","text":"hello"}'
    assert event_type(Kept).read(data, 1) == Kept("hello")
    assert event_type(New).read(data, 1) == New("hello")


def test_a_snapshot_that_knew_nothing_of_a_former_name_is_not_used() -> None:
    memory = Memory()

    def define(was: tuple[str, ...]) -> Any:
        @event(name="Put", was=was)
        @dataclass(frozen=True)
        class Put:
            amount: int

        @stream("box", initial=0, snapshot_every=100)
        def boxes(state: int, event: Put) -> int:
            return state + event.amount

        return boxes

    write(memory, new("box:a", type="Laid", data=b'{"amount":1}'), new("box:a", type="Put", data=b'{"amount":2}'))
    forgetful, knowing = define(()), define(("Laid",))
    with Store(memory) as store:
        store.snapshot(forgetful("a"))
        assert store.state(forgetful("a")) == 2
    with Store(memory) as store:
        assert store.state(knowing("a")) == 3
        assert store.stats().snapshots_refused == 1


def test_verify_tells_of_each_event_that_its_upcasters_fail_on(memory: Memory) -> None:
    write(memory, new("wallet:ann", type="Paid", type_version=1, data=b'{"euros":1}'))
    with Store(memory) as store:
        (problem,) = store.verify(wallets).problems
    assert "position 6" in problem
    assert "named_amount of Paid, from version 1 to 2, raised KeyError('cents')" in problem


def test_verify_knows_former_names() -> None:
    @stream("wallet", initial=0)
    def emptied(state: int, event: Emptied) -> int:
        return state + 1

    memory = Memory()
    write(memory, *HISTORY)
    with Store(memory) as store:
        problems = store.verify(emptied).problems
    assert len(problems) == 2
    assert any("2 event(s) of type 'Paid'" in one and "@event(was=['Paid'])" in one for one in problems)


def test_an_event_goes_through_its_upcasters_once_and_one_of_today_through_none() -> None:
    ran: list[str] = []

    @event(name="Ran", version=3)
    @dataclass(frozen=True)
    class Ran:
        metres: int

    @upcast(Ran, 1)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        ran.append("1 to 2")
        return data

    @upcast(Ran, 2)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        ran.append("2 to 3")
        return data

    @stream("runner", initial=0)
    def runners(state: int, event: Ran) -> int:
        return state + event.metres

    memory = Memory()
    write(memory, *[new("runner:a", type="Ran", type_version=each, data=b'{"metres":1}') for each in (1, 2, 3)])
    with Store(memory) as store:
        assert store.state(runners("a")) == store.state(runners("a")) == 3  # the second time out of the cache
    assert ran == ["1 to 2", "2 to 3", "2 to 3"]


# -- Several programs at a time ----------------------------------------------------------------------------------------


def program(name: str, was: tuple[str, ...] = (), version: int = 1) -> Callable[[Store], int]:
    """A program of its own: a command that adds 1 to a tally and gives what it has come to."""

    @event(name=name, was=was, version=version)
    @dataclass(frozen=True)
    class Added:
        pass

    for step in range(1, version):
        upcast(Added, step)(lambda data: data)

    @stream("tally", initial=0)
    def tallies(state: int, event: Added) -> int:
        return state + 1

    def add(tx: Transaction) -> int:
        tally = tx.read(tallies("a"))
        tally.append(Added())
        return tally.state

    return lambda store: store.execute(add).result


def test_a_name_that_is_changed_in_two_deployments_is_known_to_all_at_any_time() -> None:
    prepared, renamed = program("Added", ("tally.added",)), program("tally.added", ("Added",))
    memory = Memory()
    with Store(memory) as one, Store(memory) as another:
        assert [prepared(one), renamed(another), prepared(one), renamed(another)] == [1, 2, 3, 4]
        assert [recorded.type for recorded in one.log()] == ["Added", "tally.added", "Added", "tally.added"]


def test_a_program_that_meets_a_newer_version_decides_nothing() -> None:
    before, after = program("Added"), program("Added", version=2)
    memory = Memory()
    with Store(memory) as one, Store(memory) as another:
        assert [before(one), after(another)] == [1, 2]
        with pytest.raises(DecodingError, match=r"tally:a, version 2, position 2: .*Deploy readers first"):
            before(one)  # on what it has cached, which ends before the new event
        assert one.head() == 2
        assert after(another) == 3


# -- Two classes for one name ------------------------------------------------------------------------------------------


def test_a_class_of_another_category_that_has_the_old_name_is_left_alone(memory: Memory) -> None:
    @event(name="Paid")
    @dataclass(frozen=True)
    class PaidOff:
        loan: str

    @stream("loan", initial="")
    def loans(state: str, event: PaidOff) -> str:
        return event.loan

    write(memory, new("loan:a", type="Paid", data=b'{"loan":"a"}'))
    with Store(memory) as store:
        assert [each.event for each in store.log(types=Paid)] == [*PAID]
        assert [each.event for each in store.log(types=loans)] == [PaidOff("a")]


def define_rivals() -> tuple[Any, Any]:
    """Two folds of one category, of which one looks at the event in its first version still."""

    @event(name="moved")
    @dataclass(frozen=True)
    class Moved:
        steps: int

    @event(name="moved", version=2)
    @dataclass(frozen=True)
    class MovedFar:
        metres: int

    @upcast(MovedFar, 1)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        steps = data["steps"]
        assert isinstance(steps, int)
        return {"metres": 2 * steps}

    @stream("robot", initial=0)
    def steps(state: int, event: Moved) -> int:
        return state + event.steps

    @stream("robot", initial=0)
    def metres(state: int, event: MovedFar) -> int:
        return state + event.metres

    return (steps, Moved), (metres, MovedFar)


def test_a_fold_beside_it_reads_what_an_older_version_appends_and_refuses_what_a_newer_one_does() -> None:
    (steps, old), (metres, far) = define_rivals()

    def walk(tx: Transaction) -> object:
        mine, other = tx.read(steps("a"), metres("a"))
        mine.append(old(3))
        return other.state

    with Store(Memory()) as store:
        assert store.execute(walk).result == 6
        assert store.state(metres("a")) == 6
        with pytest.raises(EncodingError, match=r"reads as .*Moved, and that class refuses it: .*Deploy readers first"):
            store.execute(lambda tx: tx.read(metres("a")).append(far(1)))
        assert store.head() == 1


@event(name="Gone", was=["Lost"])
@dataclass(frozen=True)
class Gone:
    pass


@event(name="Lost")
@dataclass(frozen=True)
class Lost:
    pass


@event(name="Missing", was=["Lost"])
@dataclass(frozen=True)
class Missing:
    pass


def test_two_classes_that_claim_one_name_are_refused() -> None:
    handlers = Handlers()

    @handlers.on
    def _(event: Gone, context: Context) -> None: ...

    with pytest.raises(DefinitionError, match="both stand for 'Lost'"):

        @handlers.on
        def _(event: Missing, context: Context) -> None: ...

    with pytest.raises(DefinitionError, match="both stand for 'Lost'"):

        @Handlers().on
        def _(event: Gone | Missing, context: Context) -> None: ...

    with pytest.raises(DefinitionError, match="both stand for 'Lost'"):

        @stream("thing", initial=0)
        def _one(state: int, event: Gone | Missing) -> int:
            return state

    with pytest.raises(DefinitionError, match="both stand for 'Lost'"):

        @stream("thing", initial=0)
        def _two(state: int, event: Lost | Gone) -> int:
            return state

    with Store(Memory()) as store, pytest.raises(ValueError, match="both stand for 'Lost'"):
        store.log(types=Gone | Missing)
