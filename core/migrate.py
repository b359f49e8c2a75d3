"""Bringing the database to the schema of this build."""

from __future__ import annotations

from dataclasses import replace

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from core.db import db
from core.settings import ROOT, Settings


def _config(settings: Settings) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    return config


def find_head(settings: Settings) -> str:
    """The revision of this build's schema."""
    return str(ScriptDirectory.from_config(_config(settings)).get_current_head())


def find_revision(engine: Engine) -> str | None:
    """The revision of the schema behind `engine`; None where no migration has run."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(settings: Settings) -> None:
    """Run the migrations that are missing. Does nothing when there are none.

    A schema newer than this build stays as it is: the release before runs on it (bar 74).
    """
    config = _config(settings)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = find_revision(db.engine)
    if current == find_head(settings) or (current is not None and current not in known):
        return
    command.upgrade(config, "head")


def create_schema(settings: Settings, url: str) -> None:
    """Run all migrations in the empty database at `url`, which is not the portal's own."""
    command.upgrade(_config(replace(settings, database_url=url)), "head")
