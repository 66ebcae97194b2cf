"""Programs that fork while their stores are in use; each is run in a process of its own by `test_fork.py`.

python -m tests.forking PROGRAM DATABASE        (DATABASE: "memory", the path of a SQLite file, or a url of a server)
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from factfold import AsyncStore, Receipt, Store, StoreClosedError, Transaction, codec, storage, stream, streams
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.faults import PATIENCE
from tests.ledger import Deposited, accounts, balance, deposit
from tests.properties.limits import Limits
from tests.racing import eventually, start
from tests.together import heart_of

CHILDREN = 4

AHEAD = 300
"""How many deposits a thread makes while nobody waits for any."""


def open_storage(database: str) -> Storage:
    if "://" in database:
        return storage.open_storage(database)
    return Memory() if database == "memory" else SQLite(database, synchronous="normal")


def in_child(work: Callable[[], object]) -> int:
    """Forks; gives the child's process id. The child's exit status tells whether its work succeeded."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def wait_for(*children: int) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, f"the child ended with {status}"


class Writers:
    """Threads that deposit until they are told to stop, but never get far ahead: a child has the whole log to read."""

    def __init__(self, store: Store, count: int = 4) -> None:
        self.done = [0] * count
        self._store = store
        self._limit = AHEAD
        self._stopped = False
        self._writing = [start(self._write, number) for number in range(count)]

    def _write(self, number: int) -> None:
        while True:
            eventually(lambda: self._stopped or self.done[number] < self._limit)
            if self._stopped:
                return
            self._store.execute(deposit, f"thread-{number}", 1)
            self.done[number] += 1

    def go_on(self) -> None:
        """Returns when each has written something since this was called."""
        before = list(self.done)
        self._limit = max(before) + AHEAD
        eventually(lambda: self._have_written_since(before) or any(each.ended for each in self._writing))
        assert not any(each.ended for each in self._writing), [each.ended and each.error() for each in self._writing]

    def _have_written_since(self, before: Sequence[int]) -> bool:
        return all(now > then for now, then in zip(self.done, before, strict=True))

    def stop(self) -> None:
        self._stopped = True
        for each in self._writing:
            each.result()


def use(store: Store, name: str) -> None:
    """Everything that a process does with a store, from several threads."""

    def work(id: str) -> None:
        for amount in range(1, 11):
            assert store.execute(deposit, id, 1).result == amount
            assert store.state(accounts(id)).balance == amount

    for each in [start(work, f"{name}-{number}") for number in range(3)]:
        each.result()
    assert store.verify(accounts).ok


def while_threads_execute(database: str) -> None:
    with Store(open_storage(database)) as store:
        writers = Writers(store)
        writers.go_on()
        for number in range(CHILDREN):
            child = in_child(partial(use, store, f"child-{number}"))
            writers.go_on()
            wait_for(child)
        writers.go_on()
        writers.stop()
        for number, done in enumerate(writers.done):
            assert store.state(accounts(f"thread-{number}")).balance == done
        if database != "memory":
            for number in range(CHILDREN):
                assert store.state(accounts(f"child-{number}-0")).balance == 10
        events = list(store.log())
        assert len({recorded.id for recorded in events}) == len(events) == store.head()
        assert store.verify(accounts).ok


def several_at_once(database: str) -> None:
    with Store(open_storage(database)) as store:
        writers = Writers(store, 2)
        writers.go_on()
        wait_for(*[in_child(partial(use, store, f"child-{number}")) for number in range(CHILDREN)])
        writers.go_on()
        writers.stop()
        assert store.verify(accounts).ok


def from_another_thread(database: str) -> None:
    with Store(open_storage(database)) as store:
        writers = Writers(store)
        writers.go_on()

        def fork(number: int) -> None:
            wait_for(in_child(lambda: use(store, f"child-{number}")))

        for each in [start(fork, number) for number in range(2)]:
            each.result()
        writers.go_on()
        writers.stop()


def the_child_closes_the_store(database: str) -> None:
    store = Store(open_storage(database))
    other = store.namespace("other")
    store.execute(deposit, "ann", 1)
    other.execute(deposit, "ann", 1)

    def work() -> None:
        assert store.execute(deposit, "child", 1).result == 1
        assert other.execute(deposit, "child", 1).result == 1
        store.close()
        for each in (store, other):
            try:
                each.execute(balance, "ann")
            except StoreClosedError:
                continue
            raise AssertionError("it is closed")

    wait_for(in_child(work))
    for each in (store, other):
        assert each.execute(deposit, "ann", 1).result == 2
    store.close()


def a_closed_store_stays_closed(database: str) -> None:
    store = Store(open_storage(database))
    store.execute(deposit, "ann", 1)
    store.close()

    def work() -> None:
        try:
            store.execute(balance, "ann")
        except StoreClosedError:
            return
        raise AssertionError("it is closed")

    wait_for(in_child(work))


def a_store_that_was_never_opened(database: str) -> None:
    store = Store(open_storage(database))
    wait_for(in_child(lambda: use(store, "child")))
    use(store, "parent")
    store.close()


def the_child_does_not_decide_on_what_it_inherited(database: str) -> None:
    with Store(open_storage(database)) as store:
        store.execute(deposit, "ann", 1)
        child_may_go_on, parent_has_written = os.pipe()

        def work() -> None:
            os.close(parent_has_written)  # or it would wait for itself, should the parent be gone
            assert os.read(child_may_go_on, 1)
            assert store.execute(balance, "ann").result == (1 if database == "memory" else 2)

        child = in_child(work)
        store.execute(deposit, "ann", 1)
        os.write(parent_has_written, b".")
        wait_for(child)


