"""The proxy of the failure tests does what it is told, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.faults import PATIENCE
from tests.racing import eventually, start
from tests.servers.proxy import Proxy
from tests.servers.site import free_port


class Echo:
    """A server that answers with what it is sent, in capitals; `heard` is what each connection has sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: list[bytearray] = []
        self.ended: list[threading.Event] = []
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._door.accept()
                self.heard.append(bytearray())
                self.ended.append(threading.Event())
                work = (connection, self.heard[-1], self.ended[-1])
                threading.Thread(target=self._serve, args=work, daemon=True).start()

    def _serve(self, connection: socket.socket, heard: bytearray, ended: threading.Event) -> None:
        with connection, suppress(OSError):
            while found := connection.recv(4096):
                heard += found
                connection.sendall(found.upper())
        ended.set()

    def close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through the proxy to the server, which has answered already."""
    with connect(proxy) as client:
        assert ask(client, b"hello") == b"HELLO"
        yield client


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return receive(client)


def receive(client: socket.socket) -> bytes:
    """What comes next; empty when the connection was ended, in whatever way."""
    try:
        return client.recv(4096)
    except ConnectionError:
        return b""


def test_it_forwards_both_ways(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"more") == b"MORE"
    assert proxy.received == {"requests": 9, "answers": 9}
    assert proxy.connections == 1


def test_a_large_message_passes_whole(proxy: Proxy) -> None:
    with connect(proxy) as client:
        text = b"abc" * 1_000_000
        sending = start(client.sendall, text)
        answer = bytearray()
        while len(answer) < len(text):
            answer += receive(client)
        sending.result()
    assert answer == text.upper()


def test_what_one_side_ends_is_ended_for_the_other(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    client.close()
    assert echo.ended[0].wait(PATIENCE)
    eventually(lambda: proxy.connections == 0)


def test_a_cut_ends_both_sides_and_new_connections_work(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.cut()
    assert receive(client) == b""
    assert echo.ended[0].wait(PATIENCE)
    with connect(proxy) as another:
        assert ask(another, b"x") == b"X"


def test_of_clients_that_are_abandoned_the_server_does_not_hear(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.abandon()
    assert receive(client) == b""
    with connect(proxy) as another:
        assert ask(another, b"x") == b"X"
    assert not echo.ended[0].is_set()


def test_stalled_requests_arrive_when_they_are_let_through(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.stall("requests")
    client.sendall(b"late")
    eventually(lambda: proxy.received["requests"] == 9)
    assert echo.heard[0] == b"hello"
    proxy.resume()
    assert receive(client) == b"LATE"


def test_stalled_answers_are_held_back_while_requests_arrive(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.stall("answers")
    client.sendall(b"late")
    eventually(lambda: proxy.received["answers"] == 9)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    client.settimeout(PATIENCE)
    proxy.resume()
    assert receive(client) == b"LATE"
    assert echo.heard[0] == b"hellolate"


def test_a_stalled_connection_that_is_cut_delivers_nothing(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.stall()
    client.sendall(b"late")
    eventually(lambda: proxy.received["requests"] == 9)
    proxy.cut()
    proxy.resume()
    assert echo.ended[0].wait(PATIENCE)
    assert echo.heard[0] == b"hello"


def test_what_an_abandoned_client_has_sent_can_arrive_late(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.stall("requests")
    client.sendall(b"late")
    eventually(lambda: proxy.received["requests"] == 9)
    proxy.abandon()
    proxy.resume()
    with connect(proxy) as another:
        assert ask(another, b"x") == b"X"
    assert echo.heard[0] == b"hello"
    proxy.deliver_late()
    eventually(lambda: echo.heard[0] == b"hellolate")


def test_while_it_stalls_it_accepts(proxy: Proxy) -> None:
    proxy.stall()
    with connect(proxy) as client:
        client.sendall(b"x")
        eventually(lambda: proxy.received["requests"] == 1)
        proxy.resume()
        assert receive(client) == b"X"


def test_it_refuses_and_accepts_again(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert ask(client, b"still") == b"STILL"
    proxy.accept()
    with connect(proxy) as another:
        assert ask(another, b"x") == b"X"


def test_it_delays_both_ways(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(0.05)
    began = time.monotonic()
    assert ask(client, b"x") == b"X"
    assert time.monotonic() - began >= 0.1


def test_a_server_that_is_away_ends_the_connection(echo: Echo, proxy: Proxy) -> None:
    echo.close()
    with suppress(ConnectionResetError), connect(proxy) as client:
        assert receive(client) == b""


@pytest.mark.parametrize(("part", "heard"), [(0.0, b"hello"), (0.5, b"hellogive"), (1.0, b"hellogive up")])
def test_a_trap_cuts_a_request_where_it_is_told(
    echo: Echo, proxy: Proxy, client: socket.socket, part: float, heard: bytes
) -> None:
    trap = proxy.trap("requests", b"up", part=part)
    assert ask(client, b"go on") == b"GO ON"
    heard = heard.replace(b"hello", b"hellogo on")
    assert ask(client, b"give up") == b""
    trap.caught()
    assert echo.ended[0].wait(PATIENCE)
    assert echo.heard[0] == heard
    with connect(proxy) as another:
        assert ask(another, b"up") == b"UP"


@pytest.mark.parametrize(("part", "received"), [(0.0, b""), (0.5, b"GIVE"), (1.0, b"GIVE UP")])
def test_a_trap_cuts_an_answer_where_it_is_told(
    echo: Echo, proxy: Proxy, client: socket.socket, part: float, received: bytes
) -> None:
    trap = proxy.trap("answers", b"UP", part=part)
    client.sendall(b"give up")
    trap.caught()
    answer = b""
    while found := receive(client):
        answer += found
    assert answer == received
    assert echo.heard[0] == b"hellogive up"
