"""`flask setup`: the first steps of a real deployment: a database, and an ISP with plans."""

from __future__ import annotations

from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from blueprints.staff.cli import load_catalog
from core.commands import in_words
from core.migrate import upgrade


@click.command("setup")
@click.argument("catalog_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_context
@with_appcontext
def setup_command(context: click.Context, catalog_file: Path) -> None:
    """Make the database and load the ISP's brand and plans from CATALOG_FILE.

    Safe to run again: the schema is brought up to date and the catalog is updated in place.
    """
    settings = current_app.config["PORTAL"]
    if settings.is_demo:
        raise click.ClickException("LASTMILE_DEMO=1 makes its own ISP: unset it for a real one.")
    with in_words():
        upgrade(settings)
        context.invoke(load_catalog, file=catalog_file)
    click.echo("Next: flask accounts import FILE.csv, then flask customers add ACCOUNT_NUMBER")
