"""Faults of locks, places, waiting, engines and event loops."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import get_ident
from typing import ClassVar
from uuid import uuid4

from factfold.errors import FactfoldError, StoreClosedError, StoreUnavailableError
from factfold.storage.base import (
    EMPTY,
    Append,
    Appended,
    Capabilities,
    Check,
    Conflict,
    Engine,
    Load,
    Loaded,
    Log,
    NewEvent,
    News,
    Selection,
)
from factfold.storage.memory import Memory
from tests.broken.storage import Common, Sound, SoundEngine, SoundLoop
from tests.faults import PATIENCE


class DoesNotLock(Sound):
    caught_by = ("nobody_appends_while_it_is_held", "who_comes_meanwhile_waits_and_goes_on")

    def lock(self, check: Check) -> News:
        return self.log.check(check)


class KeepsTheLock(Sound):
    raises_in = ("an_append_ends_the_lock_whatever_comes_of_it",)

    def append(self, append: Append) -> Appended | Conflict:
        try:
            answer: Appended | Conflict | FactfoldError = self.log.append(append)
        except FactfoldError as error:
            answer = error
        if not isinstance(answer, Appended):
            self.log.lock(Check((), self.log.head(), {}))
        if isinstance(answer, FactfoldError):
            raise answer
        return answer


class UnlocksForOthers(Sound):
    caught_by = ("unlocking_what_is_not_held_does_nothing",)

    def lock(self, check: Check) -> News:
        news = self.log.lock(check)
        self.common.holder = self.log
        return news

    def unlock(self) -> None:
        (self.common.holder or self.log).unlock()


class ForgetsToUnlock(Sound):
    raises_in = ("lock_then_unlock", "an_exception_between_leaves_the_log_usable")

    def unlock(self) -> None:
        pass


class RefusesReadersUnderTheLock(Sound):
    raises_in = ("readers_do_not_wait_for_it",)

    def lock(self, check: Check) -> News:
        news = self.log.lock(check)
        self.common.holder = self.log
        return news

    def unlock(self) -> None:
        self.common.holder = None
        self.log.unlock()

    def check(self, check: Check) -> News:
        if self.common.holder:
            raise StoreUnavailableError("a writer has locked the log")
        return self.log.check(check)


class BelongsToAThread(Sound):
    raises_in = ("a_lock_belongs_to_no_thread", "any_thread_may_use_a_log")

    owner: int | None = None

    def lock(self, check: Check) -> News:
        self.owner = get_ident()
        return self.log.lock(check)

    def append(self, append: Append) -> Appended | Conflict:
        self.assert_at_home()
        return self.log.append(append)

    def load(self, load: Load) -> Loaded:
        self.owner = self.owner or get_ident()
        self.assert_at_home()
        return self.log.load(load)

    def assert_at_home(self) -> None:
        if self.owner not in (None, get_ident()):
            raise StoreUnavailableError("objects created in a thread can only be used in that same thread")


class WaitsToTheEnd(Sound):
    caught_by = ("waiting_for_what_is_there_does_not_wait", "waiting_ends_when_an_event_arrives")

    def wait(self, after: int, timeout: float) -> int:
        time.sleep(timeout)
        return self.log.head().position


class DoesNotWait(Sound):
    caught_by = (
        "waiting_ends_when_an_event_arrives",
        "waiting_ends_at_its_timeout",
        "async_reads_run_beside_each_other",
    )

    def wait(self, after: int, timeout: float) -> int:
        return self.log.head().position


class KeepsRemovedValues(Sound):
    caught_by = ("small_values_are_kept_in_places", "async_values_are_kept_in_places")

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self.log.put(place, key, value or b"")


class GetsOneValueOnly(Sound):
    caught_by = ("many_values_are_got_in_one_go", "places_and_keys_are_independent")

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self.log.get(place, keys[:1])


class HasOnePlace(Sound):
    caught_by = ("places_and_keys_are_independent",)

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self.log.get("", keys)

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self.log.put("", key, value)


class FindsProblems(Sound):
    caught_by = ("a_whole_log_has_no_problems",)

    def problems(self) -> Iterator[str]:
        return iter(f"stream {info.id} looks odd" for info in self.log.streams(None, "", 10))


class NeverCloses(SoundEngine):
    caught_by = (
        "use_after_close_is_refused",
        "async_use_after_close_is_refused",
        "locking_after_close_is_refused",
        "closing_ends_the_waiting",
    )
    raises_in = ("closing_gives_the_lock_back", "async_closing_gives_the_lock_back")

    def close(self) -> None:
        pass


class ClosesAll(SoundEngine):
    raises_in = ("closing_one_engine_leaves_the_others_open",)

    opened: ClassVar[list[Engine]] = []

    def __init__(self, engine: Engine, kind: type[Sound], common: Common) -> None:
        super().__init__(engine, kind, common)
        self.opened.append(engine)

    def close(self) -> None:
        for engine in self.opened:
            engine.close()


class ForgetsWhenOpened(SoundEngine):
    caught_by = ("what_was_written_is_there_after_reopening", "many_may_open_a_new_place_at_once")
    caught_between_processes_by = ("processes_see_what_others_wrote",)

    def __init__(self, engine: Engine, kind: type[Sound], common: Common) -> None:
        super().__init__(Memory().open(), kind, common)
        self.shared = engine.capabilities
        engine.close()

    @property
    def capabilities(self) -> Capabilities:
        return self.shared


class HasOneNamespace(SoundEngine):
    caught_by = ("namespaces_are_independent", "a_log_says_where_it_is", "namespaces_of_one_engine_are_used_at_once")
    raises_in = ("resolving_one_append_leaves_the_others_alone",)

    def log(self, namespace: str) -> Log:
        return super().log("default")


class IgnoresTheCaseOfNamespaces(SoundEngine):
    caught_by = ("namespaces_are_independent",)

    def log(self, namespace: str) -> Log:
        return super().log(namespace.lower())


class PromisesNothing(SoundEngine):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(locks=False, durable=False, shared=False)


class PromisesToBeShared(SoundEngine):
    """Although it is in memory."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(locks=True, durable=False, shared=True)


