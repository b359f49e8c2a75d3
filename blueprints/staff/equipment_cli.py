"""`flask equipment`: whether routers can be reached."""

from __future__ import annotations

import sys

import click
from flask import current_app

from blueprints.staff import doctor_cli
from blueprints.staff.network_cli import known_lines
from core.commands import Commands
from core.findings import Level

equipment_cli = Commands("equipment", help="The routers at the ends of lines.")


@equipment_cli.command("check")
def check() -> None:
    """Try the way to the routers, and say in words what is wrong; exit 1 if something is.

    Nothing is changed, and no router is called: what is known of them is read.
    """
    gateway = current_app.extensions["equipment_gateway"]
    if gateway is None:
        raise click.ClickException(
            "There is no equipment gateway: set LASTMILE_EQUIPMENT_GATEWAY=genieacs and what it "
            "needs, as docs/equipment.md says."
        )
    wrong = count = 0
    for finding in gateway.check(known_lines):
        doctor_cli.show(finding)
        count += 1
        wrong += finding.level is Level.WRONG
    doctor_cli.show_sum(wrong, count)
    if wrong:
        sys.exit(1)
