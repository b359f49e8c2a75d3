"""How migrations run: on a connection of their own, in one immediate transaction, with foreign
keys off on SQLite and checked at the end, and with the triggers created again at the end."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event, inspect, pool
from sqlalchemy.engine import make_url

from core.db import make_file
from core.schema import create_triggers, drop_triggers
from models import Base


class ForeignKeysBroken(RuntimeError):
    """After the migration some row points nowhere; nothing was changed."""


def _url() -> str:
    url = context.config.get_main_option("sqlalchemy.url")
    if url:
        return url
    from flask import current_app  # `flask db …` runs inside the application

    return str(current_app.config["SQLALCHEMY_DATABASE_URI"])


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        transactional_ddl=True,
        compare_type=True,
        compare_server_default=True,
    )
    drop_triggers(connection)
    context.run_migrations()
    if inspect(connection).has_table("journal_entries"):
        create_triggers(connection)


def run() -> None:
    given: Connection | None = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)  # a restore's, in the transaction that it commits
        return
    url = _url()
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    make_file(make_url(url))
    engine = create_engine(url, poolclass=pool.NullPool)
    if is_sqlite:

        @event.listens_for(engine, "connect")
        def by_hand(connection: Any, _record: object) -> None:
            # The driver must not begin or commit by itself around DDL.
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("PRAGMA busy_timeout = 30000")
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.connect() as connection:
        if is_sqlite:
            # Neither can be changed inside a transaction, so not through `connection` itself.
            for pragma in ("foreign_keys = OFF", "journal_mode = WAL"):
                connection.connection.cursor().execute(f"PRAGMA {pragma}")
        with connection.begin():
            if not is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4711)")
            _migrate(connection)
            if is_sqlite:
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if broken:
                    raise ForeignKeysBroken(str(broken[:5]))
    engine.dispose()


run()
