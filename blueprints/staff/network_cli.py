"""`flask network`: what the network's own people need to know of the portal."""

from __future__ import annotations

import sys
from collections.abc import Collection
from urllib.parse import urlsplit

import click
from flask import current_app
from sqlalchemy import select, update

from blueprints.staff import doctor_cli
from core import clock
from core.commands import Commands
from core.db import count_changed, db, unit_of_work
from core.findings import Level
from gateways.payments.base import PaymentGateway
from models import Line

network_cli = Commands("network", help="What the network must know.")


@network_cli.command("garden")
def garden() -> None:
    """Print the hosts that somebody whose line is held must still reach, one a line.

    The portal's own, and those of the payment gateway. The pages on which banks let their customers
    confirm are the banks' own and cannot be listed.
    """
    for host in hosts():
        click.echo(host)


@network_cli.command("sync")
def sync() -> None:
    """Have the worker set every line in the network anew.

    For after a restore, or when the network has forgotten: otherwise only what changes is set.
    """
    if current_app.extensions["network_gateway"] is None:
        raise click.ClickException(
            "There is no network gateway: set LASTMILE_NETWORK_GATEWAY when there is one."
        )
    count = unit_of_work(
        lambda session: count_changed(
            session, update(Line).values(sync_at=clock.now(), sync_count=0)
        )
    )
    click.echo(f"{count} lines will be set by the worker.")


@network_cli.command("check")
def check() -> None:
    """Try every way to the network, and say in words what is wrong; exit 1 if something is.

    Nothing is changed: what is written to see whether it may be is taken back, and access servers
    are told of a session that does not exist.
    """
    gateway = current_app.extensions["network_gateway"]
    if gateway is None:
        raise click.ClickException(
            "There is no network gateway: set LASTMILE_NETWORK_GATEWAY=freeradius and what it "
            "needs, as docs/freeradius.md says."
        )
    wrong = count = 0
    for finding in gateway.check(known_lines):
        doctor_cli.show(finding)
        count += 1
        wrong += finding.level is Level.WRONG
    doctor_cli.show_sum(wrong, count)
    if wrong:
        sys.exit(1)


def known_lines(usernames: Collection[str]) -> set[str]:
    """Those of the usernames that are of a line here."""
    return set(db.session.scalars(select(Line.username).where(Line.username.in_(usernames))))


def hosts() -> list[str]:
    """The portal's host and the payment gateway's, each once."""
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    own = urlsplit(current_app.config["PORTAL"].public_url).hostname or ""
    return list(dict.fromkeys([own, *(gateway.garden if gateway is not None else ())]))
