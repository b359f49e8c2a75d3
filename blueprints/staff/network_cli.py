"""`flask network`: what the network's own people need to know of the portal."""

from __future__ import annotations

from urllib.parse import urlsplit

import click
from flask import current_app

from core.commands import Commands
from gateways.payments.base import PaymentGateway

network_cli = Commands("network", help="What the network must know.")


@network_cli.command("garden")
def garden() -> None:
    """Print the hosts that somebody whose line is held must still reach, one a line.

    The portal's own, and those of the payment gateway. The pages on which banks let their customers
    confirm are the banks' own and cannot be listed.
    """
    for host in hosts():
        click.echo(host)


def hosts() -> list[str]:
    """The portal's host and the payment gateway's, each once."""
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    own = urlsplit(current_app.config["PORTAL"].public_url).hostname or ""
    return list(dict.fromkeys([own, *(gateway.garden if gateway is not None else ())]))
