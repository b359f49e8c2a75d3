"""A portal that is served, and whose files cannot grow any more: the system's own error, not one of
the tests' layer (bar 70)."""

from __future__ import annotations

import resource
import urllib.error
import urllib.parse
from pathlib import Path

import pytest

from tests.faults.test_kill import Customer, Machine, hidden
from tests.processes import descendants

Answer = tuple[int, str, str]


def once(customer: Customer, path: str, values: dict[str, str] | None = None) -> Answer:
    """Status, Retry-After and text of one request that is not sent again."""
    body = urllib.parse.urlencode(values).encode() if values is not None else None
    try:
        with customer._opener.open(customer.origin + path, body, timeout=20) as answer:
            return answer.status, "", answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Retry-After", ""), error.read().decode()


def limit(machine: Machine, size: int) -> None:
    """No process of the portal may make a file longer than this many bytes."""
    for pid in [machine.process.pid, *descendants(machine.process.pid)]:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.mark.real
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_served_portal_whose_disk_is_full_shows_pages_and_says_what_does_not_work(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, "")
    try:
        customer = Customer(f"http://127.0.0.1:{machine.port}")
        home = customer.sign_in("payer01")
        _status, _location, page = customer.send(home)
        other = Customer(customer.origin)
        other.send("/sign-in")
        limit(machine, 8_192)
        assert (tmp_path / "lastmile.db").stat().st_size > 8_192
        for rest in ("", "billing/", "billing/invoices/", "billing/payments/", "billing/pay"):
            assert once(customer, home + rest)[0] == 200
        pay = f"{home}billing/pay", hidden(page, "/pay")
        assert says_later(once(customer, *pay))
        assert says_later(once(other, "/sign-in", {"sign_in_id": "payer02", "password": "x" * 12}))
        limit(machine, resource.RLIM_INFINITY)
        assert once(customer, *pay)[0] == 303
        other.sign_in("payer02")
        text = (tmp_path / "served.log").read_text()
        assert "disk I/O error" in text or "disk is full" in text
    finally:
        machine.stop()


def says_later(answer: Answer) -> bool:
    status, retry_after, text = answer
    return status == 503 and int(retry_after) > 0 and "Nothing was lost" in text
