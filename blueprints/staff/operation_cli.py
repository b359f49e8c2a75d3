"""Commands of whoever runs the portal: `flask activity verify`, `flask maintenance …`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy.exc import SQLAlchemyError

from core import activity, clock, maintenance
from core.commands import Commands
from core.db import DatabaseBusy, reading
from core.isp import MaintenanceWindow, NotSetUp, current_isp

maintenance_cli = AppGroup("maintenance", help="Closing the portal for a while.")
activity_cli = Commands("activity", help="The trail of security and money events.")


@activity_cli.command("verify")
def verify_activity() -> None:
    """Compute every digest and seal of the trail again; exit 1 and say what was tampered with.

    Erased facts are in order. Compare the last seal that is printed with the newest "activity
    sealed" line of the log: the log lies outside the database.
    """
    with reading() as session:
        trail = activity.verify(session)
    for fault in trail.faults:
        click.echo(fault, err=True)
    if trail.faults:
        click.echo(f"The trail was tampered with: {len(trail.faults)} faults.", err=True)
        sys.exit(1)
    click.echo(
        f"The trail is whole: {trail.events:,} events, {trail.erased:,} of them erased, "
        f"{trail.unsealed:,} not sealed yet."
    )
    if trail.seal:
        click.echo(f"Last seal: {trail.seal} {trail.hash}")


# Maintenance ----------------------------------------------------------------------------------

_message = click.option(
    "--message", metavar="TEXT", default="", help="Why, in the ISP's own words, on every page."
)
_message_in = click.option(
    "--message-in",
    metavar="LANGUAGE TEXT",
    type=(str, str),
    multiple=True,
    help="The same in another language, like: --message-in es 'Trabajos en la red'.",
)


def _folder() -> Path:
    folder: Path = current_app.config["PORTAL"].data
    return folder


def _messages(message: str, others: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    offered = current_isp().languages
    for language, _text in others:
        if language not in offered:
            raise click.BadParameter(
                f"{language!r} is no language of this portal: {', '.join(offered)}",
                param_hint="--message-in",
            )
    messages = {"": message, **dict(others)}
    for language, text in messages.items():
        messages[language] = " ".join(text.split())
        if len(messages[language]) > maintenance.LONGEST_MESSAGE or not all(
            sign.isprintable() for sign in messages[language]
        ):
            raise click.BadParameter(
                f"at most {maintenance.LONGEST_MESSAGE} characters, all of them printable",
                param_hint="--message-in" if language else "--message",
            )
    return tuple((language, text) for language, text in messages.items() if text)


def _time(option: str, typed: str) -> datetime:
    try:
        return maintenance.read_time(typed, current_isp().timezone)
    except maintenance.TimeUnclear as unclear:
        raise click.BadParameter(str(unclear), param_hint=option) from None


def _set(window: MaintenanceWindow) -> None:
    try:
        maintenance.check_window(window.from_at, window.until_at)
    except maintenance.TimeUnclear as unclear:
        raise click.ClickException(str(unclear)) from None
    try:
        maintenance.set_window(window, _folder())
    except (DatabaseBusy, SQLAlchemyError, OSError) as error:
        raise _away(error) from None


def _away(error: Exception) -> click.ClickException:
    if isinstance(error, DatabaseBusy):
        reason = "others were writing to the database for too long; run the command again"
    else:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    return click.ClickException(
        f"nothing was changed: {reason}. "
        "While the database is away every page answers 503 by itself."
    )


def _current() -> MaintenanceWindow | None:
    try:
        return current_isp().maintenance
    except NotSetUp:
        raise click.ClickException("there is no ISP yet: run flask setup") from None
    except SQLAlchemyError as error:
        raise _away(error) from None


@maintenance_cli.command("announce")
@click.option("--from", "from_", required=True, metavar="TIME", help="When it will begin.")
@click.option("--until", required=True, metavar="TIME", help="When it will be over.")
@_message
@_message_in
def announce(from_: str, until: str, message: str, message_in: tuple[tuple[str, str], ...]) -> None:
    """Say on every page when the portal will be closed. Close it then with `on`.

    TIME is the ISP's local time, like 02:00 (the next one) or '2026-11-25 02:00', or ISO 8601 with
    a zone of its own.
    """
    found = _current()
    if found is not None and found.is_on:
        raise click.ClickException("maintenance is on: end it first with flask maintenance off")
    window = MaintenanceWindow(
        is_on=False,
        from_at=_time("--from", from_),
        until_at=_time("--until", until),
        messages=_messages(message, message_in),
    )
    _set(window)
    click.echo(f"Announced on every page: {_span(window)}.")


@maintenance_cli.command("on")
@click.option("--until", metavar="TIME", help="When it will be over; default: as announced.")
@_message
@_message_in
def turn_on(until: str | None, message: str, message_in: tuple[tuple[str, str], ...]) -> None:
    """Close the portal until `off`: every page answers 503 and says until when.

    TIME is the ISP's local time, like 02:00 (the next one) or '2026-11-25 02:00', or ISO 8601 with
    a zone of its own. It is what is said, not when it ends: maintenance that takes longer stays on.
    """
    found = _current()
    if until:
        until_at = _time("--until", until)
    elif found is not None:
        until_at = found.until_at
    else:
        raise click.UsageError("--until is missing: nothing was announced")
    messages = _messages(message, message_in)
    if not messages and found is not None:
        messages = found.messages
    window = MaintenanceWindow(
        is_on=True, from_at=clock.now(), until_at=until_at, messages=messages
    )
    _set(window)
    click.echo(
        f"Closed on every node, {_span(window)}. "
        "Requests that were under way end within 30 seconds."
    )


@maintenance_cli.command("off")
def turn_off() -> None:
    """Open the portal again, or take an announcement back."""
    try:
        was_there = maintenance.clear_window(_folder())
    except (DatabaseBusy, SQLAlchemyError, OSError) as error:
        raise _away(error) from None
    click.echo("The portal is open." if was_there else "It was open, and nothing was announced.")


@maintenance_cli.command("status")
def status() -> None:
    """Say whether the portal is closed, or will be."""
    maintenance.heed_file(str(_folder()))
    window = _current()
    if window is None:
        click.echo("Open.")
        return
    word = "Closed" if window.is_on else "Announced"
    overdue = " OVERDUE" if window.until_at <= clock.now() else ""
    click.echo(f"{word}, {_span(window)}.{overdue}")


def _span(window: MaintenanceWindow) -> str:
    zone = current_isp().timezone
    begin, end = (
        instant.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")
        for instant in (window.from_at, window.until_at)
    )
    return f"{begin} to {end} ({zone})"
