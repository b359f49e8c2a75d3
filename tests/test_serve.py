"""`python app.py` as an operator meets it: it starts, says what prevents it, ends everything."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from core import supervisor
from core.settings import ROOT
from tests import processes

_given_out: set[int] = set()


def free_ports() -> int:
    """A port that is free together with the next one, and that nobody is given by chance.

    Ports that the system picks (above 32,767 on Linux) would be taken by other tests' connections
    while a server of ours is down. Each process of a parallel run has a thousand of its own, and
    gives none out twice: whoever took one may not listen yet.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12_000 + worker % 20 * 1_000
    while True:
        port = first + 2 * secrets.randbelow(499)
        if port in _given_out:
            continue
        with closing(socket.socket()) as one, closing(socket.socket()) as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
        _given_out.add(port)
        return port


def environment(data: Path, port: int, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LASTMILE_")}
    kept.pop("DATABASE_URL", None)
    return kept | {"LASTMILE_DATA": str(data), "PORT": str(port)} | more


def start(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "app.py")],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def health(port: int) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def wait_for_health(port: int, process: subprocess.Popen[str], seconds: float) -> dict[str, object]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        try:
            return health(port)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the portal did not come up")


@contextmanager
def a_real_deployment(data: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    env = environment(data, port)
    setup = [sys.executable, "-m", "flask", "--app", "app", "setup", "demo/catalog.toml"]
    subprocess.run(setup, env=env, cwd=ROOT, check=True, capture_output=True)
    process = start(env)
    try:
        yield process
    finally:
        processes.kill(process)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_ends_all_it_started(tmp_path: Path, number: int) -> None:
    port = free_ports()
    with a_real_deployment(tmp_path, port) as process:
        assert wait_for_health(port, process, 60)["status"] == "ok"
        started = processes.descendants(process.pid)
        assert len(started) >= 3  # the worker and two web processes
        process.send_signal(number)
        process.wait(20)
        assert processes.are_gone(started)
        if number != signal.SIGKILL:
            assert process.returncode == 0


def test_worker_is_alive_in_health(tmp_path: Path) -> None:
    port = free_ports()
    with a_real_deployment(tmp_path, port) as process:
        wait_for_health(port, process, 60)
        end = time.monotonic() + 20
        while not health(port)["worker"]:
            assert time.monotonic() < end
            time.sleep(0.2)


def says_one_line_and_exits(env: dict[str, str]) -> str:
    process = start(env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert len(err.splitlines()) == 1, err
    return err


def test_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in says_one_line_and_exits(environment(tmp_path / "data", port))
    assert not list((tmp_path / "data").glob("*.db"))


def test_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = says_one_line_and_exits(environment(tmp_path / "file", free_ports()))
    assert str(tmp_path / "file") in error


def test_setting_without_sense_is_said_with_its_name(tmp_path: Path) -> None:
    error = says_one_line_and_exits(environment(tmp_path, free_ports(), LASTMILE_PROCESSES="many"))
    assert "LASTMILE_PROCESSES" in error


def test_database_that_is_away_is_said_in_one_line(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:9/none"
    error = says_one_line_and_exits(environment(tmp_path, free_ports(), DATABASE_URL=url))
    assert "database cannot be used" in error


def test_fresh_install_has_no_customers_and_says_how_to_begin(tmp_path: Path) -> None:
    port = free_ports()
    process = start(environment(tmp_path, port))
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            except urllib.error.HTTPError as error:
                answer = error
            except OSError:
                time.sleep(0.1)
                continue
            break
        assert answer.status == 503
        assert json.load(answer)["status"] == "not set up"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/sign-in", timeout=5)
        assert "flask setup" in refused.value.read().decode()
    finally:
        processes.end(process)
        process.communicate()


def test_socket_that_systemd_holds_is_used(tmp_path: Path) -> None:
    """Nobody is refused while the portal starts or is away: the socket is another's."""
    data = tmp_path / "data"
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = held.getsockname()[1]
        env = environment(data, port)
        setup = [sys.executable, "-m", "flask", "--app", "app", "setup", "demo/catalog.toml"]
        subprocess.run(setup, env=env, cwd=ROOT, check=True, capture_output=True)
        # As descriptor 3 and with the number of the process, as sd_listen_fds(3) says.
        line = 'exec 3<&"$1"; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" app.py web'
        process = subprocess.Popen(
            ["bash", "-c", line, sys.executable, str(held.fileno())],
            env=env,
            cwd=ROOT,
            pass_fds=(held.fileno(),),
            stdout=subprocess.DEVNULL,
        )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
                said = json.load(answer)
            assert said == {"status": "ok", "worker": False, "backup_age_hours": None}
            assert (
                len(processes.descendants(process.pid)) == 2
            )  # a web process for the socket, its parent
        finally:
            processes.end(process, 40)
        assert process.returncode == 0


def test_each_web_process_has_its_socket_and_no_second_portal_shares_them() -> None:
    port = free_ports()
    with ExitStack() as stack:
        for bound in supervisor.listen("127.0.0.1", port, 3):
            stack.enter_context(bound)
            assert bound.getsockname() == ("127.0.0.1", port)
            assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            bound.listen()
        with pytest.raises(OSError, match="in use"):
            supervisor.listen("127.0.0.1", port, 1)
