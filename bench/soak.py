"""Hours of modest load, and what the processes use meanwhile, drawn as a picture (bar 88).

python -m bench.soak HOURS [--rate REQUESTS_A_SECOND] [--accounts N] [--write]

The portal is served with its worker and the demo's bank; pages, sign-ins and notices of payments go
on all the time. Every half minute memory, descriptors, threads and the size of the database are
noted in `build/bench/soak.jsonl`, so that a run that is ended early is not lost. `--write` puts the
picture into docs/images/ and the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import client, dataset, load, processes, report, serving
from bench.client import Asked, asked
from bench.curve import Curve, Line, draw
from bench.postings import at_the_bank, prepare, signed_notice
from bench.report import Bar, Result, Table
from core.settings import ROOT
from gateways.payments.sandbox.secrets import SandboxSecrets

NOTES = dataset.FOLDER / "soak.jsonl"
PICTURE = ROOT / "docs" / "images" / "soak.svg"
SAMPLE_SECONDS = 30
WARM_UP = 1 / 8  # of the run: half an hour of four
SIGN_IN_EVERY = 10  # seconds
OWNERS = 400
MOST_BYTES = 512 * 1024 * 1024
MOST_GROWTH = 0.05
ROLES = ("web", "worker", "supervisor", "sandbox", "helper")


@dataclass(slots=True)
class Sample:
    """What all processes use at one moment; memory counts shared pages once."""

    seconds: float
    memory: dict[str, int]
    resident: int
    descriptors: int
    threads: int
    database: int
    requests: int = 0
    wrong: int = 0
    slow_ms: float = 0.0

    @property
    def total(self) -> int:
        """Bytes of the portal's own processes; the demo's bank is none of them."""
        return sum(size for role, size in self.memory.items() if role != "sandbox")


def _sample(served: serving.Served, database: Path, began: float) -> Sample:
    uses = processes.uses(served.pid)
    own = [use for use in uses if use.role != "sandbox"]
    memory = dict.fromkeys(ROLES, 0)
    for use in uses:
        memory[use.role] += use.pss_bytes
    size = sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))
    return Sample(
        time.monotonic() - began,
        memory,
        sum(use.rss_bytes for use in own),
        sum(use.descriptors for use in own),
        sum(use.threads for use in own),
        size,
    )


@dataclass
class _Load:
    """Pages, one sign-in every ten seconds, and a notice of a payment now and then."""

    port: int
    pages: list[Asked]
    sign_in: Asked
    notices: Iterator[bytes]
    secrets: Sequence[str]
    rate: float
    notice_every: float
    done: int = field(default=0)

    def send(self, seconds: float) -> client.Measured:
        """Keep it up for so long."""
        count = max(1, int(self.rate * seconds))
        requests = [self.pages[(self.done + n) % len(self.pages)] for n in range(count)]
        self.done += count
        for place in range(0, count, max(1, int(SIGN_IN_EVERY * self.rate))):
            requests[place] = self.sign_in
        for place in range(1, count, max(2, int(self.notice_every * self.rate))):
            body = next(self.notices, None)
            if body is not None:
                requests[place] = signed_notice(self.port, body, self.secrets)
        return client.open_loop(self.port, requests, self.rate, 0, count=count, threads=16)


def _sign_in(port: int, owner: dataset.SignedInOwner) -> Asked:
    body = f"sign_in_id=owner-{owner.number}&password={dataset.PASSWORD}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "here=1"}
    return asked(port, "/sign-in", headers, method="POST", body=body, status=303, name="signing in")


def soak(hours: float, rate: float, accounts: int) -> list[Sample]:
    """Serve, load and sample for so long; each sample is also a line of NOTES."""
    seconds = hours * 3600
    with ExitStack() as stack:
        data = stack.enter_context(dataset.used(dataset.make(accounts)))
        owners = dataset.open_sessions(data, OWNERS)
        payments = prepare(data.settings(), min(int(seconds / 2), int(0.8 * data.accounts)))
        bodies = at_the_bank(data, [key for _, key in payments])
        secrets = SandboxSecrets.read_or_create(data.data / "sandbox-secret").notice_secrets
        served = stack.enter_context(serving.portal(data, load.PROCESSES))
        work = _Load(
            served.port,
            load.requests(served.port, owners),
            _sign_in(served.port, next(o for o in owners if not o.number.startswith("102"))),
            iter(bodies),
            secrets,
            rate,
            max(2.0, seconds / len(bodies)),
        )
        notes = stack.enter_context(NOTES.open("w"))
        samples: list[Sample] = []
        began = time.monotonic()
        pause = min(SAMPLE_SECONDS, seconds / 40)
        while time.monotonic() - began < seconds:
            measured = work.send(pause)
            sample = _sample(served, data.database, began)
            sample.requests, sample.wrong = len(measured.latencies), measured.wrong
            sample.slow_ms = 1000 * measured.part(0.95)
            samples.append(sample)
            notes.write(json.dumps(asdict(sample)) + "\n")
            notes.flush()
        return samples


def judge(samples: Sequence[Sample]) -> list[Bar]:
    """Bar 88 over the samples: the part after the warm-up is compared with the end."""
    end = samples[-1].seconds
    settled = [sample for sample in samples if sample.seconds >= WARM_UP * end]
    window = max(3, len(settled) // 8)
    first, last = settled[:window], settled[-window:]

    def middle(some: Sequence[Sample], what: str) -> float:
        return float(statistics.median(getattr(sample, what) for sample in some))

    growth = middle(last, "total") / middle(first, "total") - 1
    more = middle(last, "descriptors") - middle(first, "descriptors")
    return [
        Bar("most memory", max(s.total for s in samples) / 2**20, MOST_BYTES / 2**20, unit=" MiB"),
        Bar("growth of memory after the warm-up", 100 * growth, 100 * MOST_GROWTH, unit=" %"),
        Bar("growth of open descriptors", more, 0),
        Bar("wrong answers", sum(sample.wrong for sample in samples), 0),
    ]


def table(samples: Sequence[Sample]) -> Table:
    """The moments a reader looks for: start, after the warm-up, middle, end."""
    end = samples[-1].seconds
    rows = []
    for name, part in (("start", 0), ("warmed up", WARM_UP), ("middle", 0.5), ("end", 1)):
        sample = min(samples, key=lambda each: abs(each.seconds - part * end))
        rows.append(
            [
                f"{name}, {sample.seconds / 60:,.0f} min",
                f"{sample.total / 2**20:,.0f}",
                f"{sample.memory['web'] / 2**20:,.0f}",
                f"{sample.memory['worker'] / 2**20:,.0f}",
                f"{sample.resident / 2**20:,.0f}",
                str(sample.descriptors),
                str(sample.threads),
                f"{sample.database / 2**20:,.0f}",
            ]
        )
    requests = sum(sample.requests for sample in samples)
    slow = statistics.median(sample.slow_ms for sample in samples)
    note = (
        f"MiB, shared pages counted once but for “resident”, which counts them for each process. "
        f"{requests:,} requests: pages, sign-ins, notices of payments; p95 {slow:.0f} ms."
    )
    header = ("when", "memory", "web", "worker", "resident", "descriptors", "threads", "database")
    return Table("", header, rows, note)


def picture(samples: Sequence[Sample]) -> str:
    """The curves as an SVG document."""
    minutes = [sample.seconds / 60 for sample in samples]
    mib = 2**20
    return draw(
        [
            Curve(
                "Memory, MiB",
                [
                    Line("all of the portal", [s.total / mib for s in samples]),
                    Line("web processes", [s.memory["web"] / mib for s in samples]),
                    Line("worker", [s.memory["worker"] / mib for s in samples]),
                ],
                limit=MOST_BYTES / mib,
            ),
            Curve(
                "Open descriptors and threads",
                [
                    Line("descriptors", [float(s.descriptors) for s in samples]),
                    Line("threads", [float(s.threads) for s in samples]),
                ],
            ),
        ],
        minutes,
        "minutes",
    )


def main() -> int:
    """Exit 1 when bar 88 is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("hours", type=float)
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--accounts", type=int, default=4_000)
    parser.add_argument("--write", action="store_true", help="into docs/")
    options = parser.parse_args()
    print(f"{report.machine()}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", flush=True)
    samples = soak(options.hours, options.rate, options.accounts)
    result = Result([table(samples)], judge(samples))
    print(result.markdown())
    if options.write:
        PICTURE.write_text(picture(samples))
        result.note = "![Memory and descriptors over the run](images/soak.svg)"
        command = f"python -m bench.soak {options.hours:g} --rate {options.rate:g} --write"
        report.write("soak", command, result)
    else:
        print(f"picture: {_draft(samples)}")
    return 0 if all(bar.holds for bar in result.bars) else 1


def _draft(samples: Sequence[Sample]) -> Path:
    path = NOTES.with_suffix(".svg")
    path.write_text(picture(samples))
    return path


if __name__ == "__main__":
    sys.exit(main())
