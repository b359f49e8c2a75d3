"""The sandbox as a program: it starts for the demo only, and ends when it should."""

import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from gateways.payments.sandbox.client import SandboxGateway
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision
from tests.gateways.conftest import (
    ROOT,
    address_said_by,
    eventually,
    fake_portal,
    running_sandbox,
    sandbox_command,
)

_NO_PORTAL = "http://127.0.0.1:1"


def run(folder, *more, demo="1", portal=_NO_PORTAL) -> subprocess.CompletedProcess:
    return subprocess.run(
        sandbox_command(folder, portal, *more),
        check=False,
        cwd=ROOT,
        env={**os.environ, "LASTMILE_DEMO": demo},
        capture_output=True,
        text=True,
        timeout=60,
    )


def is_listening(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(url).port), 5).close()
    except OSError:
        return False
    return True


def test_the_notices_of_a_portal_that_was_down_survive_a_restart(tmp_path, order):
    secrets = SandboxSecrets.read_or_create(tmp_path / "secret")
    with running_sandbox(tmp_path, _NO_PORTAL) as url:
        SandboxGateway(url, secrets).start(order)
        SandboxControl(url, secrets).decide(order.key, Decision.PAY)
    with fake_portal() as portal, running_sandbox(tmp_path, portal.url):
        assert eventually(lambda: bool(portal.notices_of(order.key)))


def test_it_ends_when_its_parent_is_killed(tmp_path):
    command = sandbox_command(tmp_path, _NO_PORTAL)
    script = f"import subprocess; subprocess.run({command!r})"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "LASTMILE_DEMO": "1"},
        stdout=subprocess.PIPE,
    ) as parent:
        url = address_said_by(parent)
        assert is_listening(url)
        parent.send_signal(signal.SIGKILL)
        parent.wait(20)
        assert eventually(lambda: not is_listening(url))


def test_it_ends_when_its_parent_was_gone_before(tmp_path):
    finished = run(tmp_path, "--parent-pid", "999999999")
    assert finished.returncode == 0


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        ([], {"demo": ""}, "demo only"),
        (["--host", "0.0.0.0"], {}, "loopback"),
        ([], {"portal": "http://portal.example"}, "loopback"),
        (["--data", "/nowhere/at/all.db"], {}, "unable to open"),
        (["--port", "70000"], {}, "cannot be used"),
    ],
)
def test_it_refuses_to_start_with_one_clear_line(tmp_path, options, settings, words):
    finished = run(tmp_path, *options, **settings)
    assert finished.returncode == 1
    assert words in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_port_in_use_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finished = run(tmp_path, "--port", str(taken.getsockname()[1]))
    assert finished.returncode == 1
    assert "cannot be used: Address already in use" in finished.stderr
