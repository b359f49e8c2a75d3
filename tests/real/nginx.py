"""nginx as an ordinary process on loopback, with the sample of `deploy/` rendered for a test."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage, HTTPSConnection
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.settings import ROOT
from tests import outside, processes
from tests.test_serve import free_ports

SAMPLE = ROOT / "deploy" / "nginx.conf"
NAME = "localhost"

_AROUND = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log;
    default_type application/octet-stream;
    types {{ text/html html; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on; # as Debian's file has it: the sample must switch it off
    gzip_types text/css text/javascript application/json;
    include {folder}/site.conf;
}}
"""


class Said(NamedTuple):
    """An answer: status, headers, body."""

    status: int
    headers: HTTPMessage
    body: bytes


@dataclass(frozen=True, slots=True)
class Proxy:
    """An nginx that runs: where it listens, and what it writes."""

    port: int
    plain_port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def origin(self) -> str:
        return f"https://{NAME}:{self.port}"

    def trust(self) -> ssl.SSLContext:
        """What a client needs to believe the certificate of this proxy, and no other."""
        return ssl.create_default_context(cafile=self.folder / "certificate.pem")

    def connect(self) -> HTTPSConnection:
        return HTTPSConnection(NAME, self.port, timeout=20, context=self.trust())

    def ask(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] = {}
    ) -> Said:
        """One request on a connection of its own."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Said(answer.status, answer.headers, answer.read())

    def log(self) -> str:
        return (self.folder / "error.log").read_text()


def render(port: int, plain_port: int, folder: Path, nodes: Sequence[str], **seconds: int) -> str:
    """The sample for these ports, with shorter time-outs where `seconds` names them."""
    text = SAMPLE.read_text()
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"listen 443 ", f"listen 127.0.0.1:{port} ", text)
    text = re.sub(r"listen 80([ ;])", rf"listen 127.0.0.1:{plain_port}\1", text)
    text = text.replace("https://my.example.net$", f"https://{NAME}:{port}$")
    text = re.sub(r"/etc/letsencrypt\S+fullchain.pem", f"{folder}/certificate.pem", text)
    text = re.sub(r"/etc/letsencrypt\S+privkey.pem", f"{folder}/key.pem", text)
    text = text.replace("my.example.net", NAME)
    node = "    server {} max_fails=1 fail_timeout=2s;"
    text = text.replace(node.format("127.0.0.1:8000"), "\n".join(map(node.format, nodes)))
    for name, value in seconds.items():
        text, count = re.subn(rf"({name} +)\d+s", rf"\g<1>{value}s", text)
        assert count, name
    return text


def make_certificate(folder: Path) -> None:
    """A key and a certificate for localhost, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextmanager
def running(
    folder: Path, nodes: Sequence[str], ports: tuple[int, int] | None = None, **seconds: int
) -> Iterator[Proxy]:
    """nginx in front of `nodes` (`host:port`) until the end of the block."""
    program = outside.need("nginx")
    folder.mkdir(exist_ok=True)
    make_certificate(folder)
    first = free_ports()
    port, plain_port = ports or (first, first + 1)
    (folder / "site.conf").write_text(render(port, plain_port, folder, nodes, **seconds))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, user=user))
    command = [str(program), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr, checked.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield Proxy(port, plain_port, folder, process)
    finally:
        processes.end(process)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 20
    while True:
        with closing(socket.socket()) as probe:
            is_up = probe.connect_ex(("127.0.0.1", port)) == 0
        assert process.poll() is None
        if is_up:
            return
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass(slots=True)
class DeafNode:
    """Takes requests and breaks off without an answer, like a node that dies under them."""

    address: str
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def deaf_node() -> Iterator[DeafNode]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        node = DeafNode(f"127.0.0.1:{listener.getsockname()[1]}")

        def listen() -> None:
            while True:
                try:
                    taken, _address = listener.accept()
                except OSError:
                    return
                with closing(taken):
                    taken.settimeout(5)
                    node.requests.append(taken.recv(65_536))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield node
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
