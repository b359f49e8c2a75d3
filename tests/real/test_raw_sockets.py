"""Raw bytes against the portal's own server and through nginx (bars 22, 45, 46, 80, 88)."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import descendants
from tests.real.attacks import FOREIGN, ONE, POST, TWO
from tests.real.conftest import SECONDS, Street

LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
WAIT_SECONDS = 1.5
SLOW = 100
Connect = Callable[[], socket.socket]


@pytest.fixture(params=["portal", "nginx"])
def connect(request: pytest.FixtureRequest, street: Street) -> Connect:
    """Opens a connection to the portal's own server, or to nginx in front of it."""

    def plain() -> socket.socket:
        return socket.create_connection(("127.0.0.1", street.machine.port), WAIT_SECONDS)

    def through() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", street.proxy.port), WAIT_SECONDS)
        return street.proxy.trust().wrap_socket(made, server_hostname="localhost")

    return plain if request.param == "portal" else through


def exchange(connect: Connect, sent: bytes) -> bytes:
    """Everything that is answered until the other side closes or falls silent."""
    got = b""
    with contextlib.closing(connect()) as connection:
        with contextlib.suppress(OSError, ssl.SSLError):
            connection.sendall(sent)
        with contextlib.suppress(OSError, ssl.SSLError):
            while part := connection.recv(65_536):
                got += part
    return got


def statuses(got: bytes) -> list[int]:
    found = [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d\d\d)", got)]
    return [code for code in found if code != 100]


def is_well(connect: Connect) -> bool:
    """Whether new connections get what they ask for, each its own."""
    help_page = exchange(
        connect, b"GET /help HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    health = exchange(connect, LAST)
    return (
        statuses(help_page) == [200]
        and b"<h1" in help_page
        and statuses(health) == [200]
        and b'"status": "ok"' in health
    )


@pytest.mark.parametrize("name", ONE)
def test_request_framed_in_two_ways_hides_no_second_one(connect: Connect, name: str) -> None:
    got = statuses(exchange(connect, ONE[name] + LAST))
    assert len(got) <= 1, got
    assert all(400 <= code < 500 or code in (501, 505) for code in got), got
    assert is_well(connect)


@pytest.mark.parametrize("name", TWO)
def test_odd_request_is_answered_in_its_turn_and_never_by_500(connect: Connect, name: str) -> None:
    got = exchange(connect, TWO[name] + LAST)
    codes = statuses(got)
    assert codes
    assert all(code < 500 or code == 501 for code in codes), codes
    assert codes[1:] in ([404, 200], []), codes
    if name in FOREIGN:
        assert 400 <= codes[0] < 500
    assert b"evil.example" not in got
    assert is_well(connect)


def rss_bytes(street: Street) -> int:
    """Memory of all processes of the portal together."""
    total = 0
    for pid in descendants(street.machine.process.pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return total


def test_bodies_over_the_limit_are_refused_before_they_cost_memory(
    street: Street, connect: Connect
) -> None:
    """Bar 46: announced as too long, and of no announced length."""
    block = b"a" * 65_536
    before = rss_bytes(street)
    for head, piece in (
        (b"Content-Length: 200000000\r\n\r\n", block),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + block + b"\r\n"),
    ):
        got = b""
        with contextlib.closing(connect()) as connection:
            with contextlib.suppress(OSError, ssl.SSLError):
                connection.sendall(POST + head)
                for _ in range(640):  # 40 MB, if it is taken
                    connection.sendall(piece)
            with contextlib.suppress(OSError, ssl.SSLError):
                got = connection.recv(65_536)
        assert statuses(got)[:1] in ([], [400], [411], [413]), got
        assert rss_bytes(street) - before < 20_000_000
    assert _size(street) < 2_000_000
    assert is_well(connect)


def _size(street: Street) -> int:
    """Bytes that nginx holds on disk for bodies."""
    files = (street.proxy.folder / "body").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def test_body_that_breaks_off_is_no_form(connect: Connect) -> None:
    """Half a form is not taken for a whole one, in either framing."""
    for head in (b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n"):
        with contextlib.closing(connect()) as connection:
            form = b"Content-Type: application/x-www-form-urlencoded\r\n\r\nb\r\nsign_in_id="
            connection.sendall(POST + head + form)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            got = b""
            with contextlib.suppress(OSError, ssl.SSLError):
                while part := connection.recv(65_536):
                    got += part
        assert all(400 <= code < 500 and code != 422 for code in statuses(got)), got
    assert is_well(connect)


def test_pages_are_served_while_slow_clients_wait_at_nginx(street: Street) -> None:
    """Bar 88: headers and bodies that do not come hold no thread of the portal, and are dropped."""
    trust = street.proxy.trust()
    waiting = []
    try:
        for number in range(SLOW):
            made = socket.create_connection(("127.0.0.1", street.proxy.port), 10)
            slow = trust.wrap_socket(made, server_hostname="localhost")
            body = POST + b"Content-Type: application/x-www-form-urlencoded\r\n"
            slow.sendall(POST if number % 2 else body + b"Content-Length: 1000\r\n\r\na=")
            waiting.append(slow)
        for _ in range(20):
            assert street.proxy.ask("GET", "/help").status == 200
        assert street.proxy.ask("POST", "/sign-in", "a=b").status in (403, 422)
        until = time.monotonic() + max(SECONDS.values()) + 10
        left = waiting
        while left and time.monotonic() < until:
            left = [slow for slow in left if not is_dropped(slow)]
        assert left == []
    finally:
        for slow in waiting:
            slow.close()


def is_dropped(slow: ssl.SSLSocket) -> bool:
    """Whether the other side has given this connection up."""
    slow.settimeout(0.1)
    try:
        return statuses(slow.recv(4096)) in ([], [408])
    except TimeoutError:
        return False
    except OSError:
        return True
