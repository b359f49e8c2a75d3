"""The world is the same in each test, whatever the test before did to it."""

import psycopg
import pytest

from core.db import db
from tests import pg
from tests.conftest import Base, Portal

_left_open: list[psycopg.Connection] = []


def _rename(portal: Portal) -> None:
    portal.execute("ALTER TABLE sessions RENAME TO away")


def _drop_trigger(portal: Portal) -> None:
    portal.execute("DROP TRIGGER activity_no_delete ON activity")


def _write_rows(portal: Portal) -> None:
    portal.visitor("alice")
    portal.execute("UPDATE customers SET name = 'Somebody' WHERE name <> 'Alice'")
    portal.execute("DELETE FROM contacts")


def _hold_locks(portal: Portal) -> None:
    left_open = pg.server().connect("portal")
    left_open.execute("BEGIN")
    left_open.execute("UPDATE customers SET name = 'Somebody'")
    _left_open.append(left_open)


def _nothing(portal: Portal) -> None:
    pass


def world_of(portal: Portal) -> dict[str, list[tuple[object, ...]]]:
    return {name: portal.rows(f"SELECT * FROM {name}") for name in db.metadata.tables}


@pytest.mark.parametrize("engine_kind", ["postgresql"])
@pytest.mark.parametrize("change", [_nothing, _write_rows, _hold_locks, _drop_trigger, _rename])
def test_world_is_put_back(portal: Portal, base: Base, change) -> None:
    with portal.app.app_context():
        before = world_of(portal)
        change(portal)
        base.reset()
        assert world_of(portal) == before
    assert portal.one("SELECT is_called FROM sessions_id_seq") is False  # ids are too
    while _left_open:
        _left_open.pop().close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE accounts SET balance_minor = balance_minor + 1 WHERE id = 1",
        "UPDATE payments SET amount_minor = amount_minor + 1 WHERE id = 1",
        "UPDATE invoice_balances SET open_minor = open_minor + 1 WHERE invoice_id = 4",
    ],
)
def test_books_that_do_not_add_up_are_found(base: Base, portal: Portal, change: str) -> None:
    base.add_up()
    portal.execute(change)
    with pytest.raises(AssertionError):
        base.add_up()
    base.reset()
