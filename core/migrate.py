"""Bringing the database to the schema of this build."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from core.db import db, is_missing
from core.settings import ROOT, Settings


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def known_revisions() -> list[str]:
    """The revisions of the schema that this build knows, the newest first."""
    scripts = ScriptDirectory.from_config(_config(""))
    return [script.revision for script in scripts.walk_revisions()]


def current_revision(connection: Connection) -> str | None:
    """The revision of the schema behind `connection`; None when it has none yet."""
    return MigrationContext.configure(connection).get_current_revision()


def _is_behind(revision: str | None) -> bool:
    known = known_revisions()
    return revision is None or (revision in known and revision != known[0])


def upgrade(settings: Settings) -> None:
    """Run the migrations that are missing. Does nothing when there are none.

    A schema newer than this build stays as it is: the release before runs on it (bar 74).
    """
    if _is_behind(find_revision(db.engine)):
        command.upgrade(_config(settings.database_url), "head")


def find_head() -> str:
    """The revision of this build's schema."""
    return known_revisions()[0]


def find_revision(engine: Engine) -> str | None:
    """The revision of the schema behind `engine`; None where no migration has run."""
    if is_missing(engine.url):
        return None
    with engine.connect() as connection:
        return current_revision(connection)


def create_schema(url: str) -> None:
    """Run all migrations in the empty database at `url`, which is not the portal's own."""
    command.upgrade(_config(url), "head")


def upgrade_file(url: str) -> None:
    """The same for an SQLite file that is not this deployment's database."""
    command.upgrade(_config(url), "head")


def upgrade_within(connection: Connection) -> None:
    """The same inside the transaction that `connection` has begun."""
    config = _config("")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
