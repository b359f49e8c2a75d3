"""`flask db`: the commands of Flask-Migrate, for whoever writes a migration."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import ScriptInfo
from flask_migrate import Migrate
from flask_migrate.cli import db as theirs

from core.db import db
from core.settings import ROOT


class _Migrations(click.Group):
    """They expect Flask-Migrate in the application, which nothing else needs."""

    def invoke(self, ctx: click.Context) -> Any:
        Migrate(ctx.ensure_object(ScriptInfo).load_app(), db, directory=str(ROOT / "migrations"))
        return super().invoke(ctx)


migrations_cli = _Migrations(
    "db", theirs.commands, callback=theirs.callback, params=theirs.params, help=theirs.help
)
