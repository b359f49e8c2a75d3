"""`flask search`: the words by which staff find accounts."""

from __future__ import annotations

import sys

import click

from core import search_terms
from core.commands import Commands
from core.db import reading

search_cli = Commands("search", help="The words by which staff find accounts.")


@search_cli.command("verify")
def verify() -> None:
    """Compare what is stored with what a rebuild makes of each account; exit 1 if they differ."""
    with reading() as session:
        faults = list(search_terms.find_faults(session))
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        click.echo(f"Not as a rebuild makes it: {len(faults)} accounts.", err=True)
        sys.exit(1)
    click.echo("The words of every account are as a rebuild makes them.")


@search_cli.command("rebuild")
def rebuild() -> None:
    """Mend the words of all accounts. The worker does the same by itself once a day."""
    last, mended = 0, 0
    while (done := search_terms.mend_some(last)) is not None:
        last, few = done
        mended += few
    click.echo(f"{mended:,} accounts mended.")
