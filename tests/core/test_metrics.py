"""`/metrics`: closed by default, right over several processes, and about nobody (bar 80)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core import maintenance, metrics, vital_signs
from core.policy import POLICY
from core.settings import ROOT
from models import PaymentState
from tests import crawl, processes
from tests.conftest import Portal
from tests.page import BASE
from tests.test_serve import environment, free_ports, wait_for_health

TOKEN = "metrics-token-of-the-tests"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum over every series of `name` that has the labels."""
    wanted = set(labels.items())
    return sum(
        found for (known, of_it), found in samples.items() if known == name and wanted <= set(of_it)
    )


@pytest.fixture
def counting() -> Iterator[None]:
    """As with a token, in this process alone; afterwards nothing is counted again."""
    metrics.enable()
    metrics.list_also(vital_signs.collect)
    yield
    metrics._meters = None
    metrics._of_request.clear()
    metrics._listed.clear()
    vital_signs._by_state.clear()


def scrape(portal: Portal) -> Samples:
    with portal.app.app_context():
        return parse(metrics.exposition().decode())


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_closed_without_the_token_like_a_page_that_does_not_exist(
    portal: Portal, token: str, counting: None
) -> None:
    with crawl.another_app(portal, metrics_token=token) as app:
        client = app.test_client()
        absent = client.get("/metricz", base_url=BASE)
        for given in (None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN):
            headers = {"Authorization": given} if given is not None else {}
            answer = client.get("/metrics", base_url=BASE, headers=headers)
            assert answer.status_code == 404
            assert answer.data == absent.data
        answer = client.get("/metrics", base_url=BASE, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == (200 if token else 404)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_node_is_asked_at_its_own_address(portal: Portal, counting: None) -> None:
    """As Prometheus does, which cannot name another host; without the token it is told nothing."""
    with crawl.another_app(portal, metrics_token=TOKEN, public_url="https://my.example.net") as app:
        client = app.test_client()
        scraped = client.get(
            "http://10.0.0.11:8000/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert scraped.status_code == 200
        for path, given in (("/metrics", f"Bearer {TOKEN}x"), ("/sign-in", f"Bearer {TOKEN}")):
            refused = client.get(f"http://10.0.0.11:8000{path}", headers={"Authorization": given})
            assert refused.status_code == 400


def test_requests_are_counted_by_route_and_never_by_what_somebody_typed(
    portal: Portal, counting: None
) -> None:
    alice = portal.visitor("alice")
    before = scrape(portal)
    for _ in range(3):
        alice.get(portal.path())
    alice.client.get("/nothing", base_url=BASE)
    alice.client.open("/help", base_url=BASE, method="BREW")
    samples = scrape(portal)

    def grown(**labels: str) -> float:
        name = "lastmile_requests_total"
        return total(samples, name, **labels) - total(before, name, **labels)

    assert grown(endpoint="dashboard.home", method="GET", status="2xx") == 3
    assert grown(endpoint="none", status="4xx") == 2
    assert grown(method="other") == 1
    assert value(samples, "lastmile_request_seconds_count", endpoint="dashboard.home") >= 3
    known = {*POLICY, "none"}
    for _name, labels in samples:
        for label, text in labels:
            assert label in ("method", "endpoint", "status", "le", "state", "limit")
            assert label != "endpoint" or text in known
            assert "alice" not in text


def test_database_tells_of_payments_messages_and_the_worker(
    portal: Portal, counting: None, tick: Callable[..., None]
) -> None:
    alice = portal.visitor("alice")
    samples = scrape(portal)
    assert value(samples, "lastmile_worker_heartbeat_age_seconds") == float("inf")
    assert value(samples, "lastmile_database_bytes") > 100_000
    assert value(samples, "lastmile_maintenance") == 0
    assert value(samples, "lastmile_payments", state="succeeded") == 2
    messages = value(samples, "lastmile_messages_due")
    alice.submit(alice.get(portal.path("billing/pay")), "/pay", choice="balance")
    samples = scrape(portal)
    assert value(samples, "lastmile_payments", state="sent") == 1
    assert value(samples, "lastmile_payments_due") == 0
    portal.execute("UPDATE payments SET state = 'unknown' WHERE state = 'sent'")
    tick(minutes=10)
    samples = scrape(portal)
    assert value(samples, "lastmile_payments", state="unknown") == 1
    assert value(samples, "lastmile_payments_unknown_oldest_seconds") == 600
    assert value(samples, "lastmile_payments_due") == 1
    assert 500 < value(samples, "lastmile_payments_due_oldest_seconds") < 600
    assert value(samples, "lastmile_messages_due") == messages
    assert {labels for name, labels in samples if name == "lastmile_payments"} == {
        (("state", state.value),) for state in PaymentState
    }


def test_waiting_retries_and_refusals_are_counted(portal: Portal, counting: None) -> None:
    before = scrape(portal)
    visitor = portal.visitor()
    visitor.sign_in("alice", "wrong")
    visitor.sign_in("alice", "wrong")
    samples = scrape(portal)
    assert total(samples, "lastmile_throttled_total", limit="person") == 1
    waited = "lastmile_password_hash_wait_seconds_count"
    assert value(samples, waited) - value(before, waited) == 1
    assert value(samples, "lastmile_password_hash_queue") == 0
    written = "lastmile_write_wait_seconds_count"
    assert value(samples, written) > value(before, written)


def test_closed_portal_says_only_that_while_it_does_without_its_database(
    portal: Portal, counting: None
) -> None:
    portal.app.test_cli_runner().invoke(args=["maintenance", "on", "--until", "23:00"])
    try:
        with portal.app.app_context():
            maintenance.heed_file(str(portal.settings.data))
            samples = parse(metrics.exposition().decode())
    finally:
        (portal.settings.data / maintenance.FILE).unlink()
        maintenance.forget_file()
    assert value(samples, "lastmile_maintenance") == 1
    assert "lastmile_database_bytes" not in {name for name, _labels in samples}


# Served ---------------------------------------------------------------------------------------


def fetch(port: int, token: str | None = TOKEN) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.headers["Cache-Control"] == "no-store"
        text: str = answer.read().decode()
        return text


def test_two_processes_are_counted_together_and_survive_one_that_is_killed(
    tmp_path: Path,
) -> None:
    """A portal really served; its log is read as well, on standard error."""
    port = free_ports()
    old = tmp_path / "metrics"
    old.mkdir()
    (old / "counter_1.db").write_bytes(b"of an earlier start")
    env = environment(tmp_path, port, LASTMILE_METRICS_TOKEN=TOKEN, LASTMILE_LOG="requests")
    setup = [sys.executable, "-m", "flask", "--app", "app", "setup", "demo/catalog.toml"]
    subprocess.run(setup, env=env, cwd=ROOT, check=True, capture_output=True)
    log_path = tmp_path / "log"
    with log_path.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], env=env, stdout=subprocess.DEVNULL, stderr=file
        )
    try:
        wait_for_health(port, process, 60)  # type: ignore[arg-type]
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(port, None)
        assert refused.value.code == 404
        refused.value.close()
        asked = 60
        for _ in range(asked):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/help", timeout=10).read()
        counted = list((tmp_path / "metrics").glob("counter_*.db"))
        assert len(counted) >= 2
        samples = parse(fetch(port))
        assert total(samples, "lastmile_requests_total", endpoint="support.help") == asked
        seconds = "lastmile_request_seconds_count"
        assert value(samples, seconds, endpoint="support.help") == asked
        assert value(samples, "lastmile_payments", state="unknown") == 0
        web = [pid for pid in processes.descendants(process.pid) if is_web(pid)]
        os.kill(web[0], signal.SIGKILL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                samples = parse(fetch(port))
                break
            except OSError:
                time.sleep(0.2)
        assert total(samples, "lastmile_requests_total", endpoint="support.help") == asked
    finally:
        processes.end(process)
    lines = [json.loads(line) for line in log_path.read_text().splitlines() if line[:1] == "{"]
    helps = [line for line in lines if line.get("endpoint") == "support.help"]
    assert len(helps) == asked
    assert {line["status"] for line in helps} == {200}
    assert len({line["request"] for line in helps}) == asked
    assert TOKEN not in log_path.read_text()


def is_web(pid: int) -> bool:
    """Whether it is a process that answers requests: a generation's child, which bears its name."""
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, parent)]
    return all(b"app.py\0generation" in line for line in lines)
