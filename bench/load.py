"""Pages asked for at a fixed rate, whatever the portal does (bar 82)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from bench import calibration, client, dataset, serving
from bench.client import Asked, Measured, asked
from bench.report import Bar, Result, Table

ACCOUNTS = {"small": 4_000, "full": 50_000}
OWNERS = {"small": 300, "full": 2_000}
PROCESSES = 2
# Out of 16 pages, roughly as people go about: they look at home, then pay.
MIX = (
    *("dashboard",) * 6,
    *("billing",) * 3,
    *("invoices",) * 2,
    *("an invoice",) * 2,
    *("pay form",) * 2,
    "help",
)


@dataclass(frozen=True, slots=True)
class Pace:
    """So many requests a second for so long, and what must hold then, in milliseconds."""

    rate: int
    seconds: dict[str, int]
    p95_ms: float | None
    p99_ms: float


PACES = (
    Pace(100, {"small": 20, "full": 600}, 150, 400),
    Pace(200, {"small": 10, "full": 120}, None, 1_000),
)


def requests(port: int, owners: Sequence[dataset.SignedInOwner]) -> list[Asked]:
    """The mix of pages, spread over the owners."""
    found = []
    for number, owner in enumerate([*owners] * len(MIX)):
        name = MIX[(number + number // len(owners)) % len(MIX)]
        path = {
            "dashboard": owner.home,
            "billing": f"{owner.home}billing/",
            "invoices": f"{owner.home}billing/invoices/",
            "an invoice": f"{owner.home}billing/invoices/{owner.latest_invoice}",
            "pay form": f"{owner.home}billing/pay",
            "help": "/help",
        }[name]
        found.append(
            asked(port, path, {"Cookie": f"session={owner.token}"}, least_bytes=500, name=name)
        )
    return found


def run(size: str) -> Result:
    """Latencies from the planned moment on, by pace and page."""
    many = dataset.make(ACCOUNTS[size])
    owners = dataset.open_sessions(many, OWNERS[size], is_own_device=False)
    tables, bars = [], []
    with serving.portal(many, PROCESSES) as portal:
        pages = requests(portal.port, owners)
        # Each page once, so that templates are compiled and the first questions asked.
        client.open_loop(portal.port, pages, 50, 0, count=2 * len(MIX))
        for pace in PACES:
            measured = client.open_loop(portal.port, pages, pace.rate, pace.seconds[size])
            tables.append(_table(pace, measured, pace.seconds[size]))
            bars += _bars(pace, measured)
    tables[-1] = Table(
        tables[-1].title,
        tables[-1].header,
        tables[-1].rows,
        f"{many.accounts:,} accounts with a year of history, {len(owners)} of their owners in "
        f"turn, {PROCESSES} processes, the client on the same cores. Milliseconds from the moment "
        f"for which a request was planned.",
    )
    return Result(tables, bars)


def _table(pace: Pace, measured: Measured, seconds: int) -> Table:
    found = {**dict(islice(sorted(measured.named.items()), 20)), "**all**": measured.latencies}
    rows = [
        [name, f"{len(times):,}"]
        + [f"{1000 * client.share(times, part):.1f}" for part in (0.5, 0.95, 0.99, 1)]
        for name, times in found.items()
    ]
    header = ("page", "requests", "median", "p95", "p99", "longest")
    title = f"{pace.rate} requests a second for {seconds} s: {measured.wrong} errors"
    return Table(title, header, rows)


def _bars(pace: Pace, measured: Measured) -> list[Bar]:
    what = f"{pace.rate} pages a second"
    factor = calibration.factor()
    bars = [Bar(f"{what}: errors", measured.wrong, 0)]
    for name, part, limit in (("p95", 0.95, pace.p95_ms), ("p99", 0.99, pace.p99_ms)):
        if limit is not None:
            value = 1000 * measured.part(part) / factor
            bars.append(Bar(f"{what}: {name}, calibrated", value, limit, unit=" ms"))
    return bars
