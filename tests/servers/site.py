"""Where the servers of a test session live: one temporary folder, an unprivileged user, and the keeper of it all."""

from __future__ import annotations

import json
import os
import pwd
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.servers import keeper

PATIENCE = 60.0
"""Seconds after which a server that does not start, or does not end, is a failure."""

USERS = ("nobody", "postgres", "daemon")
"""Who may run a server that refuses to be run by root."""

PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: a port stays free while its server is down."""


class User(NamedTuple):
    """A user's name, number and main group."""

    name: str
    uid: int
    gid: int


class Site:
    """A folder for servers. Entered by `with`; at the end all that was started in it is ended, and the folder removed.

    Used from any thread. When the tests are killed, what stands above happens all the same.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.user = _unprivileged_user() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="factfold-servers-", dir=directory))
        self.folder.chmod(0o755)
        self._asking = threading.Lock()
        with open(self.folder / "keeper.log", "wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything, and waits until it is gone."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(PATIENCE)
        self._keeper.stdout.close()

    def make_folder(self, name: str) -> Path:
        """A folder of its own for a server, which belongs to the user who runs it."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid)
        return folder

    def run(self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] = {}) -> int:
        """Runs a program in the background, as the unprivileged user; its process id. It prints to output.log."""
        return self._ask(
            run=[str(each) for each in command],
            output=str(folder / "output.log"),
            folder=str(folder),
            environment=_environment(environment),
            user=self.user and self.user.uid,
            group=self.user and self.user.gid,
        )

    def ends_within(self, process: int, seconds: float = PATIENCE) -> bool:
        """Waits for what `run` has started. To be asked once it has ended no more."""
        return self._ask(wait=process, seconds=seconds) is not None

    def call(
        self, command: Sequence[str | Path], *, input: str | None = None, environment: Mapping[str, str] = {}
    ) -> str:
        """Runs a program to its end, as the unprivileged user; what it printed. Fails with what it complained of."""
        done = subprocess.run(
            [str(each) for each in command],
            input="" if input is None else input,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=self.folder,
            env=_environment(environment),
            user=self.user and self.user.uid,
            group=self.user and self.user.gid,
            extra_groups=None if self.user is None else [],
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def _ask(self, **request: object) -> int:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        with self._asking:
            self._keeper.stdin.write(json.dumps(request) + "\n")
            self._keeper.stdin.flush()
            line = self._keeper.stdout.readline()
        if not line:
            raise RuntimeError(f"the keeper is gone:\n{(self.folder / 'keeper.log').read_text()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the keeper could not serve {request}: {answer['error']}")
        given: int = answer["answer"]
        return given


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"none of 100 ports between {PORTS.start} and {PORTS.stop} is free")


def _unprivileged_user() -> User:
    for name in USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, found.pw_uid, found.pw_gid)
    raise RuntimeError(f"PostgreSQL refuses to be run by root, and there is none of the users {', '.join(USERS)}")


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a program needs of the environment: nothing by which somebody configured another PostgreSQL."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC", **more}
