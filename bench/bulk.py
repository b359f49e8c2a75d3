"""What takes long once: import, building the demo, checking the books, copying accounts."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from bench import calibration, dataset
from bench.report import Bar, Result, Table
from core.settings import ROOT
from models import Base

ACCOUNTS = {"small": 4_000, "full": 50_000}
DEMO_SECONDS = 90
COPY_SECONDS = 15 * 60 / 50_000  # for each account
EXPORT = ROOT / "demo" / "customers_export.csv"
FLASK = (sys.executable, "-m", "flask", "--app", "app")


@dataclass(frozen=True, slots=True)
class Took:
    """What one program took, and the most memory that it had at any moment."""

    seconds: float
    peak_bytes: int
    said: str


def timed(command: Sequence[str], environment: Mapping[str, str]) -> Took:
    """Run a program to its end. Raises RuntimeError when it fails."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
        peak_bytes = _watch(process)
        seconds = time.monotonic() - began
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said[-2000:]}")
    return Took(seconds, peak_bytes, said)


def _watch(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process; the most memory that it has had.

    Its own account is looked at while it runs: what the kernel tells afterwards is never less than
    what this process, which began it, had.
    """
    peak_bytes = 0
    while process.poll() is None:
        with suppress(OSError):
            text = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+([0-9]+) kB", text)
            peak_bytes = int(found[1]) * 1024 if found else peak_bytes
        time.sleep(0.05)
    return peak_bytes


def write_export(path: Path, rows: int) -> None:
    """An export of `rows` accounts: the demo's again and again, under new numbers and names."""
    with EXPORT.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns, originals = list(reader.fieldnames or ()), list(reader)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number in range(rows):
            row = dict(originals[number % len(originals)])
            copy = number // len(originals)
            if copy:
                for column in ("account_number", "line_username"):
                    row[column] = row[column] and f"{row[column]}{copy:03}"
            writer.writerow(row)


@contextmanager
def _real_folder() -> Iterator[dict[str, str]]:
    """The environment of a real deployment without data, in a folder that is removed."""
    dataset.FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="used-", dir=dataset.FOLDER))
    environment = dataset.Dataset(folder, 0, 0).environment()
    del environment["LASTMILE_DEMO"]
    try:
        yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import(rows: int) -> tuple[Took, Took, int]:
    """The first import, the same again, and how many accounts there are then."""
    with _real_folder() as environment:
        folder = Path(environment["LASTMILE_DATA"])
        export = folder / "export.csv"
        write_export(export, rows)
        timed([*FLASK, "setup", str(ROOT / "demo" / "catalog.toml")], environment)
        command = [*FLASK, "accounts", "import", str(export)]
        first, again = timed(command, environment), timed(command, environment)
        return first, again, dataset.count_accounts(folder / "lastmile.db")


def _rows(path: Path) -> int:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        count = sum(
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in Base.metadata.tables
        )
    engine.dispose()
    return int(count)


def _copy(copies: int) -> tuple[Took, int]:
    with dataset.used(dataset.demo()) as data:
        before = _rows(data.database)
        code = (
            "import sys; from pathlib import Path; from bench import dataset; "
            "dataset.copy_accounts(Path(sys.argv[1]), int(sys.argv[2]))"
        )
        took = timed(
            [sys.executable, "-c", code, str(data.database), str(copies)], data.environment()
        )
        return took, _rows(data.database) - before


def _build(size: str) -> Took:
    """Building the demo; at the small size how long it took when the data set was made."""
    if size == "small":
        return Took(dataset.demo().seconds, 0, "")
    folder = Path(tempfile.mkdtemp(prefix="used-", dir=dataset.FOLDER))
    try:
        code = (
            "import core.serve as s; from core.settings import read_settings; "
            "s.prepare(read_settings())"
        )
        return timed([sys.executable, "-c", code], dataset.Dataset(folder, 0, 0).environment())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(size: str) -> Result:
    """Seconds, rows a second and peak memory of each."""
    demo = dataset.demo()
    wanted = ACCOUNTS[size]
    copies = -(-wanted // demo.accounts)
    built = _build(size)
    first, again, imported = _import(wanted)
    copied, new_rows = _copy(copies)
    many = dataset.make(wanted)
    verified = timed([*FLASK, "ledger", "verify"], many.environment())
    verified_rows = _rows(many.database)
    factor = calibration.factor()
    in_all = copies * demo.accounts
    rows = [
        row_of("the demo, built by living through a year", demo.accounts, "accounts", built),
        row_of(f"import of {wanted:,} rows, {imported:,} accounts", wanted, "rows", first),
        row_of("the same file again, nothing to change", wanted, "rows", again),
        row_of(
            f"{copies * demo.accounts:,} accounts by copying the demo's", new_rows, "rows", copied
        ),
        row_of(
            f"`flask ledger verify` over {many.accounts:,} accounts",
            verified_rows,
            "rows",
            verified,
        ),
    ]
    header = ("what", "seconds", "a second", "peak memory")
    bars = [
        Bar(
            f"{in_all:,} accounts by copying, calibrated",
            copied.seconds / factor,
            COPY_SECONDS * in_all,
            unit=" s",
        ),
    ]
    if built.peak_bytes:  # else it was built at another time, when the machine was as it was
        bars.append(Bar("demo, calibrated", built.seconds / factor, DEMO_SECONDS, unit=" s"))
    return Result([Table("", header, rows)], bars)


def row_of(what: str, count: int, of_what: str, took: Took) -> list[str]:
    peak = f"{took.peak_bytes / 1e6:,.0f} MB" if took.peak_bytes else ""
    return [what, f"{took.seconds:,.1f}", f"{count / took.seconds:,.0f} {of_what}", peak]
