"""Any interleaving of writes, looks and reads: each feed hands over every event that it wants once, and in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from factfold.feed import Feed, Filter
from factfold.hub import Published
from factfold.reading import event_decoder
from factfold.settings import do_nothing
from factfold.storage.base import EMPTY, Check, Head, StoredEvent
from factfold.storage.memory import Memory
from tests.ledger import Deposited, Opened, accounts, deposit, open_account, owners
from tests.properties.driven import DrivenHeart
from tests.properties.limits import examples

IDS = ("ann", "bob")
FILTERS = (
    Filter.of(None, None, None),
    Filter.of(Deposited, None, None),
    Filter.of(accounts, None, None),
    Filter.of(Opened, "ledger", None),
    Filter.of(None, None, [accounts("bob")]),
    Filter.of(None, "ledger", [owners("bob"), accounts("ann")]),
)


class Bounds(NamedTuple):
    """How much stays in memory, is told in an answer, and stands on a page."""

    ring: int
    size: int
    chunk: int
    news: int
    page: int


class Write(NamedTuple):
    """A store appends so many events."""

    store: int
    id: str
    opens: bool
    events: int


class Look(NamedTuple):
    """A store hears what others have appended."""

    store: int


class Listen(NamedTuple):
    """A store hears that somebody subscribes again, or nobody any more: then it publishes nothing."""

    store: int
    active: bool


class Open(NamedTuple):
    """Somebody subscribes at a store, at a share of the log that there is."""

    store: int
    filter: int
    share: float


class Take(NamedTuple):
    """A consumer goes on by so many steps; the answer to its last request does not reach it if it is cancelled."""

    feed: int
    steps: int
    cancelled: bool


bounds = st.builds(
    Bounds,
    st.sampled_from([4096, 1, 2, 5]),
    st.sampled_from([4_000_000, 60, 20]),
    st.sampled_from([256, 1, 2]),
    st.sampled_from([1000, 0, 1, 3]),
    st.sampled_from([1000, 1, 2]),
)
stores = st.integers(0, 1)
step = st.one_of(
    st.builds(Write, stores, st.sampled_from(IDS), st.booleans(), st.integers(1, 4)),
    st.builds(Look, stores),
    st.builds(Listen, stores, st.booleans()),
    st.builds(Open, stores, st.integers(0, len(FILTERS) - 1), st.sampled_from([0.0, 0.5, 1.0])),
    st.builds(Take, st.integers(0, 9), st.integers(1, 6), st.booleans()),
)


class Consumer:
    """Somebody who reads a feed, and what has come."""

    def __init__(self, heart: DrivenHeart, filter: Filter, head: Head) -> None:
        self.heart = heart
        self.filter = filter
        self.began = head
        self.feed = Feed(heart.heart.cache.hub, filter, head, event_decoder(None))
        self.found: list[StoredEvent] = []

    def go_on(self, *, cancelled: bool = False) -> bool:
        """One step. False: there is nothing to be had."""
        published = self.feed.next()
        if published is not None:
            assert isinstance(published, Published)
            self.feed.recorded(published)
            self.found.append(published.stored)
            return True
        request = self.feed.request()
        if request is None:
            return False
        if isinstance(request, Check):
            news = self.heart.log.check(request)
            if not cancelled:
                self.feed.heard(news)
        else:
            stored = self.heart.log.read(request)
            if not cancelled:
                self.feed.read(stored)
        return True

    def drain(self) -> None:
        """Goes on until nothing is left: the store looks, and who has waited for long asks."""
        self.heart.execute(do_nothing)
        while self.go_on():
            pass
        self.feed.doubt()
        while self.go_on():
            pass


@examples(8)
@given(bounds, st.lists(step, max_size=40))
def test_every_feed_hands_over_every_event_once_and_in_order(bounds: Bounds, steps: Sequence[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factfold.hub.RING_EVENTS", bounds.ring)
        patch.setattr("factfold.hub.RING_BYTES", bounds.size)
        patch.setattr("factfold.hub.CHUNK", bounds.chunk)
        patch.setattr("factfold.storage.memory.NEWS_LIMIT", bounds.news)
        patch.setattr("factfold.feed.FIRST_PAGE", bounds.page)
        patch.setattr("factfold.reading.PAGE", bounds.page)
        memory = Memory()
        hearts = [DrivenHeart(memory), DrivenHeart(memory)]
        for heart in hearts:
            heart.heart.cache.hub.active = True
        consumers: list[Consumer] = []
        for each in steps:
            take_step(each, hearts, consumers)
        for consumer in consumers:
            consumer.drain()
            everything = memory.namespace("default").events
            expected = [stored for stored in everything[consumer.began.position :] if consumer.filter.takes(stored)]
            note(f"from {consumer.began.position}: {[stored.position for stored in consumer.found]}")
            assert consumer.found == expected
            assert consumer.feed.position == len(everything)
            assert consumer.feed.head == (everything[-1].head if everything else EMPTY)
        for heart in hearts:
            assert_bounded(heart, bounds)


def take_step(each: Any, hearts: list[DrivenHeart], consumers: list[Consumer]) -> None:
    match each:
        case Write(store, id, opens, events):
            for _ in range(events):
                hearts[store].execute(lambda tx: open_account(tx, id, id) if opens else deposit(tx, id))
        case Look(store):
            hearts[store].execute(do_nothing)
        case Listen(store, active):
            hearts[store].heart.cache.hub.active = active
        case Open(store, filter, share):
            head = hearts[store].log.head()
            began = hearts[store].log._head_at(int(head.position * share))
            consumers.append(Consumer(hearts[store], FILTERS[filter], began))
        case Take(feed, count, cancelled):
            if feed < len(consumers):
                for _ in range(count - 1):
                    consumers[feed].go_on()
                consumers[feed].go_on(cancelled=cancelled)
        case other:
            raise AssertionError(other)


def assert_bounded(heart: DrivenHeart, bounds: Bounds) -> None:
    ring = heart.heart.cache.hub._ring
    if ring is not None:
        assert len(ring[1]) <= bounds.ring
        assert sum(len(published.stored.data) for published in ring[1]) <= bounds.size
