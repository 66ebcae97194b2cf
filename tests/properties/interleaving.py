"""Several hearts on one log, and somebody who decides what happens next: all that could, and what had better not.

The first of what can happen is the plain course of things, so that what hypothesis shrinks gets plainer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
from hypothesis import note

from factfold import Transaction
from factfold.errors import FactfoldError, StoreUnavailableError
from factfold.events import new_event_ids
from factfold.job import Job, Turn
from factfold.once import Once
from factfold.receipt import Receipt
from factfold.requests import Lock, Sleep, Unlock
from factfold.settings import do_nothing
from factfold.storage.base import Append, Appended, Check, Head, NewEvent, StoredEvent
from factfold.storage.memory import Memory
from tests.properties.boxes import LENSES, Blue, BrokenError, Event, Knot, Red
from tests.properties.chance import Chance
from tests.properties.driven import DrivenHeart
from tests.properties.laws import Call, check_cache, check_calls, check_log, check_nothing_is_pinned, check_runs
from tests.properties.model import facts_of
from tests.properties.programs import IDS, Program, poisoned

Action = Callable[[], object]
KINDS_OF_EVENTS: tuple[type[Event], ...] = (Red, Blue, Knot)
ENOUGH = 10_000
SOME_STREAMS = (("box:0",), ("pot:0",), ("box:0", "pot:0"), ("box:0", "box:1"))


@dataclass(eq=False)
class _Waiting:
    """A call that is on its way through a heart."""

    call: Call
    heart: DrivenHeart
    job: Job
    once: Once | None


@dataclass
class Interleaving:
    """Runs the programs on the hearts, in an order that is decided by chance.

    Args:
        memory: where the log is.
        hearts: on this log.
        programs: given to the hearts in their order.
        keys: for each program the key of its `execute_once`, None to execute it plainly.
        chance: decides, until it is over. Then all goes straight on to the end.
    """

    memory: Memory
    hearts: Sequence[DrivenHeart]
    programs: Sequence[Program]
    keys: Sequence[str | None]
    chance: Chance
    calls: list[Call] = field(default_factory=list)
    _waiting: list[_Waiting] = field(default_factory=list)
    _late: list[Append] = field(default_factory=list)
    _numbers: int = 0
    _depth: int = 0
    _running: bool = False

    def warm_up(self) -> None:
        """Some history, which all the hearts know by heart."""
        self._stranger(6)
        for heart in self.hearts:
            heart.execute(look_at_everything)

    def run(self) -> None:
        """Until everybody has an answer."""
        for program in self.programs:
            program.meanwhile = self.meanwhile
        for heart in self.hearts:
            heart.refuses = lambda append: poisoned(facts_of(append.events))
            heart.moved = partial(self._check_cache, heart)
        self._running = True
        while not self.chance.is_over and (self._waiting or len(self.calls) < len(self.programs)):
            self._act()
            self._look()
        self._running = False
        self._finish()

    def check(self) -> None:
        """All that has to hold in the end."""
        stored = self.stored
        check_log(stored)
        check_runs(self.programs, stored)
        check_calls(self.calls, stored)
        for heart in self.hearts:
            heart.execute(do_nothing)
            check_nothing_is_pinned(heart.heart.cache)

    @property
    def stored(self) -> list[StoredEvent]:
        """The log."""
        return self.memory.namespace("default").events

    def meanwhile(self) -> None:
        """What others do while a command runs, or while a load is folded."""
        if self._depth == 0 and self._running:
            self._depth += 1
            try:
                for _ in range(self.chance.choose((0, 0, 0, 0, 1, 3))):
                    self._act()
            finally:
                self._depth -= 1

    def interrupt_command(self) -> None:
        """Ctrl-C, while a command runs."""
        raise KeyboardInterrupt

    # -- what can happen -------------------------------------------------------------------------------------------

    def _act(self) -> None:
        plain = self._progress
        some = self.chance.choose((plain, plain, plain, plain, plain, self._strangers, self._disturbances))
        self._do(some() or [self._nothing])

    def _do(self, actions: Sequence[Action]) -> None:
        """Does one of these, and tells about it in the report on a failure."""
        action = self.chance.choose(actions)
        what, given = (action.func, action.args) if isinstance(action, partial) else (action, ())
        owner = getattr(what, "__self__", None)
        whose = [f"heart {number}" for number, heart in enumerate(self.hearts) if heart in (owner, *given)]
        numbers = [str(each) for each in given if isinstance(each, int)]
        note(" ".join([*["   "] * self._depth, what.__name__.strip("_"), *numbers, *whose]))
        action()

    def _progress(self) -> list[Action]:
        found: list[Action] = []
        for heart in self.hearts:
            if heart.can_lead:
                found.append(heart.lead)
            if heart.answered and not heart.busy:
                found.append(heart.deliver)
            if heart.can_prepare:
                found.append(heart.prepare)
            if heart.can_perform:
                found.append(heart.perform)
            found += [
                partial(heart.deliver_load if flight.landed else heart.perform_load, flight) for flight in heart.flights
            ]
            if heart.heart.missing.loadings:
                found.append(heart.ask)
                found += [partial(heart.ask, job) for job in heart.jobs if heart.heart.missing.can_load(job)]
        if len(self.calls) < len(self.programs):
            found += [partial(self._call, heart, burst) for heart in self.hearts for burst in (1, 3)]
        return found

    def _disturbances(self) -> list[Action]:
        found: list[Action] = []
        if self._free:
            found += [partial(self._arrive, append) for append in self._late]
        for heart in self.hearts:
            if heart.request is not None and not heart.busy:
                found.append(heart.interrupt)
                if isinstance(heart.request, Append):
                    found.append(partial(self._lose, heart, heart.request))
            found += [partial(heart.abandon_load, flight) for flight in heart.flights]
        found.append(self._rarely)
        if self._depth:
            found.append(self.interrupt_command)
        return found

    def _call(self, heart: DrivenHeart, burst: int) -> None:
        for _ in range(min(burst, len(self.programs) - len(self.calls))):
            self._execute(heart)

    def _rarely(self) -> None:
        """What ends a command for good: of those that are ended soon, there is little to be learned."""
        self._do((self._nothing, self._nothing, *self._failures()))

    def _failures(self) -> list[Action]:
        callers = [waiting for waiting in self._waiting if waiting.job not in waiting.heart.folding]
        found: list[Action] = [partial(self._leave, waiting) for waiting in callers[:1]]
        for heart in self.hearts:
            if heart.request is not None and not heart.answered and not isinstance(heart.request, Unlock | Sleep):
                found.append(partial(heart.fail, StoreUnavailableError("nobody there")))
            found += [partial(heart.fail_load, flight) for flight in heart.flights[:1]]
        return found

    def _execute(self, heart: DrivenHeart) -> None:
        index = len(self.calls)
        program, key = self.programs[index], self.keys[index]
        call = Call(program, len(self.stored), key)
        self.calls.append(call)
        once = None if key is None else Once(key, program, (), {})
        self._waiting.append(_Waiting(call, heart, heart.submit(once or program), once))

    def _leave(self, waiting: _Waiting) -> None:
        """The caller gives up: it will not hear what became of its command."""
        self._waiting.remove(waiting)
        waiting.heart.leave(waiting.job)

    def _nothing(self) -> None:
        pass

    def _strangers(self) -> list[Action]:
        return [partial(self._stranger, count) for count in (1, 1, 3)] if self._free else []

    @property
    def _free(self) -> bool:
        return not self.memory.namespace("default").writers.locked()

    def _stranger(self, count: int) -> None:
        """Somebody appends to whatever streams, without a look at them."""
        events: list[tuple[Event, tuple[str, ...]]] = []
        for _ in range(count):
            self._numbers += 1
            event = self.chance.choose(KINDS_OF_EVENTS)(self._numbers)
            events.append((event, self.chance.choose((*SOME_STREAMS, *self._in_question()))))
        append_blindly(self.memory, events)

    def _in_question(self) -> list[tuple[str, ...]]:
        """The streams that somebody is about to decide on, or is loading: there a stranger does most harm."""
        found: list[tuple[str, ...]] = []
        for heart in self.hearts:
            match heart.request:
                case Append(check=check) | Lock(check=check) | (Check() as check) if not heart.answered:
                    found += [(selection.stream,) for selection in check.selections]
                case _:
                    pass
            found += [(wanted.selection.stream,) for flight in heart.flights for wanted in flight.task.load.wanted]
        return [streams for streams in found if not streams[0].startswith("$")]

    def _lose(self, heart: DrivenHeart, append: Append) -> None:
        """The answer to an append is lost, or the append itself is: then it may come in later."""
        if not heart.answered:
            self._late.append(append)
        heart.lose()

    def _arrive(self, append: Append) -> None:
        self._late.remove(append)
        log = self.memory.open().log("default")
        with contextlib.suppress(FactfoldError):  # it is void, or rests on nothing
            log.append(append)

    # -- what is seen ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting.job.turn is Turn.DONE]:
            self._waiting.remove(waiting)
            self._hear(waiting)

    def _hear(self, waiting: _Waiting) -> None:
        call = waiting.call
        call.until = len(self.stored)
        try:
            receipt = waiting.job.receipt()
        except Exception as error:
            call.error = error
            return
        if waiting.once is not None:
            first = waiting.once.receipt(receipt)
            if not isinstance(first, Receipt):
                log = waiting.heart.log
                (stored,) = log.read_stream(waiting.once.last_page())
                events = log.read(waiting.once.events_page(stored, first)) if first.events else ()
                first = waiting.once.repeated(first, events, None)
            receipt = first
        call.result, call.events, call.repeated = receipt.result, receipt.events, receipt.repeated

    def _check_cache(self, heart: DrivenHeart) -> None:
        head = heart.heart.cache.head
        if not heart.heart._spoiled and head is not None:
            check_cache(heart.heart.cache, self._history(head))

    def _history(self, head: Head) -> list[StoredEvent]:
        """The log that had this head."""
        return self.stored

    def _finish(self) -> None:
        for _ in range(ENOUGH):
            if len(self.calls) < len(self.programs):
                self._execute(self.hearts[len(self.calls) % len(self.hearts)])
            moved = [heart.step() for heart in self.hearts]
            self._look()
            for append in self._late:
                if self._free:
                    self._arrive(append)
                    break
            if not any(moved):
                break
        assert not self._waiting, f"nobody answers {[waiting.call for waiting in self._waiting]}"


def look_at_everything(tx: Transaction) -> None:
    """A command that reads all there is."""
    tx.read([lens.at(str(id)) for lens in LENSES[:-1] for id in range(IDS)])
    for id in range(IDS):
        with contextlib.suppress(BrokenError):
            tx.read(LENSES[-1].at(str(id)))


def restore_backup(memory: Memory, position: int) -> None:
    """The log is again what it was at this position."""
    namespace = memory.namespace("default")
    del namespace.events[position:]
    for positions in namespace.streams.values():
        positions[:] = [each for each in positions if each <= position]


def append_blindly(memory: Memory, events: Sequence[tuple[Event, tuple[str, ...]]]) -> None:
    """Appends events under no condition at all, as another process may."""
    log = memory.open().log("default")
    news = tuple(
        NewEvent(id, type(event).__name__, 1, msgspec.json.encode(event), b"{}", streams)
        for id, (event, streams) in zip(new_event_ids(len(events)), events, strict=True)
    )
    appended = log.append(Append(news, Check((), log.head(), {})))
    assert isinstance(appended, Appended)
