"""The one HTTP client for calls to the world outside.

It calls only origins it was configured with, follows no redirect, ignores proxy variables, and
refuses addresses that are not public, unless the origin is a server in the ISP's own network. Each
call has its own connection and a real deadline: an answer that arrives byte by byte ends at it too.
"""

import ipaddress
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util.timeout import Timeout

log = logging.getLogger("lastmile.outbound")

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 20.0
MAX_ANSWER_BYTES = 1_000_000

_CHUNK_BYTES = 65_536
_MAX_RESOLVERS = 16
_TARGET = re.compile(r"/[!-~]*", re.ASCII)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
# RFC 1918 and RFC 4193, without the range where clouds answer with the secrets of a machine.
_OWN_NETWORKS = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]
_METADATA = ipaddress.IPv6Network("fd00:ec2::/32")

Resolver = Callable[[str, int], list[str]]


class OutboundError(Exception):
    """A call that brought no usable answer."""


class OutboundForbidden(OutboundError):
    """The call was not made: its address is not one we may talk to."""


class OutboundUnreachable(OutboundError):
    """No connection, or one that could not be trusted; nothing of the request was sent."""


class OutboundUnclear(OutboundError):
    """The request went out, wholly or in part, and no complete answer came back in time."""


@dataclass(frozen=True, slots=True)
class AllowedOrigin:
    """One origin that may be called, always over TLS to public addresses.

    `is_loopback_demo` turns that round for the programs of the demo: plain HTTP is allowed, and the
    host must then be this machine and nothing else. `is_own_network` is for a server of the ISP's
    own that has no business on the internet: private addresses and this machine, by plain HTTP
    these alone.
    """

    host: str
    port: int = 443
    scheme: str = "https"
    is_loopback_demo: bool = False
    is_own_network: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in ("https", "http"):
            raise ValueError(f"an outbound origin is https or http, not {self.scheme!r}")
        if self.scheme == "http" and not (self.is_loopback_demo or self.is_own_network):
            raise ValueError(f"{self.host}: plain HTTP is for the demo's own programs only")
        if not self.host or self.host != self.host.lower():
            raise ValueError(f"an outbound host is written in lower case, not {self.host!r}")

    @classmethod
    def from_url(
        cls, url: str, *, is_loopback_demo: bool = False, is_own_network: bool = False
    ) -> "AllowedOrigin":
        """The origin of `url`, such as "https://api.example" or "http://localhost:8001"."""
        scheme, host, port, _ = _split(url)
        return cls(host, port, scheme, is_loopback_demo, is_own_network)

    def may_lead_to(self, text: str) -> bool:
        """Whether this origin may be found at an address."""
        if self.is_loopback_demo:
            return ipaddress.ip_address(text.partition("%")[0]).is_loopback
        if self.is_own_network and is_own_address(text):
            return True
        return self.scheme == "https" and is_public_address(text)


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """A complete answer of any status; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_public_address(text: str) -> bool:
    """True for an address of the public internet, seen through IPv6 wrappings of IPv4 addresses."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
        text.partition("%")[0]
    )
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64_LOCAL or address.is_site_local:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        if address.teredo:
            inner = address.teredo[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        address = inner or address
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_own_address(text: str) -> bool:
    """True for this machine and for private addresses, but for those where clouds keep secrets."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
        text.partition("%")[0]
    )
    if isinstance(address, ipaddress.IPv6Address):
        if address in _METADATA:
            return False
        address = address.ipv4_mapped or address
    return address.is_loopback or any(address in network for network in _OWN_NETWORKS)


def resolve_with_system(host: str, port: int) -> list[str]:
    """The addresses of `host` by the system's resolver; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class OutboundClient:
    """HTTP to a fixed set of origins; safe to share between threads.

    `ssl_context` replaces the system's trust store and must still verify; `resolve` replaces the
    system's resolver in tests.
    """

    def __init__(
        self,
        origins: Iterable[AllowedOrigin],
        *,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolver = resolve_with_system,
    ) -> None:
        self._origins = {(o.scheme, o.host, o.port): o for o in origins}
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds
        self._max_answer_bytes = max_answer_bytes
        self._resolve = resolve
        self._resolvers = threading.BoundedSemaphore(_MAX_RESOLVERS)
        self._ssl_context = ssl_context or ssl.create_default_context()
        if self._ssl_context.verify_mode != ssl.CERT_REQUIRED or (
            not self._ssl_context.check_hostname
        ):
            raise ValueError("an outbound call verifies the certificate and its host name")
        self._ssl_context.sslsocket_class = _TlsSocket

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float | None = None,
    ) -> OutboundAnswer:
        """The answer of any status, redirects included, within the total time, or within `seconds`
        where those are fewer.

        Raises OutboundForbidden, OutboundUnreachable or OutboundUnclear.
        """
        started = time.monotonic()
        outcome: int | str = "failed"
        try:
            total = self._total_seconds if seconds is None else min(seconds, self._total_seconds)
            answer = self._request(method, url, headers, body, total)
            outcome = answer.status
        except OutboundError as failure:
            outcome = type(failure).__name__
            raise
        finally:
            # Neither path nor query: they hold the keys of payments.
            log.info(
                "called",
                extra={
                    "method": method,
                    "host": _host_of(url),
                    "outcome": outcome,
                    "ms": round((time.monotonic() - started) * 1000, 1),
                },
            )
        return answer

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        total_seconds: float,
    ) -> OutboundAnswer:
        scheme, host, port, target = _split(url)
        origin = self._origins.get((scheme, host, port))
        if origin is None:
            raise OutboundForbidden(f"{scheme}://{host}:{port} is not a configured origin")
        now = time.monotonic()
        deadline = now + total_seconds
        connection = self._connect(origin, min(now + self._connect_seconds, deadline))
        try:
            connection.run_until(deadline)
            return self._exchange(connection, method, target, headers or {}, body)
        except (OSError, HTTPError, HTTPException) as failure:
            raise OutboundUnclear(f"{method} {host}: {_words(failure)}") from failure
        finally:
            connection.close()

    def _connect(self, origin: AllowedOrigin, deadline: float) -> "_GuardedConnection":
        addresses = self._addresses(origin, deadline)
        failure: Exception = OutboundUnreachable(f"{origin.host} has no address")
        for address in addresses:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                break
            connection = self._connection(origin, address, seconds)
            try:
                connection.connect()
            except (OSError, HTTPError) as error:
                connection.close()
                failure = error
            else:
                return connection
        raise OutboundUnreachable(f"{origin.host}: {_words(failure)}") from failure

    def _connection(
        self, origin: AllowedOrigin, address: str, seconds: float
    ) -> "_GuardedConnection":
        timeout = Timeout(connect=seconds, read=seconds).connect_timeout
        if origin.scheme == "http":
            connection: _GuardedConnection = _PlainConnection(
                origin.host, origin.port, timeout=timeout
            )
        else:
            connection = _TlsConnection(
                origin.host, origin.port, timeout=timeout, ssl_context=self._ssl_context
            )
        connection.address = address
        return connection

    def _addresses(self, origin: AllowedOrigin, deadline: float) -> list[str]:
        """Where to connect; one forbidden address among them refuses them all."""
        addresses = self._look_up(origin, deadline)
        for address in addresses:
            if origin.may_lead_to(address):
                continue
            raise OutboundForbidden(f"{origin.host} leads to {address}, which may not be called")
        return addresses

    def _look_up(self, origin: AllowedOrigin, deadline: float) -> list[str]:
        """Resolve in a thread of its own, because the system's resolver knows no deadline."""
        if _is_literal(origin.host):
            return [origin.host]
        if origin.is_loopback_demo and origin.host == "localhost":
            return ["127.0.0.1", "::1"]
        outcome: list[list[str] | Exception] = []
        is_done = threading.Event()

        def look_up() -> None:
            try:
                outcome.append(self._resolve(origin.host, origin.port))
            except (OSError, UnicodeError) as failure:
                outcome.append(failure)
            finally:
                self._resolvers.release()
                is_done.set()

        if not self._resolvers.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise OutboundUnreachable(f"{origin.host}: the name service does not answer")
        threading.Thread(target=look_up, name="outbound-resolver", daemon=True).start()
        if not is_done.wait(max(0.0, deadline - time.monotonic())) or not outcome:
            raise OutboundUnreachable(f"{origin.host}: the name service did not answer in time")
        found = outcome[0]
        if isinstance(found, Exception):
            raise OutboundUnreachable(f"{origin.host}: {_words(found)}") from found
        return found

    def _exchange(
        self,
        connection: "_GuardedConnection",
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> OutboundAnswer:
        # Compressed answers are not asked for, so a small one cannot unpack to a large one.
        sent = {"Accept-Encoding": "identity", "User-Agent": "Lastmile", **headers}
        connection.request(method, target, body=body, headers=sent, preload_content=False)
        response = connection.getresponse()
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise OutboundUnclear("the answer is compressed although that was not asked for")
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read(_CHUNK_BYTES, decode_content=False):
            size += len(chunk)
            if size > self._max_answer_bytes:
                raise OutboundUnclear(f"the answer exceeds {self._max_answer_bytes} bytes")
            chunks.append(chunk)
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return OutboundAnswer(response.status, lowered, b"".join(chunks))


def _split(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and request target of a plain absolute URL; anything odd is forbidden."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OutboundForbidden("not an address that can be called") from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.hostname or ""
    is_plain = (
        parts.scheme in ("https", "http")
        and bool(re.fullmatch(r"[a-z0-9.:_-]+", host))
        and "@" not in parts.netloc
        and "\\" not in url
        and not parts.fragment
        and bool(_TARGET.fullmatch(target))
        and not re.search(r"[\x00-\x20\x7f]", url)
    )
    if not is_plain:
        raise OutboundForbidden("not an address that can be called")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), target


def _host_of(url: str) -> str:
    """The host of a plain address, else empty."""
    try:
        return _split(url)[1]
    except OutboundForbidden:
        return ""


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _words(failure: Exception) -> str:
    return str(failure) or type(failure).__name__


class _DeadlineMixin(socket.socket):
    """A socket whose every read and write has only what is left of the call's time."""

    deadline: float | None = None

    def _arm(self) -> None:
        if self.deadline is not None:
            seconds = self.deadline - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("the time for this call is over")
            self.settimeout(seconds)


class _PlainSocket(_DeadlineMixin):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._arm()
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._arm()
        super().sendall(*args, **kwargs)


class _TlsSocket(_DeadlineMixin, ssl.SSLSocket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._arm()
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._arm()
        return super().send(*args, **kwargs)


class _GuardedConnection(HTTPConnection):
    """Connects to the address that was checked, so a second look-up cannot lead elsewhere."""

    address = ""

    def _new_conn(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = _PlainSocket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(float(self.timeout) if isinstance(self.timeout, int | float) else 1.0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((self.address, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def run_until(self, deadline: float) -> None:
        """End every read and write of this connection at `deadline` (monotonic seconds)."""
        if not isinstance(self.sock, _DeadlineMixin):
            raise OutboundForbidden("this connection cannot keep a deadline")
        self.sock.deadline = deadline


class _PlainConnection(_GuardedConnection):
    pass


class _TlsConnection(_GuardedConnection, HTTPSConnection):
    pass
