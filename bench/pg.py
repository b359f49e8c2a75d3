"""A PostgreSQL server that keeps what it has acknowledged, and a copy of a data set in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from psycopg.types.json import Json
from sqlalchemy import JSON, create_engine, select

from bench.dataset import Dataset
from core.settings import Settings
from models import Base

# Those of the tests give up durability for speed; a measurement must not.
DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
BATCH = 10_000


def is_here() -> bool:
    """Whether PostgreSQL's server is installed."""
    from tests import outside

    return outside.find("postgresql") is not None


@contextmanager
def server_with(source: Dataset) -> Iterator[str]:
    """The address of a database with all of `source`, on a server that ends with the block."""
    from app import create_app
    from core.db import db
    from core.migrate import upgrade
    from tests import pg

    pg.SETTINGS.update(DURABLE)
    server = pg.server()
    try:
        url = server.create("bench")
        settings: Settings = replace(source.settings(), database_url=url)
        app = create_app(settings)
        with app.app_context():
            upgrade(settings)
            db.session.remove()
            db.engine.dispose()
        _fill(source, server.connect("bench"))
        yield url
    finally:
        server.stop()
        pg.server.cache_clear()


def _fill(source: Dataset, target: Any) -> None:
    """Copy every row. The rows are known to be right, so triggers and keys are not asked again."""
    engine = create_engine(f"sqlite:///{source.database}", isolation_level="AUTOCOMMIT")
    with target, engine.connect() as connection, target.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for table in Base.metadata.sorted_tables:
            jsons = [isinstance(column.type, JSON) for column in table.columns]
            names = ", ".join(column.name for column in table.columns)
            rows = connection.execution_options(yield_per=BATCH).execute(select(table))
            with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(
                        [
                            Json(value) if is_json and value is not None else value
                            for value, is_json in zip(row, jsons, strict=True)
                        ]
                    )
            if "id" in table.columns and table.columns["id"].autoincrement is True:
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "
                    f"greatest(1, (SELECT max(id) FROM {table.name})))"
                )
        cursor.execute("ANALYZE")
    engine.dispose()