shared: list[Store] = []


def _process(number: int) -> Receipt[int]:
    receipt = shared[0].execute(deposit, f"process-{number}", 1)
    use(shared[0], f"process-{number}")
    return receipt


def multiprocessing_with_fork(database: str) -> None:
    with Store(open_storage(database)) as store:
        shared.append(store)
        writers = Writers(store, 2)
        writers.go_on()
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=_process, args=(number,)) for number in range(CHILDREN)]
        for process in processes:
            process.start()
        writers.go_on()
        for process in processes:
            process.join(PATIENCE)
        writers.go_on()
        writers.stop()
        assert [process.exitcode for process in processes] == [0] * CHILDREN
        if database != "memory":
            assert store.state(accounts("process-0")).balance == 1
        assert store.verify(accounts).ok


def while_a_stream_type_is_defined(database: str) -> None:
    held, forked = threading.Event(), threading.Event()

    def define() -> None:
        with streams._lock, codec._lock:
            held.set()
            assert forked.wait(PATIENCE)

    def work() -> None:
        @dataclass(frozen=True)
        class Rang:
            times: int

        @stream("bell", initial=0)
        def bells(state: int, event: Rang) -> int:
            return state + event.times

        def ring(tx: Transaction, times: int) -> int:
            bell = tx.read(bells())
            bell.append(Rang(times))
            return bell.state

        with Store(open_storage(database)) as store:
            assert store.execute(ring, 3).result == 3

    defining = start(define)
    assert held.wait(PATIENCE)
    child = in_child(work)
    forked.set()
    defining.result()
    wait_for(child)


def async_stores(database: str) -> None:
    fork_in_an_event_loop(database, lambda store: True)


def while_something_is_decided_ahead(database: str) -> None:
    """Not every engine lets that happen; but the child has to be sound wherever the loop stands."""
    with Limits(ahead=True, apart=True).apply():
        fork_in_an_event_loop(database, lambda store: heart_of(store)._ahead is not None)


def fork_in_an_event_loop(database: str, may_fork: Callable[[AsyncStore], bool]) -> None:
    store = AsyncStore(open_storage(database))

    async def deposits(name: str) -> None:
        await asyncio.gather(*(store.execute(deposit, f"{name}-{number % 3}", 1) for number in range(30)))
        assert (await store.state(accounts(f"{name}-0"))).balance == 10

    async def main() -> None:
        await deposits("before")
        working = asyncio.create_task(deposits("while"))
        await asyncio.sleep(0)
        while not may_fork(store) and not working.done():  # noqa: ASYNC110 - any turn of the loop may be the one
            await asyncio.sleep(0)

        def work() -> None:
            asyncio.get_event_loop_policy().set_event_loop(None)
            asyncio._set_running_loop(None)  # the child is in the middle of the parent's loop, and leaves it

            async def in_the_child() -> None:
                await deposits("child")
                assert (await store.state(accounts("before-0"))).balance == 10
                await store.close()

            asyncio.run(in_the_child())

        child = in_child(work)
        await working
        await deposits("after")
        wait_for(child)
        await store.close()

    asyncio.run(main())


@stream("ledger", initial=0, snapshot_every=5)
def totals(state: int, event: Deposited) -> int:
    return state + event.amount


def snapshots(database: str) -> None:
    """Both sides save what they load, with a thread of their own."""
    with Store(open_storage(database)) as store:
        for id in ("ann", "bob", "cleo"):
            for _ in range(10):
                store.execute(deposit, id, 1)
        assert store.state(totals("ann")) == 10

        def work() -> None:
            assert store.state(totals("bob")) == 10
            eventually(lambda: store.stats().snapshots_saved == 1)
            store.close()

        child = in_child(work)
        assert store.state(totals("cleo")) == 10
        wait_for(child)
        eventually(lambda: store.stats().snapshots_saved == 2)


def subscriptions(database: str) -> None:
    """The child's ends with an error that says why, the parent's goes on; each subscribes anew as it likes."""
    with Store(open_storage(database)) as store:
        store.execute(deposit, "ann", 1)
        subscription = store.subscribe(types=accounts, after=0)
        assert next(subscription).position == 1
        waiting = start(lambda: [next(subscription).position for _ in range(2)])
        hub = subscription._hub
        eventually(lambda: hub.sleepers)

        def work() -> None:
            for _ in range(2):
                try:
                    start(lambda: next(subscription)).result()
                except StoreClosedError as error:
                    assert "forked" in str(error), error
                else:
                    raise AssertionError("the parent's events are not the child's")
            with store.subscribe(types=accounts) as own:
                store.execute(deposit, "bob", 2)
                assert start(lambda: next(own).event).result() == Deposited(2)
            store.close()

        child = in_child(work)
        wait_for(child)
        if database == "memory":
            store.execute(deposit, "bob", 2)  # the child had a copy
        store.execute(deposit, "ann", 3)
        assert waiting.result() == [2, 3]


PROGRAMS: dict[str, Callable[[str], None]] = {
    program.__name__: program
    for program in (
        while_threads_execute,
        several_at_once,
        from_another_thread,
        the_child_closes_the_store,
        a_closed_store_stays_closed,
        a_store_that_was_never_opened,
        the_child_does_not_decide_on_what_it_inherited,
        multiprocessing_with_fork,
        while_a_stream_type_is_defined,
        async_stores,
        while_something_is_decided_ahead,
        snapshots,
        subscriptions,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[2])
