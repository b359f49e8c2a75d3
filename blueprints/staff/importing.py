"""Taking over accounts from the export of the ISP's old billing, batch by batch.

Each batch is one unit of work that leaves its accounts complete, opening balance included; so a
run that was killed is finished by running it again. A row that says what is stored changes nothing.

Imported accounts are billed here from the first bill day on or after the cut-over: the month in
which the cut-over lies was billed by the old system and is part of the opening balance. Closed
accounts come with their subscriptions ended on the cut-over, since the export does not say when.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import prices
from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_decisions import Decisions, Taken, decide, read_stored
from blueprints.staff.import_reader import (
    AccountRow,
    Export,
    PlanRule,
    Record,
    Refusal,
    Rules,
)
from blueprints.staff.import_writing import Frame, PlanFacts, write_changes, write_new
from blueprints.staff.rejected_file import RejectedFile
from core import clock
from core.db import db, unit_of_work
from core.phones import default_country
from models import Area, Isp, Plan

# Aimed at, so that a slow disk or a busy moment does not take a unit of work past 50 ms (bar 67).
UNIT_SECONDS = 0.02
FIRST_BATCH, SMALLEST_BATCH, LARGEST_BATCH = 20, 10, 1000
QUIET_BATCH = 400  # while nothing is to be written; not more, since the next rows may be new


@dataclass(slots=True)
class ImportResult:
    """What a run did, or would do. `opening_minor` is the sum over the rows that were taken."""

    cut_over: date
    currency: str
    language: str
    rows: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    opening_minor: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    rejected_path: Path | None = None


def _price_of(plan: Plan, today: date) -> tuple[int | None, date | None]:
    """The price at which a plan is imported, and until which day changes of it do not count: who
    comes while one is planned has not been told of it."""
    steps = prices.read_steps(plan.price_steps)
    if not steps:
        return None, None
    agreed_minor = prices.list_price(plan.price_minor, plan.price_steps, today)
    return agreed_minor, max(today, steps[-1].on)


def _read_frame(cut_over: date | None) -> tuple[Frame, Rules]:
    with Session(db.engine) as session:
        isp = session.get(Isp, 1)
        plans = session.scalars(select(Plan)).all()
        areas = frozenset(session.scalars(select(Area.code)))
        if isp is None or not plans:
            raise ImportImpossible("there is no catalog yet: run `flask catalog load FILE.toml`")
        today = clock.today(isp.timezone)
        return Frame(
            {
                plan.code: PlanFacts(
                    plan.id,
                    plan.kind,
                    plan.down_kbps,
                    plan.up_kbps,
                    plan.intro_price_minor,
                    plan.intro_months,
                    *_price_of(plan, today),
                )
                for plan in plans
            },
            isp.currency,
            isp.languages[0],
            cut_over or today,
            today,
        ), Rules(
            {
                plan.code: PlanRule(plan.code, plan.kind, tuple(plan.requires), plan.requires_kind)
                for plan in plans
            },
            areas,
            tuple(isp.languages),
            isp.currency,
            default_country(isp.timezone),
        )


def _take(
    batch: Sequence[tuple[int, AccountRow]], taken: Taken, frame: Frame, *, is_dry_run: bool
) -> tuple[Decisions, float]:
    """Decide about a batch and write it; returns what was decided and the seconds of writing."""
    rows = [row for _, row in batch]
    with Session(db.engine) as session:
        decisions = decide(batch, read_stored(session, rows), taken)
    if is_dry_run or decisions.is_quiet:
        return decisions, 0.0

    def work(session: Session) -> tuple[Decisions, float]:
        # Two runs at once take turns, as they do on SQLite: what they read is then what stands.
        session.execute(select(Isp.id).where(Isp.id == 1).with_for_update())
        started = time.monotonic()
        decided = decide(batch, read_stored(session, rows), taken)
        write_new(session, decided.new, frame)
        write_changes(session, decided.changed, frame)
        return decided, time.monotonic() - started

    return unit_of_work(work, *(change.stored.id for change in decisions.changed))


def run(
    path: Path,
    *,
    cut_over: date | None = None,
    is_dry_run: bool = False,
    fixed_batch: int | None = None,
    on_progress: Callable[[int], None] = lambda _bytes: None,
    on_refusal: Callable[[Record, Refusal], None] = lambda _record, _refusal: None,
) -> ImportResult:
    """Import the export at `path`, or with `is_dry_run` only say what would happen.

    `cut_over` is the day from which the portal bills (default: today). Batches follow the speed of
    the machine unless `fixed_batch` says how many rows each has. `on_progress` hears how
    many bytes of the file are done, `on_refusal` each refused row in the order of the file. Raises
    ImportImpossible when the file as a whole cannot be used; batches before that stay.
    """
    frame, rules = _read_frame(cut_over)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImportImpossible(f"{path} cannot be read: {error.strerror}") from None
    result = ImportResult(frame.cut_over, frame.currency, frame.language)
    with file:
        export = Export(file, rules)
        rejected = None if is_dry_run else RejectedFile(path, export.columns)
        try:
            for record, refusal in _run_batches(
                export, frame, result, on_progress, is_dry_run=is_dry_run, fixed_batch=fixed_batch
            ):
                result.refused[refusal.reason] += 1
                on_refusal(record, refusal)
                if rejected is not None:
                    rejected.add(record, refusal)
            if rejected is not None:
                result.rejected_path = rejected.finish()
        finally:
            if rejected is not None:
                rejected.abandon()
    return result


def _run_batches(
    export: Export,
    frame: Frame,
    result: ImportResult,
    on_progress: Callable[[int], None],
    *,
    is_dry_run: bool,
    fixed_batch: int | None,
) -> Iterator[tuple[Record, Refusal]]:
    """Take the records batch by batch; yields the refused ones in order."""
    taken = Taken()
    records = iter(export)
    size = fixed_batch or (LARGEST_BATCH if is_dry_run else FIRST_BATCH)
    while batch := list(itertools.islice(records, size)):
        rows = [
            (record.line, record.outcome)
            for record in batch
            if isinstance(record.outcome, AccountRow)
        ]
        decisions, seconds = _take(rows, taken, frame, is_dry_run=is_dry_run)
        taken.numbers |= decisions.taken.numbers
        taken.usernames |= decisions.taken.usernames
        result.rows += len(batch)
        result.added += len(decisions.new)
        result.changed += len(decisions.changed)
        result.unchanged += len(decisions.unchanged)
        result.warnings.update(decisions.warnings)
        result.opening_minor += sum(
            row.opening_minor for line, row in rows if line not in decisions.refused
        )
        for record in batch:
            refusal = decisions.refused.get(record.line, record.outcome)
            if isinstance(refusal, Refusal):
                yield record, refusal
        if fixed_batch is not None:
            pass
        elif seconds:
            wanted = int(len(batch) * UNIT_SECONDS / seconds)
            size = max(SMALLEST_BATCH, min(LARGEST_BATCH, wanted, size * 2))
        elif not is_dry_run:
            size = max(size, QUIET_BATCH)
        on_progress(batch[-1].end_offset)
