"""Bar 49: where outbound calls may go, what they verify, and that they end."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateways.outbound import (
    AllowedOrigin,
    OutboundClient,
    OutboundForbidden,
    OutboundUnclear,
    OutboundUnreachable,
    is_public_address,
)
from tests.gateways.conftest import serving


def demo_client(url: str, **options) -> OutboundClient:
    return OutboundClient([AllowedOrigin.from_url(url, is_loopback_demo=True)], **options)


def never_resolve(host: str, port: int) -> list[str]:
    raise AssertionError("it was looked up")


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        headers, body = {"Content-Length": "5"}, b"hello"
        if self.path == "/redirect":
            headers["Location"] = "/elsewhere"
        if self.path == "/large":
            headers, body = {"Content-Length": "2000"}, b"x" * 2000
        if self.path == "/cut":
            headers = {"Content-Length": "9"}
        if self.path == "/gzip":
            headers["Content-Encoding"] = "gzip"
        if self.path == "/chunked":
            headers, body = {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\n0\r\n\r\n"
        if self.path == "/cut-chunk":
            headers, body = {"Transfer-Encoding": "chunked"}, b"5\r\nhel"
        if self.path == "/no-length":
            headers = {}
        self.close_connection = True
        self.send_response(302 if self.path == "/redirect" else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.headers["X-Test"].encode() + body
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Handler) as url:
        yield url


@contextmanager
def speaking(greeting: bytes, drip: bytes) -> Iterator[int]:
    """A port that says something at once and then one byte after the other, without end."""
    is_over = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(greeting)
                while not is_over.wait(0.02):
                    connection.sendall(drip)
            except OSError:
                return

    def accept() -> None:
        while not is_over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            talkers.append(threading.Thread(target=talk, args=(connection,)))
            talkers[-1].start()

    talkers: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            is_over.set()
            for thread in [acceptor, *talkers]:
                thread.join()


# It works.


def test_a_configured_origin_is_called(server):
    answer = demo_client(server).request(
        "POST", f"{server}/x?y=1", headers={"X-Test": "a"}, body=b"body"
    )
    assert (answer.status, answer.body) == (201, b"abody")


@pytest.mark.parametrize("path", ["/", "/chunked", "/no-length"])
def test_an_answer_is_read_whole(server, path):
    assert demo_client(server).request("GET", server + path).body == b"hello"


def test_localhost_is_this_machine_without_asking_anyone(server):
    url = server.replace("127.0.0.1", "localhost")
    assert demo_client(url, resolve=never_resolve).request("GET", url).body == b"hello"


def test_a_redirect_is_an_answer_and_is_not_followed(server):
    answer = demo_client(server).request("GET", f"{server}/redirect")
    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")


def test_proxy_variables_are_ignored(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert demo_client(server).request("GET", server).status == 200


# It refuses.


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "http://api.example/",
        "https://api.example:8443/",
        "https://api.example.evil.example/",
        "https://api.example@evil.example/",
        "https://user:pass@api.example/",
        "https://evil.example\\@api.example/",
        "https://api.example/a b",
        "https://api.example/a\r\nHost: evil",
        "https://api.example\t/",
        "https://api.example/é",
        "https://api.example/#part",
        "https://api.example:99999/",
        "https://[::1/",
        "ftp://api.example/",
        "file:///etc/passwd",
        "//api.example/",
        "",
    ],
)
def test_only_configured_origins_are_called(url):
    client = OutboundClient([AllowedOrigin("api.example")], resolve=never_resolve)
    with pytest.raises(OutboundForbidden):
        client.request("GET", url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::808:808",
    ],
)
def test_addresses_that_are_not_public_are_refused(address):
    assert not is_public_address(address)
    client = OutboundClient(
        [AllowedOrigin("api.example")], resolve=lambda _host, _port: ["93.184.215.14", address]
    )
    with pytest.raises(OutboundForbidden, match="may not be called"):
        client.request("GET", "https://api.example/")


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_allowed(address):
    assert is_public_address(address)


def test_a_name_that_leads_elsewhere_the_second_time_is_not_asked_twice(monkeypatch):
    """DNS rebinding: what was checked is what is connected to."""
    asked: list[str] = []
    connected: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.215.14"] if len(asked) == 1 else ["127.0.0.1"]

    def connect(connection) -> None:
        connected.append(connection.address)
        raise OSError("far enough")

    monkeypatch.setattr("gateways.outbound._TlsConnection.connect", connect)
    client = OutboundClient([AllowedOrigin("api.example")], resolve=resolve)
    with pytest.raises(OutboundUnreachable, match="far enough"):
        client.request("GET", "https://api.example/")
    assert (asked, connected) == (["api.example"], ["93.184.215.14"])


def test_connecting_uses_the_address_and_not_the_name(server):
    """A host name that no resolver knows is reached at the address that was checked, under its own
    name."""
    port = int(server.rpartition(":")[2])
    client = demo_client(f"http://demo.invalid:{port}", resolve=lambda _host, _port: ["127.0.0.1"])
    assert client.request("GET", f"http://demo.invalid:{port}/").body == b"hello"


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "localhost",
        "api.example.",
        "169.254.169.254.nip.example",
        "metadata.google.internal",
    ],
)
def test_other_ways_to_write_an_inner_address_are_refused(host):
    """As the system's resolver reads them: numbers are addresses to it too."""
    inner = {"api.example.": "10.0.0.1", "metadata.google.internal": "169.254.169.254"}
    client = OutboundClient(
        [AllowedOrigin(host)], resolve=lambda _host, _port: [inner.get(host, "127.0.0.1")]
    )
    with pytest.raises(OutboundForbidden):
        client.request("GET", f"https://{host}/")


