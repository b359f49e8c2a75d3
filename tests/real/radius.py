"""Debian's FreeRADIUS as an ordinary process on loopback, with the queries and the schema it comes
with: as the server of an ISP, and as an access server that is told of its sessions."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from tests import outside, pg, processes
from tests.test_serve import free_ports

CONFIGURATION = Path("/etc/freeradius/3.0")
SECRET = "a-secret-of-loopback"
NAS = "127.0.0.1"

_SERVER = """
prefix = /usr
localstatedir = {folder}
logdir = {folder}
run_dir = {folder}
libdir = /usr/lib/freeradius
pidfile = {folder}/radius.pid
proxy_requests = no
log {{
    destination = files
    file = {folder}/radius.log
}}
security {{
    allow_core_dumps = no
    max_attributes = 200
    reject_delay = 0
    status_server = yes
}}
thread pool {{
    start_servers = 1
    max_servers = 4
    min_spare_servers = 1
    max_spare_servers = 2
    max_requests_per_server = 0
    auto_limit_acct = no
}}
client loopback {{
    ipaddr = 127.0.0.1
    secret = {secret}
}}
"""
_ISP = """
modules {{
    expr {{
    }}
    pap {{
    }}
    sql {{
        dialect = "{dialect}"
        driver = "rlm_sql_{dialect}"
        {database}
        acct_table1 = "radacct"
        acct_table2 = "radacct"
        postauth_table = "radpostauth"
        authcheck_table = "radcheck"
        groupcheck_table = "radgroupcheck"
        authreply_table = "radreply"
        groupreply_table = "radgroupreply"
        usergroup_table = "radusergroup"
        client_table = "nas"
        group_attribute = "SQL-Group"
        pool {{
            start = 1
            min = 1
            max = 2
            spare = 1
        }}
        $INCLUDE {folder}/queries.conf
    }}
    {rest}
}}
instantiate {{
    expr
}}
policy {{
    $INCLUDE {folder}/accounting
}}
server isp {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    listen {{
        type = acct
        ipaddr = 127.0.0.1
        port = {acct_port}
    }}
    authorize {{
        sql
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
    }}
    preacct {{
        acct_unique
    }}
    accounting {{
        {accounting}
    }}
}}
"""
_REST = """
    rest {{
        accounting {{
            uri = "{url}"
            method = "post"
            body = "json"
            auth = "basic"
            username = "radius"
            password = "{token}"
            require_auth = yes
        }}
        pool {{
            start = 0
            min = 0
            max = 2
            spare = 1
        }}
    }}
"""
_ACCESS_SERVER = """
modules {{
    always ok {{
        rcode = ok
    }}
    always reject {{
        rcode = reject
    }}
    expr {{
    }}
    detail {{
        filename = {folder}/got
        header = "%{{Packet-Type}}"
    }}
}}
instantiate {{
    expr
}}
server nas {{
    listen {{
        type = coa
        ipaddr = 127.0.0.1
        port = {port}
    }}
    recv-coa {{
        detail
        if (&User-Name == "{stranger}") {{
            update reply {{
                &Error-Cause := Session-Context-Not-Found
            }}
            reject
        }}
        elsif (&User-Name == "{stubborn}" && "%{{Packet-Type}}" == "CoA-Request") {{
            update reply {{
                &Error-Cause := Unsupported-Extension
            }}
            reject
        }}
        elsif (&User-Name == "{forbidden}") {{
            update reply {{
                &Error-Cause := Administratively-Prohibited
            }}
            reject
        }}
        else {{
            ok
        }}
    }}
}}
"""
STRANGER, STUBBORN, FORBIDDEN = "lastmile-check", "ppp-mallory", "ppp-rich"
"""What the access server knows no session of, of whom it only ends sessions, and not even that."""


@dataclass(slots=True)
class Database:
    """FreeRADIUS' own tables, as the package makes them; `url` as the portal is told it."""

    url: str
    configuration: str
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url)

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def execute(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)


@dataclass(frozen=True, slots=True)
class Isp:
    """A FreeRADIUS that answers for its tables."""

    database: Database
    port: int
    acct_port: int
    folder: Path

    def ask(self, username: str, password: str) -> dict[str, str]:
        """The reply to an Access-Request; without any attribute and `{"": "reject"}` if refused."""
        said = _radclient(
            f'User-Name = "{username}"\nUser-Password = "{password}"\nNAS-IP-Address = {NAS}\n'
            "Message-Authenticator = 0x00\n",
            self.port,
            "auth",
        )
        if "Received Access-Accept" not in said:
            assert "Received Access-Reject" in said, said
            return {"": "reject"}
        return _attributes(said[said.index("Received Access-Accept") :])

    def account(
        self, kind: str, username: str, session: str, at: float | None = None, **more: Any
    ) -> None:
        """Send an Accounting-Request, whose further attributes are written with _ for -; `at`: the
        Event-Timestamp, now when it is not given."""
        lines = [
            f"Acct-Status-Type = {kind}",
            f'User-Name = "{username}"',
            f'Acct-Session-Id = "{session}"',
            f"NAS-IP-Address = {NAS}",
            f"Event-Timestamp = {int(time.time() if at is None else at)}",
            *(f"{name.replace('_', '-')} = {value}" for name, value in more.items()),
        ]
        said = _radclient("\n".join(lines) + "\n", self.acct_port, "acct")
        assert "Received Accounting-Response" in said, said


