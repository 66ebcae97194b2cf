"""Servers in processes of their own, as the examples start them, and what tests ask of them."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from uuid import uuid4

import httpx2

from tests.racing import eventually

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing is encrypted here, and to load the machine's certificates takes longer than a request."""

READY = {"fastapi": "Application startup complete", "flask": "Booting worker"}
"""What a server writes when another one of its workers is there."""


class Server:
    """A server that listens at `url`. What it writes is kept, to be shown when something is wrong."""

    def __init__(self, module: Sequence[str], path: Path, patience: float, workers: int) -> None:
        command = [sys.executable, "-m", *module, str(path), "--port", "0", "--workers", str(workers)]
        self.path = path
        self.url = ""
        self.written: list[str] = []
        environment = {**os.environ, "BANK_PATIENCE": str(patience)}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for_workers(self, ready: str, workers: int) -> None:
        """Returns when all of them are there."""

        def they_are_there() -> bool:
            assert self._process.poll() is None, self.written
            found = re.search(r"http://127\.0\.0\.1:\d+", "".join(self.written))
            self.url = "" if found is None else found[0]
            return self.url != "" and sum(ready in line for line in self.written) >= workers

        eventually(they_are_there)
        with self.client() as client:
            assert client.get("/health").status_code == 200, self.written

    def client(self) -> httpx2.Client:
        """A client with connections of its own."""
        return httpx2.Client(base_url=self.url, timeout=PATIENCE, verify=NO_CERTIFICATES)

    def tell_to_end(self) -> None:
        """As an operator would, or a container's runtime."""
        self._process.send_signal(signal.SIGTERM)

    def exit_status(self) -> int:
        """Waits for its end."""
        status = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.written.append(line)


@contextmanager
def serving(framework: str, path: Path) -> Iterator[Server]:
    """The service as its page says that it is started; it has ended afterwards."""
    with _ending(Server([f"examples.web_{framework}"], path, 0, 1)) as server:
        server.wait_for_workers(READY[framework], 1)
        yield server


@contextmanager
def faulty(framework: str, path: Path, *, patience: float, workers: int = 1) -> Iterator[Server]:
    """The service with faults, which waits so many seconds for others to write; it has ended afterwards."""
    with _ending(Server(["tests.examples.faulty", framework], path, patience, workers)) as server:
        server.wait_for_workers(READY[framework], workers)
        yield server


@contextmanager
def _ending(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.tell_to_end()
        server.exit_status()


def new_key() -> str:
    """A key for an order, as a client makes it."""
    return str(uuid4())


def order(
    client: httpx2.Client,
    where: str,
    body: Mapping[str, object],
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """Sends an order."""
    return client.post(where, json=body, headers={"Idempotency-Key": key or new_key(), **(headers or {})})


def open_account(client: httpx2.Client, cents: int = 0) -> str:
    """A new account, with so much on it."""
    id = f"account-{uuid4().hex[:12]}"
    assert order(client, "/accounts", {"id": id, "owner": "Alice Liddell"}).status_code == 201
    if cents:
        assert order(client, "/deposits", {"account": id, "cents": cents}).status_code == 201
    return id


def balance_of(client: httpx2.Client, id: str) -> int:
    """What is on an account."""
    balance: int = client.get(f"/accounts/{id}").json()["balance"]
    return balance


def events_in(lines: Iterator[str], count: int) -> Sequence[dict[str, str]]:
    """So many events of a stream: their fields."""
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            events.append(fields)
            if len(events) == count:
                break
        if not line:
            fields = {}
    return events
