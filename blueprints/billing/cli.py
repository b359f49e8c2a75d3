"""`flask ledger`: checking and exporting the books; `flask billing`: what has to do with money."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from itertools import chain
from typing import TextIO

import click
from flask import current_app

from blueprints.billing import asked_runs, bill_run
from blueprints.billing import export as books
from blueprints.billing.bank_cli import import_bank
from blueprints.billing.dunning import taking
from blueprints.billing.dunning.reading import read_frame
from blueprints.billing.dunning.steps import StepKind
from blueprints.billing.errors import BillRunHalted, BillRunStopped, BillRunUnderWay
from blueprints.billing.exempt_cli import exempt, exemptions, pays_tax
from blueprints.billing.reconciling import (
    Finding,
    OnlyOurs,
    Reconciled,
    find_only_ours,
    reconcile,
)
from blueprints.billing.verify import find_faults
from core import activity, clock, nightly, words
from core.commands import Commands, Day, beginning
from core.db import DatabaseBusy, db, reading, unit_of_work
from core.downloads import csv_lines
from core.isp import current_isp
from core.money import AmountUnreadable, Money, format_money, format_plain, parse_money
from gateways.payments.errors import GatewayError

ledger_cli = Commands("ledger", help="The books.")
billing_cli = Commands("billing", help="Payments and bills.")
payments_cli = Commands("payments", help="Money that came and went, by the gateway and the bank.")
payments_cli.add_command(import_bank)
for command in (exempt, pays_tax, exemptions):
    billing_cli.add_command(command)


@ledger_cli.command("verify")
def verify() -> None:
    """Compute every sum again and name each row that does not add up; exit 1 if one does not."""
    with reading() as session:
        faults = list(find_faults(session))
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        click.echo(f"The books do not add up: {len(faults)} faults.", err=True)
        sys.exit(1)
    click.echo("The books add up.")


@ledger_cli.command("export")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["beancount", "csv"]),
    default="beancount",
    help="csv: a line for each posting. Default is beancount.",
)
@click.option("--from", "first_on", type=Day(), help="The first day; default is that of the books.")
@click.option("--to", "last_on", type=Day(), help="The last day; default is that of the books.")
@click.option(
    "--map",
    "map_",
    type=click.File("r", encoding="utf-8-sig"),
    help="CSV of account codes, like revenue:tv,4010; default for csv are the catalog's.",
)
@click.option("--output", type=click.File("w"), default="-", help="A file; default is the screen.")
def export(
    format_: str,
    first_on: datetime | date | None,
    last_on: datetime | date | None,
    map_: TextIO | None,
    output: TextIO,
) -> None:
    """Write the entries of some days, or all, in a form that accounting tools read.

    As beancount with a check of each balance. The activity trail notes that it was done.
    """
    days = books.Days(_day("--from", first_on), _day("--to", last_on))
    if days.first_on and days.last_on and days.last_on < days.first_on:
        raise click.ClickException("--to is before --from.")
    try:
        codes = books.Codes() if map_ is None else books.read_codes(map_)
        if format_ == "beancount":
            codes.check_beancount()
        elif map_ is None:
            codes = books.Codes(dict(current_isp().billing_rules.journal_codes))
    except books.MapUnreadable as problem:
        raise click.ClickException(f"The account codes: {problem}.") from None
    note = activity.Event("ledger_exported", clock.now())
    unit_of_work(lambda session: activity.record(session, [note]))
    with reading() as session:
        if format_ == "csv":
            rows = chain([books.COLUMNS], books.postings(session, days, codes))
            output.writelines(csv_lines(rows))
        else:
            output.writelines(line + "\n" for line in books.beancount(session, days, codes))


def _day(option: str, given: datetime | date | None) -> date | None:
    if isinstance(given, datetime):
        raise click.ClickException(f"{option} takes a day, like 2026-03-31.")
    return given


@billing_cli.command("reconcile")
@click.option("--since", required=True, type=Day(), help="A day, or an instant with its zone.")
def reconcile_command(since: datetime | date) -> None:
    """Book what the payment gateway has taken and given back since then and the books do not know.

    For after a restore; running it again changes nothing. Exit 1 when something is left for you.
    """
    gateway = current_app.extensions["payment_gateway"]
    if gateway is None:
        raise click.ClickException("There is no payment gateway: nothing was paid online.")
    since = beginning(since)
    if since > clock.now():
        raise click.ClickException("This is in the future.")
    found: Counter[Finding] = Counter()
    missing = 0
    try:
        for done in reconcile(gateway, since):
            found[done.finding] += 1
            if done.finding is not Finding.KNOWN:
                click.echo(_line(done))
        for only in find_only_ours(gateway, since):
            missing += 1
            click.echo(_line_of_ours(only))
    except (GatewayError, DatabaseBusy) as error:
        raise click.ClickException(
            f"It broke off ({error}). What is listed is booked: run it again for the rest."
        ) from error
    click.echo(
        f"{found[Finding.BOOKED]} booked, {found[Finding.ON_ITS_WAY]} on their way, "
        f"{found[Finding.KNOWN]} known before."
    )
    if found[Finding.BACK]:
        click.echo(f"Of {found[Finding.BACK]} what went back was booked.")
    if found[Finding.STILL_OPEN]:
        click.echo(
            f"Still open at the gateway and unknown here: {found[Finding.STILL_OPEN]}. "
            "Run it again in an hour."
        )
    left = missing + sum(
        found[each] for each in (Finding.NO_ACCOUNT, Finding.DIFFERS, Finding.BACK_DIFFERS)
    )
    if left:
        click.echo(f"Left for you, see the lines above: {left}.", err=True)
        sys.exit(1)


payments_cli.add_command(reconcile_command)

_WORDS = {
    Finding.BOOKED: "booked",
    Finding.ON_ITS_WAY: "on its way",
    Finding.KNOWN: "known",
    Finding.STILL_OPEN: "still open, not paid yet",
    Finding.NO_ACCOUNT: "NOT BOOKED, no account has this reference: import it, then run this again",
    Finding.DIFFERS: "NOT BOOKED, amount, currency or account differ from ours",
    Finding.BACK: "booked what went back",
    Finding.BACK_DIFFERS: "WHAT WENT BACK DIFFERS",
}


def _line(done: Reconciled) -> str:
    truth = done.listed.truth
    parts = [
        f"{done.listed.changed_at:%Y-%m-%d %H:%M}",
        format_money(Money(truth.amount_minor, truth.currency), "en"),
        f"account {done.account_number}"
        if done.account_number
        else f"reference {truth.customer_reference!r}",
        truth.reference or done.listed.key,
        _WORDS[done.finding],
    ]
    if done.ours is not None:
        theirs = (done.listed.refunded_minor, done.listed.reversed_minor)
        ours = (done.ours.refunded_minor, done.ours.reversed_minor)
        for words, there, here in zip(("refunded", "taken back"), theirs, ours, strict=True):
            if there or here:
                parts.append(
                    f"{words}: {_plain(there, truth.currency)} there, "
                    f"{_plain(here, truth.currency)} here"
                )
    return "  ".join(parts)


def _plain(minor: int, currency: str) -> str:
    return format_money(Money(minor, currency), "en")


def _line_of_ours(only: OnlyOurs) -> str:
    amount = format_money(only.amount, "en")
    return f"{amount}  account {only.account_number}  {only.public_id}  ONLY HERE: not paid there"


class _Stopped(click.ClickException):
    exit_code = nightly.NOT_AGAIN_TODAY


@billing_cli.command("run")
@click.option("--as-of", type=Day(), help="Bill what is due on this day; default is today.")
@click.option("--dry-run", is_flag=True, help="Say what would be billed; write nothing.")
@click.option(
    "--accept-total",
    help="Bill although the run stopped: the total that it showed, like 20431.50.",
)
@click.option("--ahead", is_flag=True, help="Bill also for a day that has not come yet.")
@click.option("--asked", is_flag=True, help="Do what staff have asked for on their page.")
def run_command(
    as_of: datetime | date | None,
    *,
    dry_run: bool,
    accept_total: str | None,
    ahead: bool,
    asked: bool,
) -> None:
    """Issue the invoices of every account whose next bill period has begun.

    The worker does this each night. Running it again bills nothing twice. It stops before it
    issues anything when the total stands out from the last period's.
    """
    day = _day("--as-of", as_of)
    nightly.end_with_the_worker()
    if asked:
        _do_asked()
        return
    frame = bill_run.read_frame(day)
    if dry_run:
        with _bar("Adding up") as tell:
            planned = bill_run.plan(frame, tell)
        _show(planned)
        return
    if frame.as_of_on > clock.today(current_isp().timezone) and not ahead:
        raise click.ClickException(
            "--as-of is in the future: add --dry-run to look ahead, or --ahead to bill it now."
        )
    accepted_minor = None
    if accept_total is not None:
        try:
            accepted_minor = parse_money(accept_total, frame.currency)
        except AmountUnreadable:
            raise click.ClickException("--accept-total takes an amount like 20431.50.") from None
    try:
        with ExitStack() as bars:
            outcome = bill_run.run(
                frame,
                accepted_minor=accepted_minor,
                on_added=_mover(bars, "Adding up"),
                on_progress=_mover(bars, "Issuing"),
            )
    except BillRunUnderWay:
        raise click.ClickException(_UNDER_WAY) from None
    except BillRunHalted:
        raise _Stopped(
            "Stopped by staff. What is issued stays; run it again for the rest."
        ) from None
    except BillRunStopped as stopped:
        _show(stopped.plan)
        total = format_plain(Money(stopped.plan.total_minor, stopped.plan.currency))
        raise _Stopped(
            "Stopped, nothing of this was issued. If it is right, run it again with "
            f"--accept-total {total}"
        ) from None
    nightly.note_done(nightly.BILL_RUN)
    total = format_money(Money(outcome.total_minor, frame.currency), "en")
    click.echo(f"{outcome.invoices} invoices issued, {total} in all.")


_UNDER_WAY = "Another bill run is under way: wait until it is done."


def _do_asked() -> None:
    try:
        done = asked_runs.do_asked()
    except BillRunUnderWay:
        raise click.ClickException(_UNDER_WAY) from None
    click.echo(f"{done} asked for and done.")


@billing_cli.command("dunning")
@click.option("--as-of", type=Day(), help="The steps of this day; default is today.")
@click.option("--dry-run", is_flag=True, help="Say which steps are due; take none.")
def dunning_command(as_of: datetime | date | None, *, dry_run: bool) -> None:
    """Take the steps that are due about bills that are not paid: remind, charge late fees, hold
    lines, close accounts, by the catalog's [dunning].

    The worker does this each day. Running it again takes no step twice.
    """
    if isinstance(as_of, datetime):
        raise click.ClickException("--as-of takes a day, like 2026-03-31.")
    nightly.end_with_the_worker()
    frame = read_frame(db.session(), as_of)
    if dry_run:
        with _bar("Looking") as tell:
            planned = taking.plan(frame, tell)
        for each in planned:
            click.echo(_step_line(each, frame.currency))
        click.echo(_step_counts(Counter(each.step.kind for each in planned), "due"))
        return
    if frame.today > clock.today(frame.timezone):
        raise click.ClickException("--as-of is in the future: add --dry-run to look ahead.")
    with _bar("Taking steps") as tell:
        done = taking.run(frame, tell)
    nightly.note_done(nightly.DUNNING)
    click.echo(_step_counts(done, "taken"))


def _step_line(each: taking.Taken, currency: str) -> str:
    amount = format_money(Money(each.step.amount_minor, currency), "en")
    step = each.step
    return f"{each.account_number}  {step.name}  {step.invoice.number}  {amount}"


def _step_counts(counts: Counter[StepKind], what: str) -> str:
    words = ", ".join(f"{counts[kind]} {_STEP_WORDS[kind]}" for kind in StepKind)
    return f"{sum(counts.values())} steps {what}: {words}."


_STEP_WORDS = {
    StepKind.REMIND: "reminders",
    StepKind.FEE: "late fees",
    StepKind.HOLD: "accounts held",
    StepKind.CLOSE: "closed",
}


@contextmanager
def _bar(label: str) -> Iterator[bill_run.Progress]:
    """A bar on the screen, and how to move it: so many of so many accounts are done."""
    with ExitStack() as bars:
        yield _mover(bars, label)


def _mover(bars: ExitStack, label: str) -> bill_run.Progress:
    """How to move a bar that appears when it first moves; of several on `bars` the one before it
    has come to its end then."""
    bar = None

    def tell(done: int, wanted: int) -> None:
        nonlocal bar
        if bar is None:
            bars.close()
            bar = bars.enter_context(click.progressbar(length=1, label=label, file=sys.stderr))
        bar.length = max(wanted, 1)
        bar.update(done - bar.pos)

    return tell


def _show(planned: bill_run.Plan) -> None:
    def amount(minor: int) -> str:
        return format_money(Money(minor, planned.currency), "en")

    click.echo(
        f"{planned.invoices} invoices for {planned.subscriptions} subscriptions, "
        f"{amount(planned.total_minor)} in all."
    )
    click.echo(
        f"The same accounts' last period: {planned.last_subscriptions} subscriptions, "
        f"{amount(planned.last_total_minor)}."
    )
    if planned.differences:
        click.echo("The largest differences:")
    for each in planned.differences:
        click.echo(f"  {each.number}  {amount(each.last_minor)} -> {amount(each.next_minor)}")
    with words.speaking("en"):
        for reason in planned.reasons:
            click.echo(f"Stands out: {reason.words(planned.currency)}.", err=True)