def test_a_redirect_to_an_inner_address_is_not_followed(server):
    asked = []

    class Leading(Handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Leading) as url:
        answer = demo_client(url, resolve=never_resolve).request("GET", f"{url}/x")
    assert (answer.status, asked) == (307, ["/x"])


def test_a_private_address_as_configured_host_is_refused_too():
    client = OutboundClient([AllowedOrigin("169.254.169.254")], resolve=never_resolve)
    with pytest.raises(OutboundForbidden):
        client.request("GET", "https://169.254.169.254/latest")


@pytest.mark.parametrize("address", ["8.8.8.8", "10.0.0.1", "169.254.169.254"])
def test_a_demo_host_must_be_this_machine(address):
    client = demo_client("http://demo.example:8001", resolve=lambda _host, _port: [address])
    with pytest.raises(OutboundForbidden):
        client.request("GET", "http://demo.example:8001/")


def test_plain_http_is_for_the_demo_only():
    with pytest.raises(ValueError, match="plain HTTP"):
        AllowedOrigin("api.example", 80, "http")


def test_a_context_that_does_not_verify_is_refused():
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="verifies"):
        OutboundClient([], ssl_context=context)


# It verifies TLS.


def make_certificate(folder, name: str):
    """A self-signed certificate with its key, valid for one name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name[0].isdigit():
        names = [x509.IPAddress(ipaddress.ip_address(name))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class TlsHandler(Handler):
    """The same over TLS; a client that does not trust the certificate hangs up on it."""

    certificate: str

    def setup(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.request = context.wrap_socket(
            self.request, server_side=True, do_handshake_on_connect=False
        )
        super().setup()

    def handle(self) -> None:
        try:
            self.request.do_handshake()
            super().handle()
        except OSError:
            return

    def finish(self) -> None:
        super().finish()
        self.request.close()


@contextmanager
def serving_tls(folder, name: str) -> Iterator[tuple[str, ssl.SSLContext]]:
    path = make_certificate(folder, name)
    handler = type("WithCertificate", (TlsHandler,), {"certificate": str(path)})
    with serving(handler) as url:
        yield url.replace("http:", "https:"), ssl.create_default_context(cafile=str(path))


def test_a_trusted_certificate_is_accepted(tmp_path):
    with serving_tls(tmp_path, "127.0.0.1") as (url, context):
        assert demo_client(url, ssl_context=context).request("GET", url).body == b"hello"


def test_an_untrusted_certificate_is_refused(tmp_path):
    with (
        serving_tls(tmp_path, "127.0.0.1") as (url, _),
        pytest.raises(OutboundUnreachable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        demo_client(url).request("GET", url)


def test_a_certificate_for_another_name_is_refused(tmp_path):
    with (
        serving_tls(tmp_path, "other.example") as (url, context),
        pytest.raises(OutboundUnreachable, match="mismatch"),
    ):
        demo_client(url, ssl_context=context).request("GET", url)


# It ends.


def test_a_call_has_three_seconds_to_connect_and_twenty_in_all():
    client = OutboundClient([AllowedOrigin("api.example")])
    assert (client._connect_seconds, client._total_seconds) == (3.0, 20.0)


def test_all_addresses_of_a_name_share_the_time_to_connect():
    """A host with many dead addresses takes no longer than one."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):  # the queue is full: nobody else is answered
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            waiting.append(sock)
        client = demo_client(
            f"http://demo.invalid:{port}",
            connect_seconds=0.4,
            resolve=lambda _host, _port: ["127.0.0.1"] * 50,
        )
        began = time.monotonic()
        with pytest.raises(OutboundUnreachable):
            client.request("GET", f"http://demo.invalid:{port}/")
        for sock in waiting:
            sock.close()
    # Fifty times the time of one would be twenty seconds.
    assert time.monotonic() - began < 10


def test_a_server_that_reads_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        client = demo_client(f"http://127.0.0.1:{port}", total_seconds=0.5)
        with pytest.raises(OutboundUnclear):
            client.request("POST", f"http://127.0.0.1:{port}/", body=b"x" * 50_000_000)


