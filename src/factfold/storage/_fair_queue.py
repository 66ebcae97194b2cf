"""A first come, first served queue over processes, made of byte locks on an empty file.

SQLite's own waiting is a lottery in which equal writers fare very unequally. Here a writer takes its turn by locking
byte 0 of the queue's file. One that has to wait draws a ticket first: it locks the byte whose number is the time of
its arrival, waits until nobody holds a lower byte (an earlier ticket, or the turn), takes the turn and gives its ticket
back.

The locks belong to an open file description (Linux), so that two engines of one process queue like two processes, and
the kernel drops those of a process that dies: a crash blocks nobody, and nothing has to be cleaned up. Order is all
that hangs on it: that only one writes at a time is seen to by SQLite's own lock.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from struct import Struct
from weakref import finalize

BRISK = 0.5e-3
LONGEST_PAUSE = 5e-3
"""Seconds. For the first half millisecond a waiter only yields the processor between two looks: the shortest sleep
takes as long as a turn. Then it sleeps for a sixteenth of what it has waited: late by little, idle when it takes long.
"""

_TURN = 0
_FIRST_TICKET = 1
_ALL = 0  # As a length: to the end of all bytes.

if sys.platform == "linux":
    import fcntl
    from fcntl import fcntl as control

    # struct flock: type, whence, start, length, process (0 for these locks). The compiler's alignment is asked for.
    _flock = Struct("@hhqqi0q")

    def _request(kind: int, start: int, length: int) -> bytes:
        return _flock.pack(kind, os.SEEK_SET, start, length, 0)

    _LOCK_TURN = _request(fcntl.F_WRLCK, _TURN, 1)
    _LOOK_AT_ALL = _request(fcntl.F_WRLCK, _TURN, _ALL)
    _UNLOCK_ALL = _request(fcntl.F_UNLCK, _TURN, _ALL)
    _FREE = _flock.pack(fcntl.F_UNLCK, 0, 0, 0, 0)[:2]

    class FairQueue:
        """One place where a writer can stand. Its methods are called by one thread at a time."""

        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor
            self._close = finalize(self, os.close, descriptor)
            self._has_turn = False

        @classmethod
        def open(cls, path: str, mode: int) -> FairQueue | None:
            """Opens the queue's file, or makes it with these permissions. None where such locks cannot be had."""
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
            except OSError:
                return None
            try:
                control(descriptor, fcntl.F_OFD_GETLK, _LOOK_AT_ALL)
                if os.fstat(descriptor).st_mode & 0o777 != mode:
                    # The umask must not keep out those who may write to the database.
                    with contextlib.suppress(PermissionError):
                        os.fchmod(descriptor, mode)
                return cls(descriptor)
            except OSError:
                os.close(descriptor)
                return None

        def take_at_once(self) -> bool:
            """Takes the turn if nobody else has it or waits for it."""
            self._has_turn = self._is_free(_LOOK_AT_ALL) and self._lock(_LOCK_TURN)
            return self._has_turn

        def take(self, pause: Callable[[float], None]) -> None:
            """Waits for the turn. Between two looks it calls `pause`, which sleeps or raises to give up."""
            if self._has_turn or self.take_at_once():
                return
            began = time.monotonic()
            ticket = self._draw()
            look_before_me = _request(fcntl.F_WRLCK, _TURN, ticket)
            while not (self._is_free(look_before_me) and self._lock(_LOCK_TURN)):
                waited = time.monotonic() - began
                if waited < BRISK:
                    pause(0.0)
                    os.sched_yield()
                else:
                    pause(min(waited / 16, LONGEST_PAUSE))
            self._has_turn = True
            control(self._descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, ticket, 1))

        def give(self) -> None:
            """Gives back the turn and the ticket, or whatever of them is held."""
            self._has_turn = False
            control(self._descriptor, fcntl.F_OFD_SETLK, _UNLOCK_ALL)

        def close(self) -> None:
            """Closes the file, and with it gives back what is held. The file stays: others may stand in the queue."""
            self._close()

        def _draw(self) -> int:
            ticket = max(_FIRST_TICKET, time.monotonic_ns())
            while not self._lock(_request(fcntl.F_WRLCK, ticket, 1)):
                ticket += 1
            return ticket

        def _is_free(self, request: bytes) -> bool:
            """Whether nobody else holds one of these bytes."""
            return control(self._descriptor, fcntl.F_OFD_GETLK, request)[:2] == _FREE

        def _lock(self, request: bytes) -> bool:
            try:
                control(self._descriptor, fcntl.F_OFD_SETLK, request)
            except BlockingIOError:
                return False
            return True

else:

    class FairQueue:
        """Elsewhere there are no such locks: writers poll for SQLite's own."""

        @classmethod
        def open(cls, path: str, mode: int) -> FairQueue | None:
            """None: there is no queue."""
            return None

        def take_at_once(self) -> bool:
            return True

        def take(self, pause: Callable[[float], None]) -> None: ...
        def give(self) -> None: ...
        def close(self) -> None: ...
