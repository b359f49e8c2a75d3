"""What `systemctl reload` sends, under load: nothing is lost, and code and settings are new."""

from __future__ import annotations

import http.client
import os
import signal
import time
from pathlib import Path

from tests.faults.test_kill import PATIENCE_SECONDS, Customer, Machine
from tests.processes import are_gone, descendants
from tests.real.conftest import Street
from tests.real.load import FORM, Client, Load, under_load


def children(pid: int) -> set[int]:
    return {
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    }


def generations(machine: Machine) -> list[int]:
    """The parents of web processes, the newest last; more than one while an old one leaves."""
    found = [pid for pid in children(machine.process.pid) if b"generation" in _command(pid)]
    return sorted(found, key=_started)


def _started(pid: int) -> int:
    """When the process started, in ticks since the machine did (proc(5), field 22)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def web_processes(machine: Machine) -> set[int]:
    """The web processes that serve; granian forks them from their parent."""
    return {pid for pid in descendants(generations(machine)[-1]) if b"generation" in _command(pid)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def clients(street: Street) -> list[Client]:
    """Pages and forms, through nginx and straight to the portal, on new and on kept connections."""

    def direct() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("localhost", street.machine.port, timeout=20)

    customer = Customer(street.proxy.origin, street.proxy.trust())
    home = customer.sign_in("payer43")
    signed_in = {"Cookie": customer.cookies()}
    posted = FORM | signed_in
    return [
        Client(street.proxy.connect, "GET", home, 200, signed_in, keeps=True),
        Client(street.proxy.connect, "GET", home, 200, signed_in),
        Client(
            street.proxy.connect,
            "POST",
            "/sign-in",
            422,
            posted,
            "sign_in_id=&password=",
            keeps=True,
        ),
        Client(
            street.proxy.connect,
            "POST",
            "/sign-in",
            422,
            posted,
            "sign_in_id=&password=",
            keeps=True,
        ),
        Client(direct, "GET", "/sign-in", 200),
        Client(direct, "POST", "/sign-in", 422, posted, "sign_in_id=&password="),
    ]


def test_reload_under_load_loses_no_request_and_takes_up_settings(street: Street) -> None:
    machine = street.machine
    bank = f"http://localhost:{machine.bank_port}"
    assert bank in _policy(street)
    before = web_processes(machine)
    assert len(before) == 2
    with under_load(clients(street)) as load:
        street.settings.write_text("# paying by transfer only\nLASTMILE_PAYMENT_GATEWAY = ''\n")
        _reload(machine, before, load)
        _until(lambda: bank not in _policy(street))  # an old process may answer for a moment
        after = web_processes(machine)
        street.settings.write_text("")
        _reload(machine, after, load)
        _until(lambda: bank in _policy(street))
    assert load.faults == []
    assert are_gone(before | after)


def _reload(machine: Machine, before: set[int], load: Load) -> None:
    """Exchange all web processes, and wait until some requests were answered after it."""
    machine.reload()
    after = web_processes(machine)
    assert len(after) == 2
    assert not before & after
    asked = load.answers
    _until(lambda: load.answers > asked + 20)


def _policy(street: Street) -> str:
    """Names the bank when there is one."""
    return str(street.proxy.ask("GET", "/sign-in").headers["Content-Security-Policy"])


def _until(is_so) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_reload_with_senseless_settings_leaves_everything_as_it_is(street: Street) -> None:
    machine = street.machine
    before = web_processes(machine)
    street.settings.write_text("LASTMILE_PROCESSES=many\n")
    machine.process.send_signal(signal.SIGHUP)
    _until(lambda: "the old ones go on serving" in machine.log())
    assert "LASTMILE_PROCESSES must be" in machine.log()
    street.settings.write_text("")
    assert web_processes(machine) == before
    assert street.proxy.ask("GET", "/sign-in").status == 200


def test_web_processes_that_are_killed_are_started_again(street: Street) -> None:
    """Also all of them at once with their parent."""
    machine = street.machine
    for parent in generations(machine):
        for pid in (parent, *descendants(parent)):
            os.kill(pid, signal.SIGKILL)
    # Who was in the hands of a killed process asks again.
    assert Customer(machine.origin).send("/sign-in")[0] == 200
    _until(lambda: len(web_processes(machine)) == 2)