@pytest.mark.parametrize("path", ["/cut", "/cut-chunk"])
def test_a_cut_answer_is_unclear(server, path):
    with pytest.raises(OutboundUnclear):
        demo_client(server).request("GET", server + path)


def test_a_large_answer_is_given_up(server):
    client = demo_client(server, max_answer_bytes=1000)
    with pytest.raises(OutboundUnclear, match="1000 bytes"):
        client.request("GET", f"{server}/large")


def test_a_compressed_answer_is_not_unpacked(server):
    with pytest.raises(OutboundUnclear, match="compressed"):
        demo_client(server).request("GET", f"{server}/gzip")


@pytest.mark.parametrize(
    ("greeting", "drip"),
    [
        (b"", b""),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"SSH-2.0-nonsense\r\n", b""),
    ],
)
def test_an_answer_that_drips_or_makes_no_sense_ends(greeting, drip):
    with speaking(greeting, drip) as port:
        client = demo_client(f"http://127.0.0.1:{port}", total_seconds=0.3)
        with pytest.raises(OutboundUnclear):
            client.request("GET", f"http://127.0.0.1:{port}/")


def test_a_single_call_can_be_given_less_time():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        client = demo_client(url.rstrip("/"))
        began = time.monotonic()
        with pytest.raises(OutboundUnclear):
            client.request("GET", url, seconds=0.3)
        with pytest.raises(OutboundUnreachable):
            client.request("GET", url, seconds=0.0)
    assert time.monotonic() - began < 5


def test_an_answer_that_drips_over_tls_ends(tmp_path):
    class Dripping(TlsHandler):
        certificate = str(make_certificate(tmp_path, "127.0.0.1"))

        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

    context = ssl.create_default_context(cafile=Dripping.certificate)
    with serving(Dripping) as plain_url:
        url = plain_url.replace("http:", "https:")
        client = demo_client(url, ssl_context=context, total_seconds=0.5)
        with pytest.raises(OutboundUnclear):
            client.request("GET", url)


def test_a_handshake_that_never_ends_is_given_up():
    with speaking(b"", b"") as port:
        client = demo_client(f"https://127.0.0.1:{port}", connect_seconds=0.2)
        with pytest.raises(OutboundUnreachable):
            client.request("GET", f"https://127.0.0.1:{port}/")


def test_a_name_service_that_never_answers_is_given_up():
    is_over = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        is_over.wait()
        return []

    client = OutboundClient([AllowedOrigin("api.example")], connect_seconds=0.1, resolve=resolve)
    with pytest.raises(OutboundUnreachable, match="in time"):
        client.request("GET", "https://api.example/")
    is_over.set()


@pytest.mark.parametrize("failure", [OSError("no such name"), UnicodeError("label too long")])
def test_a_name_that_does_not_resolve_is_unreachable(failure):
    def resolve(host: str, port: int) -> list[str]:
        raise failure

    client = OutboundClient([AllowedOrigin("api.example")], resolve=resolve)
    with pytest.raises(OutboundUnreachable):
        client.request("GET", "https://api.example/")


def test_nobody_listening_is_unreachable():
    with pytest.raises(OutboundUnreachable):
        demo_client("http://127.0.0.1:1").request("GET", "http://127.0.0.1:1/")


# Servers in the ISP's own network.


def own_client(url: str, *addresses: str) -> OutboundClient:
    origin = AllowedOrigin.from_url(url, is_own_network=True)
    return OutboundClient([origin], connect_seconds=0.2, resolve=lambda _host, _port: [*addresses])


def test_server_of_ones_own_is_called_by_plain_http(server):
    url = server.replace("127.0.0.1", "acs.example")
    assert own_client(url, "127.0.0.1").request("GET", url).body == b"hello"


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1",
     "2606:2800:220:1::1", "::ffff:93.184.216.34", "0.0.0.0", "224.0.0.1"],
)  # fmt: skip
def test_plain_http_goes_to_private_addresses_alone(address):
    with pytest.raises(OutboundForbidden):
        own_client("http://acs.example", "10.0.0.1", address).request("GET", "http://acs.example")


@pytest.mark.parametrize(
    ("url", "address", "may"),
    [
        ("http://acs.example", "10.0.0.1", True),
        ("http://acs.example", "172.16.9.1", True),
        ("http://acs.example", "192.168.1.1", True),
        ("http://acs.example", "::ffff:192.168.1.1", True),
        ("http://acs.example", "fd12::1", True),
        ("http://acs.example", "172.32.0.1", False),
        ("https://acs.example", "10.0.0.1", True),
        ("https://acs.example", "93.184.216.34", True),
        ("https://acs.example", "169.254.169.254", False),
    ],
)
def test_where_a_server_of_ones_own_may_be(url, address, may):
    assert AllowedOrigin.from_url(url, is_own_network=True).may_lead_to(address) is may
    assert AllowedOrigin("pay.example").may_lead_to("10.0.0.1") is False
