"""`flask ledger`: checking and exporting the books."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from blueprints.billing.export import beancount
from blueprints.billing.verify import find_faults
from core.commands import Commands
from core.db import reading

ledger_cli = Commands("ledger", help="The books.")


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
@click.option("--format", "format_", type=click.Choice(["beancount"]), default="beancount")
@click.option("--output", type=click.File("w"), default="-", help="A file; default is the screen.")
def export(format_: str, output: TextIO) -> None:
    """Write all entries in a form that accounting tools read, with a check of each balance."""
    del format_
    with reading() as session:
        output.writelines(line + "\n" for line in beancount(session))
