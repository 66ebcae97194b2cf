"""The cache is one cut of the log: all of its states are valid at one and the same position."""

from __future__ import annotations

from dataclasses import dataclass

from factfold import stream
from factfold.cache import TAIL_EVENTS, Cache, Fetched, Folded, Key
from factfold.events import new_event_ids
from factfold.folds import Fold
from factfold.storage.base import EMPTY, Head, News, StoredEvent
from tests.ledger import Account, Deposited, Opened, Transferred, accounts, deposits, owners

ANN = "ledger:ann"
BEN = "ledger:ben"
WIDE: Key = (ANN, accounts.fold)
COUNT: Key = (ANN, deposits.fold)
OWNER: Key = (ANN, owners.fold)


@dataclass(frozen=True)
class Blob:
    text: str


@stream("ledger", initial=0)
def big(state: int, event: Blob) -> int:
    return state + 1


class Log:
    """Makes stored events, one after another, as a log would."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self._versions: dict[str, int] = {}

    @property
    def head(self) -> Head:
        return self.events[-1].head if self.events else EMPTY

    def add(self, event: object, *streams: str) -> StoredEvent:
        found = {**accounts.fold.by_class, **big.fold.by_class}[type(event)]
        versions: dict[str, int] = {}
        for each in streams:
            versions[each] = self._versions[each] = self._versions.get(each, 0) + 1
        (id,) = new_event_ids(1)
        stored = StoredEvent(len(self.events) + 1, id, found.name, 1, found.encode(event)[0], b"{}", versions, 0)
        self.events.append(stored)
        return stored

    def news(self, after: Head, touched: frozenset[int] = frozenset()) -> News:
        return News(after, self.head, tuple(self.events[after.position :]), touched)

    def too_far(self, after: Head, touched: frozenset[int]) -> News:
        return News(after, self.head, (), touched, too_far=True)

    def fetch(self, key: Key, at: Head | None = None) -> Fetched:
        """What a load would have brought when the log ended at this head."""
        id, fold = key
        head = self.head if at is None else at
        folded, version = Folded(fold.initial, 0), 0
        for stored in self.events[: head.position]:
            if id in stored.streams:
                version = stored.streams[id]
                if stored.type in fold.selected:
                    folded.state = fold.evolve(folded.state, fold.decode(stored, id), id.partition(":")[2])
                    folded.version = version
        return Fetched(id, fold, folded, version, head)


def made(log: Log, *keys: Key, size: int = 100) -> Cache:
    cache = Cache(size, Fold.decode)
    cache.reset(log.head)
    for key in keys:
        assert cache.install(log.fetch(key))
    return cache


def state(cache: Cache, key: Key) -> object:
    folded = cache.get(key)
    return None if folded is None else folded.state


def version(cache: Cache, key: Key) -> int | None:
    folded = cache.get(key)
    return None if folded is None else folded.version


# -- Moving the cut ----------------------------------------------------------------------------------------------------


def test_what_others_appended_advances_every_state_that_it_touches() -> None:
    log = Log()
    log.add(Opened("Ann"), ANN)
    cache = made(log, WIDE, COUNT, (BEN, accounts.fold))
    before = log.head
    log.add(Deposited(3), ANN)
    log.add(Transferred("ann", "ben", 1), ANN, BEN)

    cache.hear(log.news(before), ())

    assert cache.head == log.head
    assert (state(cache, WIDE), version(cache, WIDE)) == (Account("Ann", 2), 3)
    assert (state(cache, COUNT), version(cache, COUNT)) == (1, 2)
    assert (state(cache, (BEN, accounts.fold)), version(cache, (BEN, accounts.fold))) == (Account("", 1), 1)
    assert cache.refreshes == 3


def test_news_that_are_known_already_are_not_heard_again() -> None:
    log = Log()
    cache = made(log, WIDE)
    log.add(Deposited(1), ANN)
    first = log.news(EMPTY)
    log.add(Deposited(1), ANN)

    cache.hear(log.news(EMPTY), ())
    cache.hear(first, ())  # an answer that came late

    assert cache.head == log.head
    assert state(cache, WIDE) == Account("", 2)


def test_news_that_overlap_with_what_is_known_are_heard_from_there_on() -> None:
    log = Log()
    cache = made(log, WIDE)
    log.add(Deposited(1), ANN)
    cache.hear(log.news(EMPTY), ())
    log.add(Deposited(10), ANN)

    cache.hear(log.news(EMPTY), ())

    assert state(cache, WIDE) == Account("", 11)


def test_a_state_whose_stream_does_not_follow_without_a_gap_is_dropped() -> None:
    log = Log()
    cache = made(log, WIDE, (BEN, accounts.fold))
    log.add(Deposited(1), ANN, BEN)
    second = log.add(Deposited(1), ANN)

    cache.hear(News(EMPTY, second.head, (second,), frozenset()), ())

    assert cache.get(WIDE) is None
    assert state(cache, (BEN, accounts.fold)) == Account()
    assert cache.head == second.head


def test_a_fold_that_fails_is_dropped_and_the_others_of_the_stream_go_on() -> None:
    @stream("ledger", initial=0)
    def strict(state: int, event: Deposited) -> int:
        raise LookupError

    log = Log()
    cache = made(log, WIDE, (ANN, strict.fold))
    log.add(Deposited(1), ANN)

    cache.hear(log.news(EMPTY), ())

    assert cache.get((ANN, strict.fold)) is None
    assert state(cache, WIDE) == Account("", 1)


def test_too_far_drops_all_but_what_was_verified() -> None:
    log = Log()
    log.add(Opened("Ann"), ANN)
    cache = made(log, WIDE, OWNER, (BEN, accounts.fold))
    before = log.head
    log.add(Deposited(5), ANN)

    cache.hear(log.too_far(before, frozenset({0})), (WIDE, OWNER, None))

    assert cache.get(WIDE) is None
    assert cache.get((BEN, accounts.fold)) is None  # was not asked about
    assert state(cache, OWNER) == "Ann"
    assert cache.head == log.head


def test_after_too_far_the_version_of_a_stream_is_not_known_until_an_event_tells_it() -> None:
    log = Log()
    log.add(Opened("Ann"), ANN)
    cache = made(log, OWNER)
    before = log.head
    log.add(Deposited(5), ANN)
    cache.hear(log.too_far(before, frozenset()), (OWNER,))
    assert cache.slots[ANN].version is None
    before = log.head
    log.add(Opened("Anna"), ANN)

    cache.hear(log.news(before), ())

    assert cache.slots[ANN].version == 3
    assert (state(cache, OWNER), version(cache, OWNER)) == ("Anna", 3)


def test_reset_drops_everything() -> None:
    log = Log()
    cache = made(log, WIDE)
    cache.pin(ANN, "owner")

    cache.reset(Head(7, b"another log"))

    assert (len(cache), cache.head) == (0, Head(7, b"another log"))
    cache.unpin(ANN, "owner")
    cache.trim()


# -- Loads -------------------------------------------------------------------------------------------------------------


def test_a_load_that_comes_back_behind_the_cut_is_brought_up_from_the_tail() -> None:
    log = Log()
    log.add(Deposited(1), ANN)
    cache = made(log)
    late = log.fetch(WIDE)
    before = log.head
    log.add(Deposited(10), ANN)
    log.add(Deposited(5), BEN)
    cache.hear(log.news(before), ())
    own = log.add(Deposited(100), ANN)
    cache.own([own], len(own.data))

    assert cache.install(late)

    assert (state(cache, WIDE), version(cache, WIDE)) == (Account("", 111), 3)
    assert cache.slots[ANN].version == 3


def test_a_load_from_behind_the_tail_is_refused() -> None:
    log = Log()
    cache = made(log)
    late = log.fetch(WIDE)
    for _ in range(TAIL_EVENTS + 1):
        log.add(Deposited(1), BEN)
    cache.hear(log.news(EMPTY), ())
    cache.trim()

    assert not cache.install(late)
    assert cache.get(WIDE) is None


def test_a_load_from_the_beginning_of_the_tail_is_taken() -> None:
    log = Log()
    log.add(Deposited(1), ANN)
    cache = made(log)
    late, before = log.fetch(WIDE), log.head
    for _ in range(TAIL_EVENTS):
        log.add(Deposited(1), ANN)
    cache.hear(log.news(before), ())
    cache.trim()

    assert cache.install(late)
    assert state(cache, WIDE) == Account("", TAIL_EVENTS + 1)


def test_a_load_from_before_too_far_news_is_refused() -> None:
    log = Log()
    cache = made(log)
    late = log.fetch(WIDE)
    log.add(Deposited(1), BEN)
    cache.hear(log.too_far(EMPTY, frozenset()), ())

    assert not cache.install(late)


def test_a_load_from_before_a_large_event_of_another_stream_is_brought_up() -> None:
    log = Log()
    cache = made(log)
    late = log.fetch(WIDE)
    log.add(Blob("x" * 3_000_000), BEN)
    log.add(Deposited(1), ANN)
    cache.hear(log.news(EMPTY), ())

    assert cache.install(late)
    assert state(cache, WIDE) == Account("", 1)


def test_a_load_from_before_a_large_event_that_its_fold_looks_at_is_refused() -> None:
    log = Log()
    cache = made(log)
    late = log.fetch((ANN, big.fold))
    log.add(Blob("x" * 3_000_000), ANN)
    cache.hear(log.news(EMPTY), ())

    assert not cache.install(late)
    assert cache.install(log.fetch((ANN, big.fold)))


def test_the_last_two_batches_of_this_process_are_remembered_however_large_they_are() -> None:
    log = Log()
    cache = made(log)
    late = log.fetch(WIDE)
    for _ in range(2):
        batch = [log.add(Deposited(1), BEN) for _ in range(TAIL_EVENTS + 100)]
        cache.own(batch, 0)
        cache.trim()

    assert cache.install(late)
    cache.own([log.add(Deposited(1), BEN)], 0)
    cache.trim()
    cache.drop(ANN)
    assert not cache.install(late)


def test_a_load_from_after_the_cut_is_refused() -> None:
    log = Log()
    cache = made(log)
    log.add(Deposited(1), BEN)
    cache.hear(log.news(EMPTY), ())
    log.add(Deposited(1), ANN)

    assert not cache.install(log.fetch(WIDE))
    assert cache.get(WIDE) is None


def test_a_load_never_replaces_something_newer() -> None:
    log = Log()
    cache = made(log, COUNT)
    late = log.fetch(COUNT)
    log.add(Deposited(1), ANN)
    cache.hear(log.news(EMPTY), ())
    newer = cache.get(COUNT)

    assert cache.install(late)
    assert cache.get(COUNT) is newer


def test_a_state_that_cannot_be_brought_up_to_the_cut_is_not_taken() -> None:
    @stream("ledger", initial=0)
    def strict(state: int, event: Deposited) -> int:
        raise LookupError

    log = Log()
    cache = made(log, WIDE)  # so that the stream is known
    late = log.fetch((ANN, strict.fold))
    log.add(Deposited(1), ANN)
    cache.hear(log.news(EMPTY), ())

    assert not cache.install(late)
    assert cache.get((ANN, strict.fold)) is None
    assert state(cache, WIDE) == Account("", 1)


# -- What is kept ------------------------------------------------------------------------------------------------------


def test_the_streams_used_least_recently_are_evicted() -> None:
    log = Log()
    keys = [(f"ledger:{number}", accounts.fold) for number in range(4)]
    cache = made(log, *keys, size=2)
    cache.get(keys[0])

    cache.trim()

    assert [cache.holds(key) for key in keys] == [True, False, False, True]
    assert (len(cache), cache.evictions) == (2, 2)


def test_what_is_pinned_stays_until_the_last_of_its_owners_lets_go() -> None:
    log = Log()
    cache = made(log, WIDE, size=0)
    cache.pin(ANN, "first")
    cache.pin(ANN, "second")

    for owner in ("first", "somebody else", "first"):
        cache.unpin(ANN, owner)
        cache.trim()
        assert cache.holds(WIDE)
    cache.unpin(ANN, "second")
    cache.trim()

    assert not cache.holds(WIDE)
    assert len(cache) == 0


def test_pinning_what_is_not_there_does_nothing() -> None:
    cache = made(Log(), size=0)
    cache.pin(ANN, "owner")
    cache.unpin(ANN, "owner")
    cache.trim()
    assert len(cache) == 0


def test_a_failure_to_fold_is_forgotten_when_nobody_needs_it_any_more() -> None:
    log = Log()
    cache = made(log, COUNT)
    failed = Fetched(ANN, accounts.fold, Folded(None, 0), 0, EMPTY)
    failed.folded.fail(LookupError())
    assert cache.install(failed)
    cache.pin(ANN, "owner")

    cache.unpin(ANN, "owner")

    assert not cache.holds(WIDE)
    assert cache.holds(COUNT)


def test_hits_and_misses_are_counted() -> None:
    cache = made(Log(), WIDE)
    for key in (WIDE, COUNT, WIDE, (BEN, accounts.fold)):
        cache.get(key)
    assert (cache.hits, cache.misses) == (2, 2)
