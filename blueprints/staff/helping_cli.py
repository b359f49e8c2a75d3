"""What staff do for customers, for operators at the machine: `flask customers …` beside `add`, and
`flask lost-factors …`. Each is done in a member's name, as far as their role may do it on its page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
from flask import current_app

from blueprints.auth import losing_factors
from blueprints.auth.cli import customers_cli
from blueprints.auth.errors import ResetNotAllowed
from blueprints.staff import callers, finding, helping, looking, members, resets
from blueprints.staff.errors import CodeWrong, ContactUnfit
from blueprints.staff.forms import NOTE_LONGEST, NOTE_SHORTEST
from blueprints.staff.looking import AccountPage, EventView, PersonPage
from blueprints.staff.members import Acting
from core import form_keys
from core.commands import Commands
from core.data_access import Reader
from core.errors import NotFound, Refusal
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from core.policy import POLICY
from core.throttle import TooManyAttempts
from core.units import format_speed

lost_factors_cli = Commands(
    "lost-factors", help="People who have lost every second factor and wait for staff."
)

_as = click.option(
    "--as",
    "who",
    required=True,
    metavar="ID",
    help="The member of staff who does it: ID or e-mail.",
)


# Who does it, and to whom ---------------------------------------------------------------------


def _acting(who: str, endpoint: str) -> Acting:
    """The member in whose name a command runs, if their role may use the page of `endpoint`."""
    try:
        member = members.find_acting(who)
    except NotFound:
        raise click.ClickException(
            f"no member of staff signs in as {who}: see flask staff list, and give --as one who is "
            "active"
        ) from None
    may = POLICY[endpoint].staff
    if member.role not in may:
        roles = " or ".join(sorted(role.value for role in may))
        raise click.ClickException(
            f"{member.name} has the role {member.role.value}, this takes {roles}: give --as "
            "another member, see flask staff list"
        )
    return member


def _account(number: str) -> str:
    try:
        return looking.find_account_by_number(number)
    except NotFound:
        raise click.ClickException(
            f"there is no account {number}: look for it with flask customers find WORDS"
        ) from None


def _person(sign_in_id: str) -> tuple[str, str]:
    try:
        return looking.find_person_by_sign_in_id(sign_in_id)
    except NotFound:
        raise click.ClickException(
            f"nobody uses an account with the ID {sign_in_id}: flask customers show NUMBER lists "
            "who does"
        ) from None


def _reader(member: Acting) -> Reader:
    return Reader(member.customer_id, member.name)


def _secret() -> bytes:
    found: bytes = current_app.config["PORTAL"].secret
    return found


def _key(member: Acting, command: str) -> ArrivedKey:
    """In the place of a form's one-time key: each run of a command counts."""
    subject = f"customer:{member.customer_id}"
    return form_keys.check(_secret(), subject, form_keys.mint(_secret(), subject), command, {})


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except TooManyAttempts as refusal:
        minutes = -(-refusal.retry_after_seconds // 60)
        raise click.ClickException(
            f"too often for this person: run it again in {minutes} min"
        ) from None
    except Refusal as refusal:
        raise click.ClickException(refusal.customer_message) from None


def _say(line: str) -> None:
    """Print a line that holds what others have typed: nothing of it moves the cursor."""
    click.echo("".join(sign if sign.isprintable() else " " for sign in line))


# Finding and looking --------------------------------------------------------------------------


@customers_cli.command("find")
@click.argument("words", nargs=-1, required=True)
@_as
def find(words: tuple[str, ...], who: str) -> None:
    """List the accounts that WORDS fit: of name, number, phone, e-mail, address or line name."""
    member = _acting(who, "staff.search")
    results = finding.search(" ".join(words), _reader(member))
    for row in results.rows:
        _say("  ".join(part for part in (row.number, row.name, row.place, row.state) if part))
    if not results.rows:
        click.echo("Nothing fits: try fewer letters, or the account number.", err=True)
    elif results.has_more:
        click.echo("There are more: give another word.", err=True)


@customers_cli.command("show")
@click.argument("number")
@click.option("--person", "sign_in_id", metavar="ID", help="One who uses it: how they sign in.")
@_as
def show(number: str, sign_in_id: str | None, who: str) -> None:
    """Show account NUMBER, or one who uses it, as far as the member's role sees it."""
    member = _acting(who, "staff.account" if sign_in_id is None else "staff.person")
    account = _account(number)
    if sign_in_id is None:
        lines = _of_account(looking.look_at_account(account, member.role, _reader(member)))
    else:
        try:
            _account_of_theirs, person = looking.find_person_by_sign_in_id(sign_in_id, account)
        except NotFound:
            raise click.ClickException(
                f"nobody uses account {number} with the ID {sign_in_id}: flask customers show "
                f"{number} lists who does"
            ) from None
        lines = _of_person(looking.look_at_person(account, person, member.role, _reader(member)))
    for line in lines:
        _say(line)


def _of_account(page: AccountPage) -> Iterator[str]:
    yield f"{page.number}  {page.name}  {page.status} since {page.opened_on}"
    if page.place:
        yield f"place: {page.place}"
    for contact in page.contacts:
        yield f"{contact.kind}: {contact.shown} since {contact.since_on}"
    if page.due is not None:
        yield f"balance: {_money(page.due.balance)}{' overdue' if page.due.is_overdue else ''}"
    for invoice in page.invoices:
        total = _money(invoice.total)
        yield f"bill: {invoice.number}  {invoice.issued_on}  {total}  {invoice.state}"
    for payment in page.payments:
        yield f"payment: {payment.created_at:%Y-%m-%d}  {_money(payment.amount)}  {payment.state}"
    for line in page.lines:
        speeds = [format_speed(kbps, "en") for kbps in (line.down_kbps, line.up_kbps)]
        state = " ".join((line.state, *line.hold_reasons))
        yield f"line: {line.username}  {speeds[0]} down, {speeds[1]} up  {state}"
    for person in page.people:
        state = (
            "disabled"
            if person.is_disabled
            else "password disabled"
            if person.is_password_disabled
            else ""
        )
        yield f"person: {person.sign_in_id}  {person.name}  {person.role}  {state}".rstrip()
    if page.verified_at is not None:
        yield f"caller verified: {page.verified_at:%Y-%m-%d %H:%M}Z"
    if page.letter_asked_at is not None:
        yield f"letter asked for: {page.letter_asked_at:%Y-%m-%d %H:%M}Z"
    yield from _lately(page.events)


def _of_person(page: PersonPage) -> Iterator[str]:
    person = page.person
    yield f"{person.sign_in_id}  {person.name}  {person.role} of account {page.account_number}"
    yield f"since: {page.created_at:%Y-%m-%d}, known devices: {page.devices}"
    if person.has_reported:
        yield "they said that something was not them: neither password nor passkey opens anything"
        yield "only a reset lifts that"
    elif person.is_password_disabled:
        yield "password: disabled after a hundred failed tries; only a reset lifts that"
    for factor in page.factors:
        yield f"factor: {factor.kind}  {factor.name}  since {factor.confirmed_at:%Y-%m-%d}"
    for each in page.sessions:
        used = f"{each.last_used_at:%Y-%m-%d %H:%M}Z"
        yield f"signed in: {each.device or 'unknown device'}  {each.address}  {used}"
    if page.verified_at is not None:
        yield f"caller verified: {page.verified_at:%Y-%m-%d %H:%M}Z"
    yield from _lately(page.events)


def _lately(events: list[EventView]) -> Iterator[str]:
    for event in events:
        amount = f"  {_money(event.amount)}" if event.amount is not None else ""
        yield f"{event.happened_at:%Y-%m-%d %H:%M}Z  {event.kind.replace('_', ' ')}{amount}"


def _money(amount: Money) -> str:
    return format_money(amount, current_isp().language)


# Helping --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Help:
    """Who helps whom: the person by an account of theirs."""

    account: str
    person: str
    reader: Reader
    key: ArrivedKey


@contextmanager
def _helping(who: str, endpoint: str, sign_in_id: str) -> Iterator[_Help]:
    member = _acting(who, endpoint)
    account, person = _person(sign_in_id)
    with _in_one_line():
        yield _Help(account, person, _reader(member), _key(member, endpoint))


@customers_cli.command("unlock")
@click.argument("sign_in_id", metavar="ID")
@_as
def unlock(sign_in_id: str, who: str) -> None:
    """Forget the failed tries of ID, so that they need not wait. It changes no password."""
    with _helping(who, "staff.unlock", sign_in_id) as it:
        helping.unlock(it.account, it.person, it.reader, _secret(), it.key)
    click.echo("The failed tries are forgotten. They can try again now.")


@customers_cli.command("end-sessions")
@click.argument("sign_in_id", metavar="ID")
@_as
def end_sessions(sign_in_id: str, who: str) -> None:
    """Sign ID out everywhere."""
    with _helping(who, "staff.end_sessions", sign_in_id) as it:
        helping.end_sessions(it.account, it.person, it.reader, it.key)
    click.echo("They are signed out everywhere.")


@customers_cli.command("reset")
@click.argument("sign_in_id", metavar="ID")
@_as
def reset(sign_in_id: str, who: str) -> None:
    """Send ID a link for a new password, to the contacts on file. It is not shown here."""
    with _helping(who, "staff.reset", sign_in_id) as it:
        helping.start_reset(it.account, it.person, it.reader, _secret(), it.key)
    click.echo("The reset is on its way to the contacts on file.")


@customers_cli.command("verify")
@click.argument("number")
@click.option("--contact", type=int, metavar="CONTACT", help="Send a code to this one of them.")
@click.option("--code", metavar="CODE", help="Check what the caller has read back.")
@_as
def verify(number: str, contact: int | None, code: str | None, who: str) -> None:
    """Verify whoever calls about account NUMBER.

    Without an option it lists the contacts that a code may go to, with --contact it sends one, with
    --code it checks it. The code counts for the member who had it sent, for ten minutes.
    """
    if contact is not None and code is not None:
        raise click.UsageError("give --contact to send a code, then --code to check it, not both")
    endpoint = "staff.call_send" if code is None else "staff.call_check"
    member = _acting(who, endpoint)
    account = _account(number)
    desk = f"member {member.customer_id}"
    key = _key(member, f"verify {number}")
    with _in_one_line():
        if code is not None:
            try:
                callers.check_code(account, code, _reader(member), desk, _secret(), key)
            except CodeWrong as refusal:
                raise click.ClickException(
                    f"{refusal.customer_message} Send another one with --contact."
                ) from None
            click.echo("The code is right: the caller can read what we send to this account.")
        elif contact is not None:
            try:
                callers.send_code(account, contact, _reader(member), desk, _secret(), key)
            except ContactUnfit:
                raise click.ClickException(
                    f"no code can go to contact {contact}: flask customers verify {number} lists "
                    "those that may have one"
                ) from None
            click.echo("The code is on its way. Give what the caller reads back with --code.")
        else:
            _list_ways(callers.find_call(account, _reader(member)))


def _list_ways(call: callers.Call) -> None:
    for way in call.ways:
        click.echo(f"{way.contact_id}  {way.channel}  {way.shown}")
    if not call.ways:
        raise click.ClickException(
            "no e-mail address or phone number on file is old enough for a code: verify the caller "
            "in another way, or ask them to come"
        )


# Lost factors ---------------------------------------------------------------------------------


@lost_factors_cli.command("list")
@_as
def list_lost(who: str) -> None:
    """List who waits, the oldest first."""
    member = _acting(who, "staff.resets")
    found = resets.list_resets(_reader(member))
    for row in found:
        whose = f"account {row.account_number}" if row.account_number else "member of staff"
        proof = f"{row.proofed_by} made sure: {row.how}" if row.proofed_by else "nobody made sure"
        asked = f"asked {row.asked_at:%Y-%m-%d %H:%M}Z"
        _say(f"{row.sign_in_id}  {row.name}  {whose}  {asked}  {proof}")
    if not found:
        click.echo("Nobody waits.")


@lost_factors_cli.command("proof")
@click.argument("sign_in_id", metavar="ID")
@click.option(
    "--how",
    required=True,
    metavar="TEXT",
    help="What they showed or told, in 10 to 300 characters.",
)
@_as
def proof(sign_in_id: str, how: str, who: str) -> None:
    """Note that the member has made sure who asks. Another member has to approve."""
    how = how.strip()
    if not NOTE_SHORTEST <= len(how) <= NOTE_LONGEST:
        raise click.BadParameter(
            f"use {NOTE_SHORTEST} to {NOTE_LONGEST} characters", param_hint="--how"
        )
    member = _acting(who, "staff.reset_proof_post")
    _decide(
        sign_in_id,
        member,
        lambda waiting: losing_factors.proof_reset(waiting, member.customer_id, how),
    )
    click.echo("Noted. Another member has to approve: flask lost-factors approve.")


@lost_factors_cli.command("approve")
@click.argument("sign_in_id", metavar="ID")
@_as
def approve(sign_in_id: str, who: str) -> None:
    """Take the second factors of ID away, as another member than the one who made sure."""
    member = _acting(who, "staff.reset_approve")
    _decide(
        sign_in_id,
        member,
        lambda waiting: losing_factors.approve_reset(waiting, member.customer_id),
    )
    click.echo("Their second factors are gone. They sign in with the password.")


@lost_factors_cli.command("refuse")
@click.argument("sign_in_id", metavar="ID")
@_as
def refuse(sign_in_id: str, who: str) -> None:
    """End it without taking anything away."""
    member = _acting(who, "staff.reset_refuse")
    _decide(
        sign_in_id,
        member,
        lambda waiting: losing_factors.refuse_reset(waiting, member.customer_id),
    )
    click.echo("Refused. Nothing was taken away.")


def _decide(sign_in_id: str, member: Acting, decide: Callable[[str], None]) -> None:
    """Run `decide` with the public id under which `sign_in_id` waits; the look at it is noted."""
    try:
        waiting = resets.get_reset(resets.find_waiting(sign_in_id), _reader(member))
    except NotFound:
        raise click.ClickException(
            f"nobody waits with the ID {sign_in_id}: see flask lost-factors list"
        ) from None
    try:
        decide(waiting.public_id)
    except ResetNotAllowed as refusal:
        raise click.ClickException(
            f"{refusal.customer_message} It takes one member for proof and then another to "
            "approve, neither of them the one it is about: see flask lost-factors list."
        ) from None
