"""What writers do in the races of the contract tests, the same in threads and in processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.synchronize import Event

from factfold.storage.base import EMPTY, Appended, Check, Conflict, Head, Log, LogPage, Storage, StoredEvent
from factfold.testing.contract.running import PATIENCE, Barrier, one_log, together
from factfold.testing.contract.scribe import appending, asking, new, selection, several


@contextmanager
def aborting(barrier: Barrier) -> Generator[None]:
    """Lets nobody wait at the barrier for one who has failed."""
    try:
        yield
    except BaseException:
        barrier.abort()
        raise


def race_for_places(log: Log, barrier: Barrier, rounds: int, gate: AbstractContextManager[object]) -> list[int | None]:
    """In every round tries to be the one that takes the place: the positions won, None where another was faster.

    `gate` is entered for the append, for logs that several racers share: they allow one caller at a time.
    """
    won: list[int | None] = []
    with aborting(barrier):
        for round in range(rounds):
            place = f"place:{round}"
            after = log.head()
            barrier.wait(PATIENCE)
            with gate:
                answer = log.append(appending([new(place)], after, selection(place), versions={place: 0}))
            if isinstance(answer, Conflict):
                assert answer.news.touched == {0}, "who loses is told where"
                taken = [place in stored.streams for stored in answer.news.events]
                assert taken.count(True) == 1, "and by what"
            won.append(answer.first if isinstance(answer, Appended) else None)
    return won


def race_in_threads(
    storage: Storage, namespace: str, barrier: Barrier, rounds: int, racers: int
) -> list[list[int | None]]:
    """So many racers in this process, each with an engine of its own."""

    def race() -> list[int | None]:
        with aborting(barrier), one_log(storage, namespace) as log:
            return race_for_places(log, barrier, rounds, nullcontext())

    return together([race] * racers)


def assert_one_winner_each(log: Log, results: list[list[int | None]]) -> None:
    """In every round exactly one racer has won, and the log says the same."""
    for round, positions in enumerate(zip(*results, strict=True)):
        winners = [position for position in positions if position is not None]
        assert len(winners) == 1, f"round {round}: {len(winners)} of {len(positions)} racers took the one free place"
        taken = [stored.position for stored in log.read(LogPage(0, 10_000)) if f"place:{round}" in stored.streams]
        assert taken == winners, f"round {round}: the log has other winners than were told"


def write_in_step(log: Log, barrier: Barrier, writer: int, appends: int) -> list[bytes]:
    """`write_unrelated`, with each append at the same moment as those of the others."""
    with aborting(barrier):
        return write_unrelated(log, writer, appends, lambda: barrier.wait(PATIENCE))


def write_unrelated(
    log: Log, writer: int, appends: int, before_each: Callable[[], object] = lambda: None
) -> list[bytes]:
    """Appends to a stream that nobody else writes to, never looking at what others do: the ids written, in order."""
    own = f"writer:{writer}"
    after, version = log.head(), 0
    ids: list[bytes] = []
    for number in range(appends):
        events = several(1 + (number + writer) % 5, own)
        versions = {own: version} if number % 2 else {}
        before_each()
        answer = log.append(appending(events, after, selection(own), selection(own, "Moved"), versions=versions))
        assert isinstance(answer, Appended), f"nobody else writes to {own}, and yet there was a conflict: {answer}"
        assert dict(answer.versions) == {own: version}
        version += len(events)
        after = Head(answer.first + len(events) - 1, events[-1].id)
        ids += [event.id for event in events]
    return ids


def write_unrelated_in(storage: Storage, namespace: str, barrier: Barrier, writer: int, appends: int) -> list[bytes]:
    """`write_unrelated` with an engine of its own, beginning together with the others."""
    with aborting(barrier), one_log(storage, namespace) as log:
        barrier.wait(PATIENCE)
        return write_unrelated(log, writer, appends)


def poll_everything(log: Log, is_over: Callable[[], bool]) -> list[StoredEvent]:
    """Follows the log while others write: by pages, and by the news of checks, which must both be without a gap."""
    seen: list[StoredEvent] = []
    head = EMPTY
    last_round = False
    while True:
        over = is_over()
        found: list[StoredEvent] = []
        news = log.check(Check((), head, {}))
        found += news.events
        if not news.events:
            found += log.read(LogPage(head.position, 100, system=True))
        else:
            page = [stored.position for stored in log.read(LogPage(head.position, 1))]
            assert page == [head.position + 1], f"the news go on after {head.position}, and the page does not"
        positions = [stored.position for stored in found]
        expected = list(range(head.position + 1, head.position + 1 + len(found)))
        assert positions == expected, f"after {head.position} came {positions[:20]}: a gap, or out of order"
        seen += found
        if found:
            head = found[-1].head
        elif last_round:
            return seen
        else:
            log.wait(head.position, 0.05)
        last_round = over


def write_in_turn_for(storage: Storage, namespace: str, barrier: Barrier, seconds: float, locks: bool) -> int:
    """Appends to one hot stream, deciding under the lock after each lost race; how many appends in the time."""
    with aborting(barrier), one_log(storage, namespace) as log:
        known = log.head()
        barrier.wait(PATIENCE)
        end = time.monotonic() + seconds
        done = 0
        while time.monotonic() < end:
            event, hot = new("hot:1"), selection("hot:1")
            answer = log.append(appending([event], known, hot))
            while isinstance(answer, Conflict):
                known = answer.news.head
                if locks:
                    known = log.lock(asking(known, hot)).head
                answer = log.append(appending([event], known, hot))
                assert not (locks and isinstance(answer, Conflict)), "the second attempt, under the lock, cannot fail"
            known = Head(answer.first, event.id)
            done += 1
        return done


def write_until_killed(storage: Storage, namespace: str) -> None:
    """Appends five events to five streams again and again, until the process is killed."""
    with one_log(storage, namespace) as log:
        while True:
            log.append(appending([new("all:1", f"part:{number}") for number in range(5)], log.head()))


def lock_until_killed(storage: Storage, namespace: str, locked: Event) -> None:
    """Takes the writers' lock and keeps it."""
    with one_log(storage, namespace) as log:
        log.lock(asking(log.head()))
        locked.set()
        time.sleep(10 * PATIENCE)


def open_together(storage: Storage, namespace: str, barrier: Barrier, writer: int) -> None:
    """Opens the storage at the same moment as others do, and appends one event."""
    with aborting(barrier):
        barrier.wait(PATIENCE)
    with one_log(storage, namespace) as log:
        assert isinstance(
            log.append(appending([new(f"writer:{writer}")], EMPTY, selection(f"writer:{writer}"))), Appended
        )


def append_in(storage: Storage, namespace: str, writer: int) -> tuple[int, int]:
    """Opens the storage, reads it all, appends one event: how many there were, and the position of the new one."""
    with one_log(storage, namespace) as log:
        after = log.head()
        answer = log.append(appending([new(f"writer:{writer}")], after))
        assert isinstance(answer, Appended)
        return after.position, answer.first
