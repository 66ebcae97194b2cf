"""A TCP proxy that breaks what passes through it, by command: the network between a store and its server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, TypeAlias, TypeVar

from tests.servers.site import PATIENCE, free_port

T = TypeVar("T")

Direction: TypeAlias = Literal["requests", "answers"]
"""From the client to the server, or back."""

DIRECTIONS: tuple[Direction, ...] = ("requests", "answers")
CHUNK = 256 * 1024


@dataclass
class Trap:
    """Waits for a text in one direction; forwards that part of the message that holds it, and cuts the connection."""

    direction: Direction
    text: bytes
    part: float
    sprung: threading.Event = field(default_factory=threading.Event)

    def caught(self, timeout: float = PATIENCE) -> None:
        """Returns when it has cut a connection."""
        assert self.sprung.wait(timeout), f"{self.text!r} has not passed through the proxy within {timeout} seconds"


@dataclass(eq=False)
class _Link:
    """One client's connection and the one that goes on from it to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    gates: dict[Direction, asyncio.Event] = field(
        default_factory=lambda: {direction: asyncio.Event() for direction in DIRECTIONS}
    )

    def set_gates(self, stalled: set[Direction]) -> None:
        for direction, gate in self.gates.items():
            if direction in stalled:
                gate.clear()
            else:
                gate.set()

    def cut(self) -> None:
        _reset(self.client)
        _reset(self.server)


class Proxy:
    """Forwards connections to 127.0.0.1:`to`, in a thread of its own; entered by `with`. Used from any thread.

    `port` is where it listens. `received` counts the bytes that came in each direction, forwarded or not.
    """

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.received: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self._to = to
        self._delay = 0.0
        self._cuts = 0
        self._stalled: set[Direction] = set()
        self._traps: list[Trap] = []
        self._watched: list[tuple[Direction, bytes, threading.Event]] = []
        self._links: set[_Link] = set()
        self._abandoned: set[_Link] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
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

    # -- What can be commanded -----------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def cut(self) -> None:
        """Cuts all connections, on both sides, at once."""
        self._do(self._cut())

    def abandon(self) -> None:
        """Cuts the clients off; the server does not hear of it, as when a cable breaks. What is stalled stays so."""
        self._do(self._abandon())

    def stall(self, *directions: Direction) -> None:
        """Goes on accepting, and forwards nothing in these directions (none given: in both), not even an end."""
        self._do(self._stall(set(directions or DIRECTIONS)))

    def resume(self) -> None:
        """Forwards what was held back, and all that comes."""
        self._do(self._stall(set()))

    def deliver_late(self) -> None:
        """Forwards to the server what abandoned clients had sent before they were cut off, and which was stalled."""
        self._do(self._deliver_late())

    def delay(self, seconds: float) -> None:
        """Keeps every packet for so long, one after another in each direction, from now on."""
        self._delay = seconds

    def refuse(self) -> None:
        """Refuses new connections; those that there are stay."""
        self._do(self._close_door())

    def accept(self) -> None:
        """Accepts new connections again; does nothing where it does already."""
        self._do(self._reopen_door())

    def trap(self, direction: Direction, text: bytes, *, part: float) -> Trap:
        """Lays a trap for the next message that holds the text: of it so much passes (0.0 to 1.0), then it is cut."""
        trap = Trap(direction, text, part)
        self._traps.append(trap)
        return trap

    def watch(self, direction: Direction, text: bytes) -> threading.Event:
        """Is set when a message that holds the text has come, forwarded or not."""
        seen = threading.Event()
        self._watched.append((direction, text, seen))
        return seen

    # -- In the thread -------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _begin(self) -> None:
        await self._open_door()

    async def _end(self) -> None:
        await self._close_door()
        await self._cut()
        for link in self._abandoned:
            link.cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open_door(self) -> None:
        self._door = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _reopen_door(self) -> None:
        if not self._door.is_serving():
            await self._open_door()

    async def _close_door(self) -> None:
        self._door.close()

    async def _stall(self, directions: set[Direction]) -> None:
        self._stalled = directions
        for link in self._links:
            link.set_gates(directions)

    async def _deliver_late(self) -> None:
        for link in self._abandoned:
            link.set_gates(set())

    async def _cut(self) -> None:
        self._cuts += 1
        for link in self._links:
            link.cut()
        self._links.clear()

    async def _abandon(self) -> None:
        for link in self._links:
            _reset(link.client)
        self._abandoned |= self._links
        self._links.clear()

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        cuts = self._cuts
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            _reset(client)
            return
        if cuts != self._cuts or not self._door.is_serving():  # it came just before
            _reset(client)
            _reset(server)
            return
        link = _Link(client, server)
        link.set_gates(self._stalled)
        self._links.add(link)
        for pump in (self._pump(link, "requests", reader, server), self._pump(link, "answers", from_server, client)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, link: _Link, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while chunk := await reader.read(CHUNK):
                self.received[direction] += len(chunk)
                for watched, text, seen in self._watched:
                    if watched == direction and text in chunk:
                        seen.set()
                if self._delay:
                    await asyncio.sleep(self._delay)
                await link.gates[direction].wait()
                trap = next((each for each in self._traps if each.direction == direction and each.text in chunk), None)
                writer.write(chunk if trap is None else chunk[: round(len(chunk) * trap.part)])
                await writer.drain()
                if trap is not None:
                    self._traps.remove(trap)
                    writer.close()  # once what was written is on its way
                    trap.sprung.set()
                    break
            else:
                await link.gates[direction].wait()
        except OSError:
            pass  # one of the two is gone, and the other one is told
        if link in self._links:
            self._links.discard(link)
            link.cut()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection without a farewell: what was not sent is dropped, and the other side gets an error."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0 and not writer.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
