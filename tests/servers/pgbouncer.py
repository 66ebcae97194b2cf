"""PgBouncer in transaction mode before a server: what one client leaves in its session, another one finds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path
from types import TracebackType

from tests.servers.postgres import PASSWORD, ROLE, PostgresServer
from tests.servers.site import PATIENCE, Site, free_port

SERVER_CONNECTIONS = 4
"""Fewer than the clients of a test have, so that they have to share them."""

SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
"""


class PgBouncer:
    """A pooler before `server`; entered by `with`. `url` is that of the server, by way of the pooler."""

    def __init__(self, site: Site, server: PostgresServer, program: Path) -> None:
        self.port = free_port()
        self.url = server.url_for(port=self.port)
        self._site = site
        self._folder = site.make_folder("pgbouncer")
        (self._folder / "users").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        settings = SETTINGS.format(
            server_port=server.port, port=self.port, folder=self._folder, connections=SERVER_CONNECTIONS
        )
        (self._folder / "pgbouncer.ini").write_text(settings)
        self._process = site.run([program, self._folder / "pgbouncer.ini"], self._folder)

    def __enter__(self) -> PgBouncer:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                if self._site.ends_within(self._process, 0.01):
                    raise RuntimeError(f"PgBouncer did not start:\n{self._log()}") from None
                if time.monotonic() > deadline:
                    raise TimeoutError(f"PgBouncer does not listen after {PATIENCE} s:\n{self._log()}") from None
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self._process, signal.SIGTERM)  # at once, whoever is connected
        if not self._site.ends_within(self._process):
            raise TimeoutError(f"PgBouncer has not ended after {PATIENCE} s:\n{self._log()}")

    def _log(self) -> str:
        return (self._folder / "output.log").read_text()


def find_pgbouncer() -> Path | None:
    """The program, on PATH or where Debian puts it; None where it is not installed."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return None if found is None else Path(found)