@dataclass(frozen=True, slots=True)
class AccessServer:
    """A FreeRADIUS that writes down what it is told of its sessions."""

    port: int
    folder: Path

    def got(self) -> list[dict[str, str]]:
        """What it was told so far: the attributes, and the kind of packet under ""."""
        parts = (self.folder / "got").read_text().strip().split("\n\n")
        heads = [part.strip().partition("\n") for part in parts if part]
        return [{"": head} | _attributes(rest) for head, _, rest in heads]


def _attributes(said: str) -> dict[str, str]:
    lines = re.findall(r"^\s+([\w.-]+) = (.*)$", said, re.MULTILINE)
    return {name: value.strip('"') for name, value in lines}


def _radclient(attributes: str, port: int, kind: str) -> str:
    done = subprocess.run(
        ["radclient", "-x", "-t", "5", "-r", "2", f"127.0.0.1:{port}", kind, SECRET],
        input=attributes,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout + done.stderr


def make_sqlite(folder: Path) -> Database:
    """A new file with FreeRADIUS' schema."""
    path = folder / "radius.db"
    schema = CONFIGURATION / "mods-config/sql/main/sqlite/schema.sql"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema.read_text())
    configuration = f'sqlite {{\n filename = "{path}"\n busy_timeout = 2000\n }}'
    return Database(f"sqlite:///{path}", configuration)


@contextmanager
def made_postgresql(name: str) -> Iterator[Database]:
    """A new database of the tests' server with FreeRADIUS' schema."""
    server = pg.server()
    url = server.create(name)
    schema = CONFIGURATION / "mods-config/sql/main/postgresql/schema.sql"
    with closing(server.connect(name)) as connection:
        connection.execute(schema.read_text().encode())
    parts = make_url(url)
    configuration = (
        f'server = "{unquote(str(parts.query["host"]))}"\n port = {parts.query["port"]}\n'
        f' login = "{parts.username}"\n radius_db = "{name}"'
    )
    database = Database(url, configuration)
    try:
        yield database
    finally:
        database.engine.dispose()
        server.drop(name)


@contextmanager
def isp(folder: Path, database: Database, rest: Mapping[str, str] | None = None) -> Iterator[Isp]:
    """FreeRADIUS with these tables. `rest`: url and token of where it posts accounting instead."""
    outside.need("freeradius")
    kept = CONFIGURATION / "mods-config/sql/main" / database.dialect / "queries.conf"
    shutil.copyfile(kept, folder / "queries.conf")
    shutil.copyfile(CONFIGURATION / "policy.d/accounting", folder / "accounting")
    port = free_ports()
    text = _ISP.format(
        folder=folder,
        dialect=database.dialect,
        database=database.configuration,
        rest=_REST.format_map(rest) if rest else "",
        accounting="rest" if rest else "sql",
        port=port,
        acct_port=port + 1,
    )
    with _running(folder, text):
        yield Isp(database, port, port + 1, folder)


@contextmanager
def access_server(folder: Path) -> Iterator[AccessServer]:
    outside.need("freeradius")
    port = free_ports()
    text = _ACCESS_SERVER.format(
        folder=folder, port=port, stranger=STRANGER, stubborn=STUBBORN, forbidden=FORBIDDEN
    )
    (folder / "got").touch()  # it cannot be made where only the folder itself may be written
    with _running(folder, text):
        yield AccessServer(port, folder)


@contextmanager
def _running(folder: Path, text: str) -> Iterator[None]:
    program = outside.need("freeradius")
    (folder / "radius.conf").write_text(_SERVER.format(folder=folder, secret=SECRET) + text)
    owner = pg.owner()
    identity: dict[str, Any] = {}
    if owner is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [str(program), "-f", "-d", str(folder), "-n", "radius"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"},
            **identity,
        )
    try:
        _wait(process, folder)
        yield
    finally:
        processes.end(process)


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    log, end = folder / "radius.log", time.monotonic() + 20
    while not (log.exists() and "Ready to process requests" in log.read_text()):
        said = (folder / "output").read_text() + (log.read_text() if log.exists() else "")
        assert process.poll() is None, said
        assert time.monotonic() < end, said
        time.sleep(0.05)
