"""PostgreSQL's own programs for copying a database, run on the database of an address."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from sqlalchemy.engine import make_url

PACKAGE = "postgresql-client"


class PgProgramFailed(Exception):
    """A program of PostgreSQL is missing or did not do its work; the text says which and why."""


def _find(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise PgProgramFailed(
            f"{program} is not installed: apt-get install {PACKAGE} "
            "(of the server's version or newer)"
        )
    return path


def _address(url: str) -> tuple[str, dict[str, str]]:
    """libpq's address of the database without the password, and an environment that has it."""
    parsed = make_url(url)
    environment = dict(os.environ)
    if parsed.password is not None:
        # Arguments of a running program are there for everybody on the machine to read.
        environment["PGPASSWORD"] = str(parsed.password)
    # set() would take None for "leave it as it is".
    address = parsed.set(drivername="postgresql")._replace(password=None)
    return address.render_as_string(hide_password=False), environment


def dump(url: str, target: Path, snapshot: str, exclude: str) -> None:
    """Write the database as `snapshot` shows it to `target`, without the schemas that match
    `exclude`. Raises PgProgramFailed."""
    address, environment = _address(url)
    _run(
        [
            _find("pg_dump"),
            *("--format=custom", "--no-owner", "--no-privileges", "--no-password"),
            f"--exclude-schema={exclude}",
            f"--snapshot={snapshot}",
            f"--file={target}",
            f"--dbname={address}",
        ],
        environment,
    )


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 - no shell, and the program is PostgreSQL's
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise PgProgramFailed(f"{Path(command[0]).name}: {_last_words(done.stderr)}")


def _last_words(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return " · ".join(line.removeprefix("pg_dump: ") for line in lines[-3:]) or "it said nothing"


@contextmanager
def script(dump_file: Path) -> Iterator[IO[bytes]]:
    """The SQL that makes what `dump_file` holds, as `pg_restore` writes it.

    Raises PgProgramFailed at the end when it could not be read whole.
    """
    command = [_find("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(dump_file)]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 - no shell, and the program is PostgreSQL's
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        made = cast("IO[bytes]", process.stdout)
        try:
            yield made
            made.read()
        except BaseException:
            process.kill()
            raise
        if process.wait():
            said.seek(0)
            raise PgProgramFailed(f"pg_restore: {_last_words(said.read())}")


def is_copy(line: bytes) -> bool:
    """Whether the line begins a table's rows, which end with a line of `\\.`."""
    return line.startswith(b"COPY ") and line.rstrip().endswith(b"FROM stdin;")


def count_rows(dump_file: Path) -> dict[str, int]:
    """How many rows of each table `dump_file` holds, read to its end. Raises PgProgramFailed."""
    rows: dict[str, int] = {}
    with script(dump_file) as lines:
        for line in lines:
            if is_copy(line):
                table = line.split()[1].decode().rpartition(".")[2]
                rows[table] = 0
                for row in lines:
                    if row == b"\\.\n":
                        break
                    rows[table] += 1
    return rows
