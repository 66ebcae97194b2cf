"""A pooler in small that forgets: after each transaction a session's state is dropped, and the next client gets it.

It stands for every pooler in transaction mode, and is there where PgBouncer is not installed. Unlike that one it leaves
nothing in a session; what one leaves there, the other one's clients stumble over.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import NamedTuple, TypeVar

from tests.servers.postgres import DATABASE, ROLE, PostgresServer
from tests.servers.site import PATIENCE, free_port

T = TypeVar("T")

SERVER_CONNECTIONS = 4

PROTOCOL, CANCEL, ENCRYPTIONS = 196_608, 80_877_102, (80_877_103, 80_877_104)
"""The codes of PostgreSQL's first messages (documentation, "Message Formats")."""


class Message(NamedTuple):
    """A message of PostgreSQL's protocol: its type, and all its bytes."""

    type: bytes
    raw: bytes

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Message:
        head = await reader.readexactly(5)
        (size,) = struct.unpack("!i", head[1:])
        return cls(head[:1], head + await reader.readexactly(size - 4))

    @classmethod
    def of(cls, type: bytes, body: bytes) -> Message:
        return cls(type, type + struct.pack("!i", len(body) + 4) + body)

    @property
    def ends_a_request(self) -> bool:
        """Whether the server will answer with a ReadyForQuery."""
        return self.type in (b"Q", b"S")

    @property
    def is_idle(self) -> bool:
        """Whether this is a ReadyForQuery outside of any transaction."""
        return self.type == b"Z" and self.raw[-1:] == b"I"


class Incoming:
    """What one side sends, message by message. Who stops waiting for the next one loses nothing."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._next: asyncio.Task[Message] | None = None

    @property
    def next(self) -> asyncio.Task[Message]:
        """The next message, as a task that may be waited for together with others."""
        if self._next is None:
            self._next = asyncio.create_task(Message.read(self._reader))
            self._next.add_done_callback(_look_at)
        return self._next

    def take(self) -> Message:
        """The next message, which has come."""
        message = self.next.result()
        self._next = None
        return message


def _look_at(task: asyncio.Task[Message]) -> None:
    """An end that nobody waited for is no error."""
    if not task.cancelled():
        task.exception()


class Session:
    """A connection to the server; `greeting` is what the server said of itself at its beginning."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.incoming = Incoming(reader)
        self.writer = writer
        self.greeting = b""

    @classmethod
    async def open(cls, server: PostgresServer) -> Session:
        session = cls(*await asyncio.open_unix_connection(str(server.folder / f".s.PGSQL.{server.port}")))
        who = f"user\0{ROLE}\0database\0{DATABASE}\0\0".encode()
        session.writer.write(struct.pack("!ii", len(who) + 8, PROTOCOL) + who)
        session.greeting = await session.until_idle()
        return session

    async def forget(self) -> None:
        """Drops all that the last client has left."""
        self.writer.write(Message.of(b"Q", b"DISCARD ALL\0").raw)
        await self.until_idle()

    async def until_idle(self) -> bytes:
        """Reads until the server is ready; what it said."""
        said = b""
        while True:
            await asyncio.wait([self.incoming.next])
            message = self.incoming.take()
            said += message.raw
            if message.is_idle:
                return said


class ForgettingPooler:
    """Stands before a server, in a thread of its own; entered by `with`. `url` is that of the server, by way of it."""

    def __init__(self, server: PostgresServer) -> None:
        self.port = free_port()
        self.url = server.url_for(port=self.port)
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pooler", daemon=True)
        self._idle: list[Session] = []
        self._serving: set[asyncio.Task[object] | None] = set()

    def __enter__(self) -> ForgettingPooler:
        self._thread.start()
        self._do(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _do(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _begin(self) -> None:
        self._places = asyncio.Semaphore(SERVER_CONNECTIONS)
        self._door = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._door.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self._idle:
            session.writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A loop holds its tasks weakly: one whose client has gone would be collected while it waits for its session.
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            if await self._greet(reader, writer):
                client = Incoming(reader)
                while (await client.next).type != b"X":
                    await self._run_transaction(client, writer)
        except (OSError, EOFError):
            pass  # the client is gone, or the session that served it
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Lets a client in, whatever its password. False when it wants something else than a session."""
        while True:
            size, code = struct.unpack("!ii", await reader.readexactly(8))
            wishes = await reader.readexactly(size - 8)
            if code == CANCEL:
                return False
            if code not in ENCRYPTIONS:
                break
            writer.write(b"N")
        if b"\0options\0" in wishes:
            writer.write(Message.of(b"E", b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0").raw)
            await writer.drain()
            return False
        async with self._places:
            session = await self._take_session()
            writer.write(session.greeting)
            self._idle.append(session)
        return True

    async def _take_session(self) -> Session:
        return self._idle.pop(0) if self._idle else await Session.open(self._server)

    async def _run_transaction(self, client: Incoming, writer: asyncio.StreamWriter) -> None:
        """Gives the client a session until the server is idle again and nothing was begun since."""
        async with self._places:
            session = await self._take_session()
            try:
                await self._forward(client, writer, session)
                await session.forget()
            except BaseException:
                session.writer.transport.abort()
                raise
            self._idle.append(session)

    async def _forward(self, client: Incoming, writer: asyncio.StreamWriter, session: Session) -> None:
        unanswered, complete = 0, False
        while True:
            await asyncio.wait([client.next, session.incoming.next], return_when=asyncio.FIRST_COMPLETED)
            if session.incoming.next.done():
                answer = session.incoming.take()
                writer.write(answer.raw)
                await writer.drain()
                unanswered -= answer.type == b"Z"
                if answer.is_idle and unanswered == 0 and complete:
                    return
            elif client.next.done():
                request = client.take()
                session.writer.write(request.raw)
                await session.writer.drain()
                complete = request.ends_a_request
                unanswered += complete
