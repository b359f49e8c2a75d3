"""`flask backup`: one verified file, which is there whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core import backup, backup_file, clock, pg_programs
from core.backup_file import BackupFailed, BadBackup
from core.nightly import BACKUP, last_time
from core.settings import ROOT
from tests.operation.conftest import Operator
from tests.test_serve import environment

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
"""For what has nothing to do with the engine."""


def left_over(folder: Path) -> list[str]:
    """What lies in the folder beside backups and what a database needs."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".lastmile-work-")]


def test_backup_says_what_is_in_it_and_is_for_its_owner_alone(operator: Operator) -> None:
    path = operator.folder / "one.backup"
    said = operator.does("backup", path)
    people = len(operator.portal.world.customers)
    there = f"2 payments, 8 bills, 3 accounts, {people} customers"
    assert f"{path}: Pinecrest Broadband, {there}" in said
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    manifest = backup_file.check(path)
    assert manifest.is_good
    assert manifest.rows["payments"] == 2
    assert manifest.is_demo
    assert left_over(operator.folder) == []


def test_secret_is_not_in_the_backup(operator: Operator) -> None:
    with zipfile.ZipFile(operator.backup()) as archive:
        assert archive.namelist() == ["database", "manifest.json"]
        assert operator.portal.settings.secret not in archive.read("database")


@on_sqlite
def test_backup_replaces_no_file(operator: Operator) -> None:
    path = operator.folder / "mine"
    path.write_text("mine")
    assert "is there already" in operator.refuses("backup", path)
    assert path.read_text() == "mine"


@on_sqlite
def test_folder_that_is_not_there_is_said(operator: Operator) -> None:
    assert "there is no folder" in operator.refuses("backup", operator.folder / "no" / "file")


@on_sqlite
def test_mistyped_name_is_no_failed_backup(operator: Operator) -> None:
    operator.refuses("backup", operator.folder / "no" / "file")
    operator.refuses("backup", operator.backup())
    with operator.portal.app.app_context():
        assert not last_time(BACKUP).has_failed


@on_sqlite
def test_backup_is_refused_before_the_disk_is_full(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_RESERVE_BYTES", 10**18)
    assert "not enough room" in operator.refuses("backup", operator.folder / "one.backup")
    assert list(operator.folder.iterdir()) == []


def test_missing_program_of_postgresql_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pg_programs.PgProgramFailed) as refused:
        pg_programs.dump("postgresql+psycopg://a:b@c/d", Path("/nowhere/x"), "1", "x")
    assert "pg_dump is not installed: apt-get install postgresql-client" in str(refused.value)


def test_password_of_the_database_is_in_no_argument() -> None:
    address, env = pg_programs._address("postgresql+psycopg://ann:se%40cret@db.example:5433/isp")
    assert address == "postgresql://ann@db.example:5433/isp"
    assert env["PGPASSWORD"] == "se@cret"


def test_books_that_do_not_add_up_are_copied_and_said(operator: Operator) -> None:
    operator.portal.execute("UPDATE accounts SET balance_minor = balance_minor + 1")
    path = operator.folder / "one.backup"
    done = operator.run("backup", path)
    assert done.exit_code == 1
    assert "the books do not add up: account 1001" in done.output
    assert not backup_file.check(path).is_good
    assert "did not add up" in operator.refuses("restore", "--yes", path)
    operator.does("restore", "--yes", "--with-faults", path)
    operator.portal.execute("UPDATE accounts SET balance_minor = balance_minor - 1")


