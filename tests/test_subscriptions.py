"""Subscriptions: what is there and then what comes, each event once and in order, whoever writes it."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest

from factfold import (
    Context,
    DecodingError,
    DefinitionError,
    Handlers,
    InvalidStreamIdError,
    LogDivergedError,
    RecordedEvent,
    Retry,
    Store,
    StoreClosedError,
    StoreUnavailableError,
    event,
    feed,
    hub,
    stream,
)
from factfold.storage.base import Append, Check, NewEvent, Storage
from factfold.storage.memory import Memory
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import Faulty, once, raising
from tests.ledger import (
    Deposited,
    Opened,
    Transferred,
    Withdrawn,
    accounts,
    deposit,
    open_account,
    owners,
    transfer,
    withdraw,
)
from tests.racing import eventually, start

ENGINES = EVERY_ENGINE


def take(subscription: Iterable[RecordedEvent[Any]], count: int) -> list[RecordedEvent[Any]]:
    """The next events, provided that they come in time."""
    iterator = iter(subscription)
    return start(lambda: list(islice(iterator, count))).result()


def positions(recorded: Iterable[RecordedEvent[Any]]) -> list[int]:
    return [each.position for each in recorded]


# -- What is handed over -----------------------------------------------------------------------------------------------


def test_first_comes_what_is_there_then_what_comes(store: Store, other: Store) -> None:
    for _ in range(3):
        store.execute(deposit, "ann")
        other.execute(deposit, "bob")
    with store.subscribe(types=accounts, after=0) as subscription:
        assert positions(take(subscription, 6)) == [1, 2, 3, 4, 5, 6]
        store.execute(deposit, "ann")
        other.execute(deposit, "bob")
        assert positions(take(subscription, 2)) == [7, 8]


def test_by_default_it_begins_with_what_comes(store: Store, other: Store) -> None:
    store.execute(deposit, "ann")
    other.execute(deposit, "ann")
    with store.subscribe(types=accounts) as subscription:
        other.execute(deposit, "bob", 7)
        store.execute(deposit, "ann", 8)
        assert [(each.position, each.event) for each in take(subscription, 2)] == [(3, Deposited(7)), (4, Deposited(8))]


def test_it_begins_after_a_position(store: Store) -> None:
    for _ in range(5):
        store.execute(deposit, "ann")
    with store.subscribe(after=3) as subscription:
        assert positions(take(subscription, 2)) == [4, 5]
        store.execute(deposit, "ann")
        assert positions(take(subscription, 1)) == [6]


def test_an_event_is_handed_over_as_it_stands_in_the_log(store: Store) -> None:
    with store.subscribe(types=accounts) as subscription:
        receipt = store.execute(open_account, "ann", "Ann")
        (recorded,) = take(subscription, 1)
    assert recorded == receipt.events[0] == next(iter(store.log(types=accounts)))


def test_own_commits_are_handed_over_from_memory(storage: Storage, make_store: MakeStore) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty)
    store.execute(deposit, "ann")
    with store.subscribe(types=accounts) as subscription:
        store.execute(deposit, "ann")
        assert positions(take(subscription, 1)) == [2]
        faulty.before["read"] = raising(AssertionError("nothing has to be read"))
        for number in range(20):
            store.execute(deposit, "ann")
            assert positions(take(subscription, 1)) == [3 + number]


def test_the_events_of_the_library_itself_are_left_out(store: Store) -> None:
    with store.subscribe() as subscription:
        store.execute_once("key", deposit, "ann")
        store.execute(deposit, "ann")
        assert [each.type for each in take(subscription, 2)] == ["Deposited", "Deposited"]


def test_a_position_is_kept_over_what_is_not_wanted(store: Store) -> None:
    with store.subscribe(types=Opened, after=0) as subscription:
        store.execute(open_account, "ann", "Ann")
        assert positions(take(subscription, 1)) == [1]
        assert subscription.position == 1
        for _ in range(5):
            store.execute(deposit, "ann")
        store.execute(open_account, "bob", "Bob")
        assert positions(take(subscription, 1)) == [7]
        assert subscription.position == 7


# -- Filters -----------------------------------------------------------------------------------------------------------


@stream("other", initial=0)
def others(state: int, event: Deposited) -> int:
    return state + 1


def deposit_elsewhere(tx: Any) -> None:
    tx.read(others("x")).append(Deposited(100))


def write_all_sorts(store: Store) -> None:
    """Eight events, of two categories; the fifth is one of ann and bob."""
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 10)
    store.execute(open_account, "bob", "Bob")
    store.execute(deposit_elsewhere)
    store.execute(transfer, "ann", "bob", 3)
    store.execute(withdraw, "ann", 1)
    store.execute(deposit, "bob", 5)
    store.execute(open_account, "end", "End")


FILTERS: list[tuple[dict[str, Any], list[int], type | None]] = [
    ({}, [1, 2, 3, 4, 5, 6, 7, 8], None),
    ({"types": Deposited}, [2, 4, 7], Deposited),
    ({"types": Deposited | Withdrawn}, [2, 4, 6, 7], None),
    ({"types": Deposited, "category": "other"}, [4], Deposited),
    ({"types": accounts}, [1, 2, 3, 5, 6, 7, 8], None),
    ({"types": owners}, [1, 3, 8], Opened),
    ({"category": "other"}, [4], None),
    ({"category": "ledger"}, [1, 2, 3, 5, 6, 7, 8], None),
    ({"streams": accounts("bob")}, [3, 5, 7], None),
    ({"streams": [accounts("bob"), others("x")]}, [3, 4, 5, 7], None),
    ({"streams": [owners("bob")]}, [3], Opened),
    ({"streams": [owners("bob"), accounts("ann")]}, [1, 2, 3, 5, 6], None),
    ({"streams": [accounts("bob")], "types": Transferred}, [5], Transferred),
]


@pytest.mark.parametrize("live", [True, False], ids=["live", "catching up"])
@pytest.mark.parametrize("paged", [True, False], ids=["paged", "told"])
@pytest.mark.parametrize(("arguments", "expected", "cls"), FILTERS, ids=lambda value: str(value)[:40])
def test_only_what_is_wanted_comes(
    make_store: MakeStore,
    arguments: dict[str, Any],
    expected: list[int],
    cls: type | None,
    live: bool,
    paged: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = make_store()
    if paged:
        monkeypatch.setattr(feed, "FIRST_PAGE", 2)
        limit_news(monkeypatch, 1)
    if live:
        subscription = store.subscribe(**arguments, after=0)
        write_all_sorts(store)
    else:
        write_all_sorts(make_store())
        subscription = store.subscribe(**arguments, after=0)
    found = take(subscription, len(expected))
    assert positions(found) == expected
    if cls is not None:
        assert {type(each.event) for each in found} == {cls}
    if not arguments or arguments.keys() == {"category"}:
        assert {type(each.event) for each in found} == {dict}
    subscription.close()


def test_what_another_category_stores_under_the_same_name_does_not_come(store: Store) -> None:
    @event(name="Deposited")
    @dataclass(frozen=True)
    class Sediment:
        layer: str

    @stream("river", initial=0)
    def rivers(state: int, event: Sediment) -> int:
        return state + 1

    def settle(tx: Any) -> None:
        tx.read(rivers("rhine")).append(Sediment("sand"))

    with store.subscribe(types=Deposited) as money, store.subscribe(types=rivers) as mud:
        store.execute(settle)
        store.execute(deposit, "ann", 5)
        store.execute(settle)
        assert [each.event for each in take(money, 1)] == [Deposited(5)]
        assert [each.event for each in take(mud, 2)] == [Sediment("sand"), Sediment("sand")]


def limit_news(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Answers tell no more of what others appended."""
    for name, module in list(sys.modules.items()):
        if name.startswith("factfold.storage") and hasattr(module, "NEWS_LIMIT"):
            monkeypatch.setattr(module, "NEWS_LIMIT", limit)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"streams": "account:ann"}, TypeError),
        ({"streams": accounts}, TypeError),
        ({"streams": [accounts("ann"), 5]}, TypeError),
        ({"streams": []}, ValueError),
        ({"category": "No!"}, InvalidStreamIdError),
        ({"types": "Deposited"}, DefinitionError),
        ({"after": -1}, ValueError),
        ({"after": "tail"}, ValueError),
        ({"after": None}, ValueError),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(store: Store, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        store.subscribe(**arguments)


# -- Slow consumers ----------------------------------------------------------------------------------------------------


def test_a_slow_consumer_misses_nothing_and_grows_no_memory(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RING_EVENTS", 20)
    monkeypatch.setattr(hub, "CHUNK", 4)
    with store.subscribe(types=accounts) as slow, store.subscribe(types=accounts) as quick:
        for number in range(100):
            (store if number % 3 else other).execute(deposit, "ann")
            if number % 10 == 9:
                assert len(take(quick, 10)) == 10
                assert ring_of(store) <= 21
        assert positions(take(slow, 100)) == list(range(1, 101))
        store.execute(deposit, "ann")
        assert positions(take(slow, 1)) == positions(take(quick, 1)) == [101]


def ring_of(store: Any) -> int:
    """How many events the hub of a store holds."""
    heart = getattr(store, "_store", store)._heart
    return len(heart.cache.hub._ring[1])


def test_what_is_large_does_not_stay_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "RING_BYTES", 1000)
    with store.subscribe(types=accounts) as subscription:
        for _ in range(10):
            store.execute(open_account, "ann", "x" * 300)
            assert ring_of(store) <= 3
        store.execute(open_account, "ann", "x" * 3000)
        assert ring_of(store) == 0
        assert positions(take(subscription, 11)) == list(range(1, 12))


def test_what_is_committed_while_nobody_subscribes_is_neither_kept_nor_missed(store: Store) -> None:
    store.execute(deposit, "ann")
    with store.subscribe(types=accounts) as subscription:
        store.execute(deposit, "ann")
        take(subscription, 1)
        assert ring_of(store) >= 1
    eventually(lambda: store.head() and not hub_of(store).active)
    store.execute(deposit, "ann")
    assert hub_of(store)._ring is None
    with store.subscribe(types=accounts, after=subscription.position) as subscription:
        assert positions(take(subscription, 1)) == [3]
        store.execute(deposit, "ann")
        assert positions(take(subscription, 1)) == [4]


def hub_of(store: Any) -> hub.Hub:
    found = getattr(store, "_store", store)._heart.cache.hub
    assert isinstance(found, hub.Hub)
    return found


def test_the_larger_events_are_the_fewer_are_read_at_once(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_news(monkeypatch, 1)
    monkeypatch.setattr(feed, "FIRST_PAGE", 4)
    monkeypatch.setattr("factfold.reading.PAGE_BYTES", 1000)
    memory = Memory()
    with Store(memory) as other:
        for _ in range(20):
            other.execute(open_account, "ann", "x" * 300)
    faulty = Faulty(memory)
    pages: list[Any] = []
    faulty.before["read"] = pages.append
    with make_store(faulty).subscribe(types=accounts, after=0) as subscription:
        assert positions(take(subscription, 20)) == list(range(1, 21))
    assert [page.limit for page in pages][:3] == [4, 3, 3]


def test_a_long_log_is_caught_up_with(make_store: MakeStore, other: Store) -> None:
    def deposit_often(tx: Any) -> None:
        tx.read(accounts("ann")).append(*[Deposited(1)] * 500)

    for _ in range(5):
        other.execute(deposit_often)
    store = make_store()
    with store.subscribe(types=accounts, after=0) as subscription:
        assert positions(take(subscription, 2000)) == list(range(1, 2001))
        other.execute(deposit_often)
        store.execute(deposit, "ann")
        assert positions(take(subscription, 1001)) == list(range(2001, 3002))


def test_too_much_at_once_is_read_by_pages(
    make_store: MakeStore, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_news(monkeypatch, 3)
    monkeypatch.setattr(feed, "FIRST_PAGE", 5)
    store = make_store()
    with store.subscribe(types=accounts, after=0) as subscription:
        for _ in range(23):
            other.execute(deposit, "ann")
        assert positions(take(subscription, 23)) == list(range(1, 24))
        for _ in range(7):
            other.execute(deposit, "ann")
            store.execute(deposit, "ann")
        assert positions(take(subscription, 14)) == list(range(24, 38))


# -- Trouble -----------------------------------------------------------------------------------------------------------


def test_a_lost_announcement_costs_no_more_than_the_poll_interval(
    storage: Storage, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.subscriptions.POLL", 0.05)
    with Store(storage) as store:
        store.head()
        assert store._log is not None
        monkeypatch.setattr(store._log, "wait", lambda after, timeout: threading.Event().wait(timeout) or after)
        with store.subscribe(types=accounts) as subscription:
            for number in range(3):
                other.execute(deposit, "ann")
                assert positions(take(subscription, 1)) == [number + 1]


def test_a_storage_that_is_away_is_asked_again(
    storage: Storage,
    make_store: MakeStore,
    other: Store,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("deliveries", "subscriptions", "aio_subscriptions"):
        monkeypatch.setattr(f"factfold.{module}.AWAY", Retry(base=0.001, cap=0.01))
    faulty = Faulty(storage)
    store = make_store(faulty)
    with store.subscribe(types=accounts, after=0) as subscription:
        other.execute(deposit, "ann")
        assert positions(take(subscription, 1)) == [1]
        for method in ("check", "wait"):
            faulty.before[method] = times(3, StoreUnavailableError("the server restarts"))
        other.execute(deposit, "ann")
        assert positions(take(subscription, 1)) == [2]
        for method in ("check", "wait"):
            faulty.before[method] = times(2, StoreUnavailableError("the server restarts"))
        other.execute(deposit, "ann")
        assert positions(take(subscription, 1)) == [3]
    assert "the server restarts" in caplog.text


def times(count: int, error: Exception) -> Callable[[object], None]:
    """A hook that raises the error so many times."""
    left = iter(range(count))

    def call(given: object) -> None:
        for _ in left:
            raise error

    return call


def forget(memory: Memory, length: int) -> None:
    """The log ends at this position, as after a restored backup."""
    namespace = memory.namespace("default")
    del namespace.events[length:]
    for at in namespace.streams.values():
        at[:] = [position for position in at if position <= length]


@pytest.mark.parametrize("after", [0, "head"])
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_log_that_went_backwards_ends_the_subscription(after: Any, goes_on: bool) -> None:
    memory = Memory()
    with Store(memory) as store, Store(memory) as other:
        other.execute(deposit, "ann")
        subscription = store.subscribe(types=accounts, after=after)
        for _ in range(5):
            other.execute(deposit, "ann")
        take(subscription, 5 if after == "head" else 6)

        forget(memory, 3)
        if goes_on:
            with Store(memory) as restored:
                for _ in range(5):
                    restored.execute(deposit, "ann", 2)

        for _ in range(2):
            with pytest.raises(LogDivergedError):
                take(subscription, 1)
        later = store.subscribe(types=accounts)
        other_store = Store(memory)
        other_store.execute(deposit, "bob", 3)
        assert [each.event for each in take(later, 1)] == [Deposited(3)]
        other_store.close()
        later.close()


def test_a_position_above_the_head_is_of_another_log(store: Store) -> None:
    store.execute(deposit, "ann")
    with pytest.raises(LogDivergedError, match="at position 5 there was an event, now there is no event"):
        take(store.subscribe(after=5), 1)


def test_what_cannot_be_decoded_is_never_skipped(storage: Storage, store: Store) -> None:
    store.execute(deposit, "ann")
    engine = storage.open()
    log = engine.log("default")
    bad = NewEvent(bytes(range(16)), "Deposited", 1, b'{"amount":"much"}', b"{}", ("ledger:ann",))
    log.append(Append((bad,), Check((), log.head(), {})))
    engine.close()
    store.execute(open_account, "bob", "Bob")
    with store.subscribe(types=accounts, after=0) as subscription:
        assert positions(take(subscription, 1)) == [1]
        for _ in range(2):
            with pytest.raises(DecodingError, match="position 2") as caught:
                take(subscription, 1)
            assert caught.value.position == 2
        assert subscription.position == 1, "whoever goes on from here meets it again"


def test_an_interrupt_while_the_log_is_asked_loses_nothing(storage: Storage, other: Store) -> None:
    faulty = Faulty(storage)
    with Store(faulty) as store:
        for _ in range(5):
            other.execute(deposit, "ann")
        subscription = store.subscribe(types=accounts, after=0)
        interrupt = once(raising(KeyboardInterrupt()))
        me = threading.current_thread()
        faulty.after["check"] = lambda news: interrupt(news) if threading.current_thread() is me else None
        found: list[int] = []
        interrupted = False
        while len(found) < 5:
            try:
                found.append(next(subscription).position)
            except KeyboardInterrupt:
                interrupted = True
        assert interrupted
        assert found == [1, 2, 3, 4, 5]


# -- Ends --------------------------------------------------------------------------------------------------------------


def test_a_closed_subscription_ends_its_iteration(store: Store) -> None:
    store.execute(deposit, "ann")
    subscription = store.subscribe(types=accounts, after=0)
    found: list[int] = []
    for recorded in subscription:
        found.append(recorded.position)
        subscription.close()
        subscription.close()
    assert found == [1]
    assert list(subscription) == []


def test_closing_wakes_who_waits_in_another_thread(storage: Storage) -> None:
    with Store(storage) as store:
        subscription = store.subscribe(types=accounts)
        waiting = start(list[Any], subscription)
        eventually(lambda: hub_of(store).sleepers)
        subscription.close()
        assert waiting.result() == []


def test_closing_the_store_ends_its_subscriptions_with_an_error(storage: Storage) -> None:
    store = Store(storage)
    store.execute(deposit, "ann")
    subscriptions = [store.subscribe(types=accounts) for _ in range(3)]
    waiting = [start(list[Any], subscription) for subscription in subscriptions]
    eventually(lambda: len(hub_of(store).sleepers) == 3)
    start(store.close).result()
    for each in waiting:
        assert isinstance(each.error(), StoreClosedError)
    with pytest.raises(StoreClosedError, match="was closed, and its subscriptions"):
        next(subscriptions[0])
    with pytest.raises(StoreClosedError):
        store.subscribe()


def pumps() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "factfold pump"]


def test_one_thread_serves_all_subscriptions_and_ends_with_the_last(storage: Storage) -> None:
    before = len(pumps())
    with Store(storage) as store:
        subscriptions = [store.subscribe(types=accounts) for _ in range(5)]
        assert len(pumps()) == before + 1
        for subscription in subscriptions:
            subscription.close()
        eventually(lambda: len(pumps()) == before)
        again = store.subscribe(types=accounts)
        assert len(pumps()) == before + 1
        store.execute(deposit, "ann")
        assert positions(take(again, 1)) == [1]
    assert len(pumps()) == before, "closing the store has ended it"


def test_a_subscription_that_nobody_has_any_more_ends(storage: Storage) -> None:
    before = len(pumps())
    with Store(storage) as store:
        store.execute(deposit, "ann")
        for _ in store.subscribe(types=accounts, after=0):
            break
        gc.collect()
        assert len(hub_of(store).subscriptions) == 0
        eventually(lambda: len(pumps()) == before)


def test_closing_a_store_waits_for_the_threads_of_its_siblings_at_once(storage: Storage) -> None:
    before = len(pumps())
    with Store(storage) as store:
        siblings = [store.namespace(f"tenant {number}") for number in range(10)]
        subscriptions = [sibling.subscribe(types=accounts) for sibling in siblings]
        assert len(pumps()) == before + 10
        began = time.monotonic()
    assert len(pumps()) == before
    assert time.monotonic() - began < 10 * hub.POLL / 2, "each of them would wait for half as long on average"
    with pytest.raises(StoreClosedError):
        next(subscriptions[0])


def test_a_sibling_has_subscriptions_of_its_own(store: Store) -> None:
    sibling = store.namespace("other")
    with store.subscribe(types=accounts) as here, sibling.subscribe(types=accounts) as there:
        store.execute(deposit, "ann", 1)
        sibling.execute(deposit, "ann", 2)
        assert [each.event for each in take(here, 1)] == [Deposited(1)]
        assert [each.event for each in take(there, 1)] == [Deposited(2)]


def test_what_the_pump_hears_keeps_the_cache_warm(storage: Storage, make_store: MakeStore, other: Store) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty)
    store.execute(deposit, "ann")
    with store.subscribe(types=accounts) as subscription:
        for number in range(3):
            other.execute(deposit, "ann")
            assert positions(take(subscription, 1)) == [number + 2]
        loads = faulty.calls["load"]
        assert store.state(accounts("ann")).balance == 4
        assert faulty.calls["load"] == loads
        assert store.stats().refreshes >= 3


def test_one_decoding_serves_all_subscriptions(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(storage) as store:
        store.execute(deposit, "ann")
        subscriptions = [store.subscribe(types=accounts) for _ in range(4)]
        store.execute(deposit, "ann")
        found = [take(subscription, 1)[0] for subscription in subscriptions]
        store.execute(deposit, "ann")
        found = [take(subscription, 1)[0] for subscription in subscriptions]
        assert all(each is found[0] for each in found)
        plain = [store.subscribe(after=0) for _ in range(2)]
        first, second = (take(each, 3)[2] for each in plain)
        assert first.event == second.event
        assert first.event is not second.event, "a dict could be changed"


# -- With handlers -----------------------------------------------------------------------------------------------------


def test_handlers_say_what_is_wanted(store: Store) -> None:
    handlers = Handlers()
    seen: list[object] = []

    @handlers.on
    def _(event: Opened | Withdrawn, context: Context) -> None:
        seen.append((context.recorded.position, event))

    write_all_sorts(store)
    with store.subscribe(types=handlers, after=0) as subscription:
        for recorded in take(subscription, 4):
            handlers.dispatch(recorded)
    assert seen == [(1, Opened("Ann")), (3, Opened("Bob")), (6, Withdrawn(1)), (8, Opened("End"))]


def test_an_async_handler_is_refused_by_a_store() -> None:
    handlers = Handlers()

    @handlers.on
    async def slow(event: Opened, context: Context) -> None: ...

    with Store("memory:") as store, pytest.raises(DefinitionError, match="slow is `async def`"):
        store.subscribe(types=handlers)
