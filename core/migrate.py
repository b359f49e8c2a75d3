"""Bringing the database to the schema of this build."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from core.db import db
from core.settings import ROOT, Settings


def _config(settings: Settings) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    return config


def upgrade(settings: Settings) -> None:
    """Run the migrations that are missing. Does nothing when there are none.

    A schema newer than this build stays as it is: the release before runs on it (bar 74).
    """
    config = _config(settings)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    head = ScriptDirectory.from_config(config).get_current_head()
    with db.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == head or (current is not None and current not in known):
        return
    command.upgrade(config, "head")