@on_sqlite
def test_damaged_database_is_not_taken_for_a_backup(operator: Operator) -> None:
    path = backup.database_file(operator.portal.settings)
    whole = path.read_bytes()
    operator.leave()
    try:
        with path.open("r+b") as file:
            for page in range(4, len(whole) // 4096, 3):
                file.seek(page * 4096)
                file.write(b"\xff" * 64)
        operator.refuses("backup", operator.folder / "one.backup")
        assert list(operator.folder.iterdir()) == []
    finally:
        operator.leave()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(whole)


@on_sqlite
def test_file_that_reads_back_differently_gets_no_name(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worn_out(path: Path, database: Path, manifest: backup_file.Manifest) -> None:
        whole(path, database, manifest)
        with path.open("r+b") as file:
            file.seek(2000)
            file.write(bytes(64))

    whole = backup_file.write
    monkeypatch.setattr(backup_file, "write", worn_out)
    operator.refuses("backup", operator.folder / "one.backup")
    assert list(operator.folder.iterdir()) == []


def back_up_on_a_full_disk(operator: Operator, limit: int) -> subprocess.CompletedProcess[str]:
    """A backup in a process that can make no file larger than `limit` bytes."""
    settings = operator.portal.settings
    env = environment(
        settings.data,
        8000,
        LASTMILE_DEMO="1",
        DATABASE_URL=settings.database_url,
        # Neither the gateways' files nor compiled code are to be what does not fit.
        LASTMILE_NETWORK_GATEWAY="",
        LASTMILE_EQUIPMENT_GATEWAY="",
        LASTMILE_VOICE_GATEWAY="",
        PYTHONDONTWRITEBYTECODE="1",
    )
    operator.leave()
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "backup", operator.folder / "more"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def test_full_disk_leaves_the_backups_that_are_there(operator: Operator) -> None:
    good = operator.backup("good.backup")
    before = good.read_bytes()
    # SQLite's copy and pg_dump meet the first; the archive around the dump meets the second.
    limits = [len(before) // 2]
    if not operator.portal.settings.is_sqlite:
        limits.append(len(before) - 100)
    for limit in limits:
        done = back_up_on_a_full_disk(operator, limit)
        assert done.returncode == 1, done.stdout
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert good.read_bytes() == before
        assert [path.name for path in operator.folder.iterdir()] == ["good.backup"]
    backup_file.check(good)


@on_sqlite
def test_what_a_killed_backup_left_goes_with_the_next(operator: Operator) -> None:
    abandoned = operator.folder / ".lastmile-work-abc"
    abandoned.mkdir()
    (abandoned / "copy").write_bytes(b"half")
    with backup_file.workshop(operator.folder) as another:
        assert left_over(operator.folder) == [another.name]
        with backup_file.workshop(operator.folder):
            assert another.is_dir()  # somebody works there
    assert left_over(operator.folder) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "no manifest", "later"])
def test_damage_of_a_file_is_found(tmp_path: Path, damage: str) -> None:
    path, database = tmp_path / "one.backup", tmp_path / "database"
    database.write_bytes(os.urandom(100_000))
    size, digest = backup_file.fingerprint(database)
    manifest = backup_file.Manifest(
        "sqlite", clock.now(), False, "0001", "ISP", {}, [], size, digest
    )
    backup_file.write(path, database, manifest)
    assert backup_file.check(path) == manifest
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-30])
    elif damage == "flip":
        path.write_bytes(content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a backup")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(database, "database")
            if damage == "later":
                values = json.loads(manifest.as_json()) | {"format": 2}
                archive.writestr("manifest.json", json.dumps(values))
    with pytest.raises(BadBackup):
        backup_file.check(path)


# Night after night ---------------------------------------------------------------------------


def nightly(operator: Operator, days: int, count: int) -> backup.Made:
    settings = replace(
        operator.portal.settings,
        backups=operator.folder / "nightly",
        backup_keep_days=days,
        backup_keep_count=count,
    )
    operator.leave()
    with operator.portal.app.app_context():
        return backup.make_nightly(settings, lambda _session: [])


def old_backup(operator: Operator, days: float, content: bytes = b"") -> Path:
    """A file as the night `days` ago left it."""
    folder = operator.folder / "nightly"
    folder.mkdir(exist_ok=True)
    path = folder / backup.dated_name(clock.now() - timedelta(days=days))
    path.write_bytes(content)
    return path


@on_sqlite
def test_old_backups_go_by_age_and_count_and_nothing_else_does(operator: Operator) -> None:
    paths = [old_backup(operator, days) for days in (1, 2, 3, 40)]
    mine = operator.folder / "nightly" / "lastmile-before-the-move.backup"
    mine.touch()
    made = nightly(operator, days=30, count=3)
    assert [path.exists() for path in paths] == [True, True, False, False]
    assert made.path.exists()
    assert mine.exists()


@on_sqlite
def test_rotation_never_drops_the_last_good_one(operator: Operator) -> None:
    good = old_backup(operator, 300, operator.backup().read_bytes())
    bad = old_backup(operator, 1, b"damaged")
    settings = replace(operator.portal.settings, backup_keep_days=30, backup_keep_count=1)
    assert backup.drop_old(settings, bad) == []
    assert good.exists()
    nightly(operator, days=30, count=1)
    assert not good.exists()  # now there is a newer one


@on_sqlite
def test_failed_night_drops_nothing(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    old = old_backup(operator, 300)
    monkeypatch.setattr(backup, "_RESERVE_BYTES", 10**18)
    with pytest.raises(BackupFailed):
        nightly(operator, days=1, count=1)
    assert old.exists()
