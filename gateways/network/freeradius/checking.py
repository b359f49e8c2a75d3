"""Whether the network can be read, written and told, check by check, in the order of mending.

Nothing stays changed: rows that are written to see whether they may be are taken back with their
transaction, and access servers are told of a session that does not exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, insert, inspect, select, update
from sqlalchemy.types import BigInteger, Integer

from core import clock
from core.findings import Finding, Level
from gateways.network.base import KnownLines
from gateways.network.errors import NetworkError
from gateways.network.freeradius.accounting import HELPFUL, LOOKED_BACK, NEEDED, plain
from gateways.network.freeradius.database import Database, columns_of

if TYPE_CHECKING:
    from gateways.network.freeradius.gateway import FreeradiusNetwork

NOBODY = "lastmile-check"
CLOCKS_DIFFER_SECONDS = 60
AHEAD_SECONDS = 600
SILENT_SECONDS = 3600
SLOW_SECONDS = 5
MOST_NASES = 20
WRITTEN = {
    "radreply": ("username", "attribute", "op", "value"),
    "radcheck": ("username", "attribute", "op", "value"),
    "radusergroup": ("username", "groupname", "priority"),
}
_EFFECTS = {
    "acctuniqueid": "sessions are told apart by acctsessionid alone",
    "acctupdatetime": "when an interim report was made is taken from acctsessiontime",
    "acctterminatecause": "why a session ended is not shown",
    "callingstationid": "devices are not shown",
    "framedipaddress": "addresses are not shown",
}

_Found = Iterator[Finding]


def examine(network: FreeradiusNetwork, known_lines: KnownLines) -> _Found:
    """The findings of all checks."""
    parts: tuple[tuple[str, Callable[[], _Found]], ...] = (
        ("read", lambda: _read(network.source)),
        ("clock", lambda: _clock(network.source)),
        ("sessions", lambda: _sessions(network.source, known_lines)),
        ("write", lambda: _write(network)),
        ("hold", lambda: _hold(network)),
        ("attributes", lambda: _attributes(network)),
        ("servers", lambda: _servers(network)),
    )
    for name, part in parts:
        try:
            yield from part()
        except NetworkError as error:
            yield Finding(name, Level.WRONG, f"{error}.", _remedy(name, str(error)))


def _remedy(name: str, said: str) -> str:
    """What to do about an error of a database."""
    low = said.lower()
    variable = "LASTMILE_RADIUS_READ_URL" if "read from" in low else "LASTMILE_RADIUS_WRITE_URL"
    if "permission denied" in low or "command denied" in low or "readonly" in low:
        return f"grant the user of {variable} what docs/freeradius.md lists"
    if "no table" in low or "no such table" in low or "lacks" in low:
        return f"see that {variable} names FreeRADIUS' own database, with its schema"
    if name == "servers":
        return "see docs/freeradius.md, step 4"
    return f"see that {variable} is right and the server takes connections from this machine"


def _read(database: Database) -> _Found:
    with database.reading() as connection:
        columns = columns_of(database.table(connection, "radacct"))
        lacking = [name for name in NEEDED if name not in columns]
        if lacking:
            yield Finding(
                "read",
                Level.WRONG,
                f"{database.name}: radacct lacks {', '.join(lacking)}.",
                "bring the table to FreeRADIUS' schema: nothing can be counted without",
            )
            return
        connection.execute(select(columns["username"]).limit(1)).first()
        yield Finding("read", Level.OK, f"radacct can be read ({database.dialect}).")
        for name in HELPFUL:
            if name not in columns and name in _EFFECTS:
                yield Finding(
                    "read",
                    Level.NOTE,
                    f"radacct has no {name}, as in old schemas: {_EFFECTS[name]}.",
                )
        narrow = _narrow(database, connection)
        if narrow:
            yield Finding(
                "read",
                Level.WRONG,
                f"{', '.join(narrow)} hold 32 bits: what a session carries beyond 4 GB is lost.",
                "change them to bigint",
            )
        began = time.monotonic()
        moment = database.moment(database.now(connection) - LOOKED_BACK.total_seconds())
        ended = select(func.count()).where(columns["acctstoptime"] >= moment)
        connection.execute(ended.select_from(database.table(connection, "radacct")))
        took = time.monotonic() - began
        if took > SLOW_SECONDS:
            yield Finding(
                "read",
                Level.NOTE,
                f"Finding the sessions of the last day took {took:.0f} seconds; usage lags by "
                "twenty times that.",
                "CREATE INDEX radacct_stop ON radacct (acctstoptime)",
            )


def _narrow(database: Database, connection: Connection) -> list[str]:
    if database.dialect == "sqlite":
        return []  # every integer has 64 bits there
    return [
        str(each["name"])
        for each in inspect(connection).get_columns("radacct")
        if str(each["name"]).lower() in ("acctinputoctets", "acctoutputoctets")
        and isinstance(each["type"], Integer)
        and not isinstance(each["type"], BigInteger)
    ]


def _clock(database: Database) -> _Found:
    with database.reading() as connection:
        theirs = database.now(connection)
        columns = columns_of(database.table(connection, "radacct"))
        known = columns.get("acctupdatetime", columns["acctstarttime"])
        running = columns["acctstoptime"].is_(None)
        newest = connection.execute(
            select(database.seconds(func.max(known)), func.count()).where(running)
        ).one()
    off = theirs - clock.now().timestamp()
    if abs(off) > CLOCKS_DIFFER_SECONDS:
        yield Finding(
            "clock",
            Level.WRONG,
            f"The clock of the database and this machine's differ by {abs(off):.0f} seconds.",
            "have both follow a time server (chrony, systemd-timesyncd)",
        )
    else:
        yield Finding("clock", Level.OK, "The clock of the database is right.")
    if newest[0] is None:
        return
    ahead = float(newest[0]) - theirs
    if ahead > AHEAD_SECONDS:
        yield Finding(
            "clock",
            Level.WRONG,
            f"radacct has reports of {ahead / 60:.0f} minutes from now.",
            "see that the database and FreeRADIUS use the same time zone, and that the clocks of "
            "the access servers are right",
        )
    elif ahead < -SILENT_SECONDS:
        at = datetime.fromtimestamp(float(newest[0]), UTC)
        yield Finding(
            "clock",
            Level.NOTE,
            f"{newest[1]} sessions run, and the newest report is of {at:%Y-%m-%d %H:%M} UTC.",
            "have the access servers send interim updates: Acct-Interim-Interval := 300",
        )


def _sessions(database: Database, known_lines: KnownLines) -> _Found:
    with database.reading() as connection:
        columns = columns_of(database.table(connection, "radacct"))
        rows = connection.execute(
            select(columns["username"])
            .where(columns["acctstoptime"].is_(None))
            .order_by(columns["radacctid"].desc())
            .limit(500)
        )
        usernames = {str(row[0]) for row in rows if row[0]}
    if not usernames:
        yield Finding("sessions", Level.NOTE, "No session runs: nothing can be seen of usernames.")
        return
    known = known_lines(usernames)
    if not known:
        yield Finding(
            "sessions",
            Level.WRONG,
            f"None of the {len(usernames)} usernames that are connected is of a line here, such as "
            f"{min(usernames)}.",
            "import the lines with the usernames that FreeRADIUS knows",
        )
    elif len(known) < len(usernames):
        unknown = sorted(usernames - known)
        yield Finding(
            "sessions",
            Level.NOTE,
            f"{len(unknown)} of {len(usernames)} usernames that are connected are of no line here, "
            f"such as {unknown[0]}; they are not counted.",
        )
    else:
        yield Finding("sessions", Level.OK, f"All {len(known)} connected usernames are known.")


def _write(network: FreeradiusNetwork) -> _Found:
    database = network.target
    names = [name for name in WRITTEN if name != "radusergroup" or network.settings.hold.group]
    for name in names:
        with database.reading() as connection:
            columns = columns_of(database.table(connection, name))
        lacking = [each for each in WRITTEN[name] if each not in columns]
        if lacking:
            yield Finding(
                "write",
                Level.WRONG,
                f"{database.name}: {name} lacks {', '.join(lacking)}.",
                "bring the table to FreeRADIUS' schema",
            )
            return
        with database.trying() as connection:
            _try_to_write(connection, database, name)
    yield Finding("write", Level.OK, f"{', '.join(names)} can be written ({database.dialect}).")


def _try_to_write(connection: Connection, database: Database, name: str) -> None:
    table = database.table(connection, name)
    columns = columns_of(table)
    row: dict[str, Any] = dict.fromkeys(WRITTEN[name], "")
    row |= {"username": NOBODY} | ({"priority": 0} if "priority" in row else {"op": ":="})
    connection.execute(insert(table).values({columns[key].name: row[key] for key in row}))
    mine = columns["username"] == NOBODY
    last = columns[WRITTEN[name][1]]
    connection.execute(update(table).where(mine).values({last.name: NOBODY}))
    connection.execute(delete(table).where(mine))


def _hold(network: FreeradiusNetwork) -> _Found:
    group, database = network.settings.hold.group, network.target
    if not group:
        return
    with database.reading() as connection:
        count = 0
        for name in ("radgroupreply", "radgroupcheck"):
            found = database.find_table(connection, name)
            if found is not None:
                columns = columns_of(found)
                count += connection.execute(
                    select(func.count()).select_from(found).where(columns["groupname"] == group)
                ).scalar_one()
    if count:
        yield Finding("hold", Level.OK, f"The group {group}, which held lines get, has attributes.")
    else:
        yield Finding(
            "hold",
            Level.NOTE,
            f"The group {group}, which held lines get, has no attributes in radgroupreply.",
            "give it those of your walled garden, or set group to nothing in [hold] where the "
            "address list is enough",
        )


def _attributes(network: FreeradiusNetwork) -> _Found:
    unknown = sorted(
        {
            name
            for kind in network.settings.used_types
            for table in (kind.open, kind.held)
            for name in table
            if not network.caller.knows(name)
        }
    )
    if unknown:
        yield Finding(
            "attributes",
            Level.WRONG,
            f"No dictionary has {', '.join(unknown)}: running sessions cannot be told.",
            "name the vendor's file as dictionary, like /usr/share/freeradius/dictionary.cisco",
        )


def _servers(network: FreeradiusNetwork) -> _Found:
    database = network.source
    with database.reading() as connection:
        columns = columns_of(database.table(connection, "radacct"))
        rows = connection.execute(
            select(columns["nasipaddress"])
            .where(columns["acctstoptime"].is_(None))
            .distinct()
            .limit(MOST_NASES)
        )
        names = {plain(row[0]) for row in rows}
    names |= {
        str(nas.network.network_address)
        for nas in network.settings.nases
        if nas.network.num_addresses == 1
    }
    if not names:
        yield Finding(
            "servers",
            Level.NOTE,
            "No access server is known: changes reach a line when it connects anew.",
            'name each with its secret, [nas."10.0.0.1"], in the file of LASTMILE_RADIUS_FILE',
        )
    for name in sorted(names)[:MOST_NASES]:
        yield _server(network, name)


def _server(network: FreeradiusNetwork, name: str) -> Finding:
    nas = network.settings.find_nas(name)
    if nas is None:
        return Finding(
            "servers",
            Level.WRONG,
            f"Sessions run on {name}, of which the settings know no secret.",
            f'add [nas."{name}"] with its secret to the file of LASTMILE_RADIUS_FILE',
        )
    try:
        cause = network.caller.ask_about_nobody(nas, name, NOBODY)
    except NetworkError as error:
        return Finding(
            "servers",
            Level.WRONG,
            f"{error}.",
            "on RouterOS: /radius incoming set accept=yes port=3799; see that no firewall is "
            "between, that it knows this machine as a RADIUS server with the same secret, and that "
            "its clock is right: what is older than five minutes is dropped",
        )
    return Finding("servers", Level.OK, f"{name} answers CoA{f' ({cause})' if cause else ''}.")
