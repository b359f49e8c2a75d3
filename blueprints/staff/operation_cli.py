"""Commands of whoever runs the portal: `flask activity verify`, `flask maintenance …`."""

from __future__ import annotations

import sys

import click
from flask.cli import AppGroup

from core import activity
from core.db import reading

activity_cli = AppGroup("activity", help="The trail of security and money events.")


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
