"""Writing what is wanted of a line into `radcheck`, `radreply` and `radusergroup`.

Only rows of the portal's own are touched: the attributes that its settings name, membership of the
group of held lines, and `Auth-Type := Reject` of lines that are closed. Passwords and whatever else
the ISP keeps there stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, TableClause, delete, insert, select, update

from core.radius_settings import RadiusSettings
from gateways.network.base import NetworkState, Setting
from gateways.network.freeradius.attributes import attributes_of_all, names_of_all
from gateways.network.freeradius.database import Columns, Database, columns_of

FIRST = 0
"""The priority of the group of held lines: before the ISP's own, which begin at 1."""
REJECT = ("Auth-Type", "Reject")


class Tables:
    """What FreeRADIUS answers of each line."""

    def __init__(self, database: Database, settings: RadiusSettings) -> None:
        self._database = database
        self._settings = settings
        self._names = names_of_all(settings.used_types)

    def bring(self, username: str, wanted: Setting) -> bool:
        """Write what is wanted, committed; whether anything had to be changed."""
        hold = self._settings.hold
        reply = attributes_of_all(self._settings.used_types, wanted, hold)
        check = {REJECT[0]: REJECT[1]} if wanted.state is NetworkState.CLOSED else {}
        is_grouped = wanted.state is NetworkState.HELD
        with self._database.writing() as connection:
            table = self._database.table
            changes = [
                _set(connection, table(connection, "radreply"), username, reply, self._names, ""),
                _set(
                    connection,
                    table(connection, "radcheck"),
                    username,
                    check,
                    {REJECT[0]},
                    REJECT[1],
                ),
            ]
            if hold.group:
                groups = table(connection, "radusergroup")
                changes.append(
                    _join(connection, groups, username, hold.group, is_wanted=is_grouped)
                )
        return any(changes)

    def read_state(self, username: str) -> NetworkState | None:
        """The state that the tables say; None of a line of which they say nothing."""
        hold = self._settings.hold
        with self._database.reading() as connection:
            check = columns_of(self._database.table(connection, "radcheck"))
            reply = columns_of(self._database.table(connection, "radreply"))
            is_rejected = connection.execute(
                select(check["id"]).where(
                    check["username"] == username,
                    check["attribute"] == REJECT[0],
                    check["value"] == REJECT[1],
                )
            ).first()
            values = {
                row.attribute: row.value
                for row in connection.execute(
                    select(
                        reply["attribute"].label("attribute"), reply["value"].label("value")
                    ).where(
                        reply["username"] == username, reply["attribute"].in_(sorted(self._names))
                    )
                )
            }
            is_member = False
            if hold.group:
                groups = columns_of(self._database.table(connection, "radusergroup"))
                is_member = _is_member(connection, groups, username, hold.group)
        if is_rejected:
            return NetworkState.CLOSED
        if is_member or hold.held_list in values.values():
            return NetworkState.HELD
        return NetworkState.OPEN if values else None


def _set(
    connection: Connection,
    table: TableClause,
    username: str,
    wanted: Mapping[str, str],
    names: set[str],
    only_value: str,
) -> bool:
    """Have one row of each attribute that is wanted and none of the others of `names`
    (`only_value`: of those with this value); whether there was anything to do."""
    columns = columns_of(table)
    query = select(
        columns["id"].label("id"),
        columns["attribute"].label("attribute"),
        columns["op"].label("op"),
        columns["value"].label("value"),
    ).where(columns["username"] == username, columns["attribute"].in_(sorted(names)))
    if only_value:
        query = query.where(columns["value"] == only_value)
    stored: dict[str, list[Any]] = {}
    for row in connection.execute(query.order_by(columns["id"])):
        stored.setdefault(row.attribute, []).append(row)
    is_changed = False
    for name in sorted(names):
        rows = stored.get(name, [])
        value = wanted.get(name)
        is_right = [value is not None and row.op == ":=" and row.value == value for row in rows]
        kept = is_right.index(True) if True in is_right else 0 if value is not None else None
        for place, row in enumerate(rows):
            if place != kept:
                connection.execute(delete(table).where(columns["id"] == row.id))
                is_changed = True
        if value is None or True in is_right:
            continue
        is_changed = True
        new = {columns["op"].name: ":=", columns["value"].name: value}
        if rows:
            connection.execute(update(table).where(columns["id"] == rows[0].id).values(new))
        else:
            who = {columns["username"].name: username, columns["attribute"].name: name}
            connection.execute(insert(table).values(who | new))
    return is_changed


def _join(
    connection: Connection, table: TableClause, username: str, group: str, *, is_wanted: bool
) -> bool:
    columns = columns_of(table)
    if _is_member(connection, columns, username, group) == is_wanted:
        return False
    if is_wanted:
        row = {"username": username, "groupname": group, "priority": FIRST}
        connection.execute(
            insert(table).values({columns[name].name: value for name, value in row.items()})
        )
    else:
        connection.execute(
            delete(table).where(columns["username"] == username, columns["groupname"] == group)
        )
    return True


def _is_member(connection: Connection, columns: Columns, username: str, group: str) -> bool:
    query = select(columns["groupname"]).where(
        columns["username"] == username, columns["groupname"] == group
    )
    return connection.execute(query).first() is not None
