"""Announcements, with threads: writers tell that a log has grown, and whoever waits for that hears it.

An announcement is a hint and nothing rests on it: who waits looks at the log now and then all the same. It is sent in a
transaction of its own, since NOTIFY lets one transaction commit at a time, in all databases of a server. Both threads
begin when there is something to do, and end when there has been nothing for a while.
"""

from __future__ import annotations

import contextlib
import threading
import time

from factfold.errors import FactfoldError
from factfold.storage._postgres_schema import announcement, listening
from factfold.storage._postgres_sessions import Session, Sessions
from factfold.storage._postgres_wire import ConnectionLostError, Script, ServerError

INTERVAL = 5e-3
"""Seconds between two announcements of one engine: what came meanwhile is announced together."""

POLL = 1.0
"""Seconds between two looks of somebody who would be told."""

SHORT_POLL = 20e-3
"""The same, of somebody who would not: behind a pooler, or while the connection is made anew."""

IDLE = 30.0
"""Seconds after which a thread ends that has had nothing to do."""

LONGEST_PAUSE = 1.0
"""Seconds before the connection that was lost is made anew, at most."""


class Announcer:
    """Tells other processes that logs have grown, in a thread of its own."""

    def __init__(self, sessions: Sessions, schema: str) -> None:
        self._sessions = sessions
        self._schema = schema
        self.forget()

    def forget(self) -> None:
        """Begins anew, as a child process does."""
        self._grown: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._resting = False

    def announce(self, namespace: str) -> None:
        """Returns at once. Costs next to nothing while the thread rests between two announcements."""
        self._grown.add(namespace)
        if not self._resting:
            with self._changed:
                if self._thread is not None:
                    self._changed.notify()
                    return
                thread = threading.Thread(target=self._run, name="factfold-announcer", daemon=True)
                with contextlib.suppress(RuntimeError):  # No more threads: the interpreter is going to end.
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._grown or self._sessions.closed, IDLE)
                if not self._grown or self._sessions.closed:
                    self._thread = None
                    return
                self._resting = True
            while self._grown:
                namespace = self._grown.pop()
                try:
                    self._sessions.ask(announcement(self._schema, namespace))
                except FactfoldError:
                    break  # Who waits will look for himself.
            time.sleep(INTERVAL)
            self._resting = False


class Listener:
    """Hears announcements, in a thread of its own with a session of its own, while somebody waits for them."""

    def __init__(self, sessions: Sessions, schema: str, *, listens: bool) -> None:
        self._sessions = sessions
        self._schema = schema
        self._listens = listens
        self.forget()

    def forget(self) -> None:
        """Begins anew, as a child process does."""
        self._heard: dict[str, int] = {}
        self._beginnings = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._waiting = 0

    def heard(self, namespace: str) -> tuple[int, int]:
        """Changes when something is announced of this namespace, and when it may have been missed."""
        return self._beginnings, self._heard.get(namespace, 0)

    def wait(self, namespace: str, heard: tuple[int, int], seconds: float) -> None:
        """Returns when `heard` has changed, or it is time to look."""
        with self._changed:
            if self._listens and self._thread is None:
                thread = threading.Thread(target=self._run, name="factfold-listener", daemon=True)
                thread.start()
                self._thread = thread
            self._waiting += 1
            try:
                poll = SHORT_POLL if self._session is None else POLL
                self._changed.wait_for(
                    lambda: self._sessions.closed or self.heard(namespace) != heard, min(seconds, poll)
                )
            finally:
                self._waiting -= 1

    def close(self) -> None:
        """Ends the thread, and wakes those who wait; the engine is closed."""
        with self._changed:
            self._changed.notify_all()
            session, thread = self._session, self._thread
        if session is not None:
            session.interrupt()
        if thread is not None:
            thread.join(LONGEST_PAUSE)

    def _run(self) -> None:
        pause = SHORT_POLL
        while not self._sessions.closed:
            session: Session | None = None
            try:
                session = self._sessions.connect()
                session.ask(listening(self._schema))
                self._begin(session)
                pause = SHORT_POLL
                self._hear_until_idle(session)
                if self._end():
                    return
            except (FactfoldError, ServerError, ConnectionLostError):
                with self._changed:
                    self._changed.wait_for(lambda: self._sessions.closed, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            finally:
                self._session = None
                if session is not None:
                    session.close()

    def _hear_until_idle(self, session: Session) -> None:
        """Also asks now and then, since of a connection that was cut nothing would ever be heard."""
        asked = used = time.monotonic()
        while not self._sessions.closed:
            self._hear(session.notices(POLL))
            now = time.monotonic()
            if self._waiting:
                used = now
            elif now - used > IDLE:
                return
            if now - asked > IDLE / 2:
                session.ask(Script(b"SELECT"))
                asked = now

    def _begin(self, session: Session) -> None:
        with self._changed:
            self._session = session
            self._beginnings += 1
            self._changed.notify_all()

    def _hear(self, namespaces: list[str]) -> None:
        if namespaces:
            with self._changed:
                for namespace in namespaces:
                    self._heard[namespace] = self._heard.get(namespace, 0) + 1
                self._changed.notify_all()

    def _end(self) -> bool:
        """Whether the thread may end: unless somebody waits again."""
        with self._changed:
            if not self._waiting:
                self._thread = None
            return self._thread is None
