"""Numbers for Prometheus. Closed by default: without LASTMILE_METRICS_TOKEN nothing is counted and
`/metrics` does not exist.

What processes count lies in files of the data folder, which all processes of this node share and
which are made anew at each start; what the database knows is asked at each scrape. No label holds
an id: routes are named by their endpoint.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.metrics_core import Metric

FOLDER = "metrics"
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0)
_WAIT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class _Meters:
    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    queue: Histogram
    retries: Counter
    refused_writes: Counter
    hashing: Gauge
    hash_wait: Histogram
    hash_refused: Counter
    throttled: Counter


_meters: _Meters | None = None
_of_request: dict[tuple[str, str, int], tuple[Any, Any]] = {}
_listed: list[Callable[[], Iterable[Metric]]] = []


def share(folder: Path) -> None:
    """Make this node's folder for counts anew; processes started from here on share it."""
    path = folder / FOLDER
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    os.environ[_SHARED] = str(path)


def enable() -> None:
    """Count from now on, in this process. Doing so again changes nothing."""
    global _meters  # noqa: PLW0603 - a process counts once
    if _meters is not None:
        return
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    own = CollectorRegistry()
    _meters = _Meters(
        own,
        Counter(
            "lastmile_requests",
            "Requests by method, route and class of status",
            ("method", "endpoint", "status"),
            registry=own,
        ),
        Histogram(
            "lastmile_request_seconds",
            "Time to answer a request, by route",
            ("endpoint",),
            buckets=_REQUEST_BUCKETS,
            registry=own,
        ),
        Histogram(
            "lastmile_write_wait_seconds",
            "Time a unit of work waited for its turn to write, or for its accounts",
            buckets=_WAIT_BUCKETS,
            registry=own,
        ),
        Counter(
            "lastmile_write_retries",
            "Units of work that ran again, because another was in their way",
            registry=own,
        ),
        Counter(
            "lastmile_write_refusals",
            "Units of work whose turn to write did not come in time",
            registry=own,
        ),
        Gauge(
            "lastmile_password_hash_queue",
            "Passwords being checked or waiting for it",
            multiprocess_mode="livesum",
            registry=own,
        ),
        Histogram(
            "lastmile_password_hash_wait_seconds",
            "Time a password waited to be checked",
            buckets=_WAIT_BUCKETS,
            registry=own,
        ),
        Counter(
            "lastmile_password_hash_refusals",
            "Passwords that were not checked, because too many waited",
            registry=own,
        ),
        Counter(
            "lastmile_throttled",
            "Tries that were refused before the password was looked at, by the limit they met",
            ("limit",),
            registry=own,
        ),
    )


def is_enabled() -> bool:
    return _meters is not None


# Counting -------------------------------------------------------------------------------------


def note_request(method: str, endpoint: str, status: int, seconds: float) -> None:
    if _meters is None:
        return
    key = (method, endpoint, status // 100)
    found = _of_request.get(key)
    if found is None:
        found = _of_request[key] = (
            _meters.requests.labels(method, endpoint, f"{status // 100}xx"),
            _meters.seconds.labels(endpoint),
        )
    found[0].inc()
    found[1].observe(seconds)


def note_write_wait(seconds: float) -> None:
    if _meters is not None:
        _meters.queue.observe(seconds)


def note_write_retry() -> None:
    if _meters is not None:
        _meters.retries.inc()


def note_write_refusal() -> None:
    if _meters is not None:
        _meters.refused_writes.inc()


def note_throttled(limit: str) -> None:
    if _meters is not None:
        _meters.throttled.labels(limit).inc()


def note_hash_refusal() -> None:
    if _meters is not None:
        _meters.hash_refused.inc()


@contextmanager
def hashing() -> Iterator[Callable[[], None]]:
    """Around a password's check; what it gives is called when the wait is over."""
    if _meters is None:
        yield lambda: None
        return
    meters, started = _meters, time.perf_counter()
    meters.hashing.inc()
    try:
        yield lambda: meters.hash_wait.observe(time.perf_counter() - started)
    finally:
        meters.hashing.dec()


# Telling --------------------------------------------------------------------------------------


def list_also(collect: Callable[[], Iterable[Metric]]) -> None:
    """Have `collect` asked at each scrape."""
    if collect not in _listed:
        _listed.append(collect)


class _Asked:
    def collect(self) -> Iterator[Metric]:
        for collect in _listed:
            yield from collect()


def exposition() -> bytes:
    """Everything in Prometheus' text format: the counts of all processes of this node, and what the
    database knows. Needs an application context."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    registry.register(_Asked())
    asked = generate_latest(registry)
    folder = os.environ.get(_SHARED)
    if folder is None:
        return (generate_latest(_meters.registry) if _meters is not None else b"") + asked
    _forget_the_dead(folder)
    counted = CollectorRegistry()
    MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    return generate_latest(counted) + asked


def _forget_the_dead(folder: str) -> None:
    """A process that was killed waits for nothing any more; what it counted stays counted."""
    from prometheus_client.multiprocess import mark_process_dead

    for path in Path(folder).glob("gauge_live*_*.db"):
        match = re.search(r"_(\d+)\.db$", path.name)
        if match and not Path("/proc", match[1]).exists():
            mark_process_dead(int(match[1]))  # type: ignore[no-untyped-call]