class ClosesOnce(SoundEngine):
    raises_in = ("closing_twice_is_allowed",)

    closed = False

    def close(self) -> None:
        if self.closed:
            raise StoreClosedError("the store is closed")
        self.closed = True
        self.engine.close()


class WritesWhenItIsOpened(SoundEngine):
    caught_by = ("a_new_log_is_empty",)

    def log(self, namespace: str) -> Log:
        log = super().log(namespace)
        made = NewEvent(uuid4().bytes, "$made", 1, b"{}", b"{}", ("$made:1",))
        log.append(Append((made,), Check((Selection("$made:1", None),), EMPTY, {})))
        return log


class OpensInOneProcessOnly(SoundEngine):
    caught_by = ("a_forked_child_opens_its_own_engine",)

    def __init__(self, engine: Engine, kind: type[Sound], common: Common) -> None:
        super().__init__(engine, kind, common)
        if os.getpid() != common.process:
            raise StoreUnavailableError("the storage belongs to another process")


class KeepsTheLockOfTheCancelled(SoundLoop):
    raises_in = (
        "a_cancelled_waiter_does_not_get_the_lock",
        "a_caller_cancelled_at_any_moment_does_not_keep_the_lock",
    )

    async def call(self, log: Log, method: str, work: Callable[[], object]) -> object:
        begun = threading.Event()

        def begin() -> object:
            begun.set()
            return work()

        running = asyncio.get_running_loop().run_in_executor(None, begin)
        begun.wait(PATIENCE)  # what has not begun could still be cancelled
        return await running


class BlocksItsLoop(SoundLoop):
    raises_in = ("async_lock_is_exclusive_and_blocks_no_loop",)

    async def call(self, log: Log, method: str, work: Callable[[], object]) -> object:
        return work()
