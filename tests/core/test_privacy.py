"""Every column has a privacy class and retention, in one place (bar 79)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Column, String

from core import clock, privacy, worker
from core.settings import ROOT
from models import Base
from tests import crawl
from tests.conftest import Portal


def test_every_column_is_classed_once() -> None:
    assert privacy.unclassified() == []
    assert set(privacy.TABLES) == set(Base.metadata.tables)


def test_new_column_without_a_class_is_found() -> None:
    table = Base.metadata.tables["areas"]
    column: Column[str] = Column("birth_place", String(10))
    table.append_column(column)
    try:
        assert privacy.unclassified() == ["areas.birth_place"]
    finally:
        table._columns.remove(column)


def test_table_in_the_documentation_is_this_one() -> None:
    assert privacy.as_markdown() in (ROOT / "docs" / "privacy.md").read_text()


@pytest.mark.parametrize("table", ["messages", "contact_changes", "invitations"])
def test_what_is_older_than_it_is_kept_is_deleted(portal: Portal, table: str) -> None:
    crawl.prepare(portal)
    with portal.app.app_context():
        worker.clean_up()
        assert portal.one(f"SELECT count(*) FROM {table}") > 0
        with clock.set_to(clock.now() + timedelta(days=401)):
            worker.clean_up()
    assert portal.one(f"SELECT count(*) FROM {table}") == 0
