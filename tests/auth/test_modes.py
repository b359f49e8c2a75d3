"""The demo and a real portal keep to databases of their own; nobody can sign in to a new one
(bar 12)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from core import serve
from core.settings import ROOT, Settings
from tests.conftest import Portal
from tests.test_serve import environment, free_ports


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.fixture
def real(portal: Portal) -> Settings:
    """A deployment that is no demo, on the same database."""
    return replace(portal.settings, is_demo=False)


def test_real_portal_refuses_the_database_of_the_demo(
    real: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        serve.prepare(real)
    assert ended.value.code == 1
    assert "belongs to the demo" in the_line(capsys)


def test_demo_refuses_the_database_of_a_real_portal(
    portal: Portal, capsys: pytest.CaptureFixture[str]
) -> None:
    portal.execute("UPDATE isp SET is_demo = false")
    with pytest.raises(SystemExit) as ended:
        serve.prepare(portal.settings)
    assert ended.value.code == 1
    assert "was not made by the demo" in the_line(capsys)
    assert portal.one("SELECT count(*) FROM customers") == 10  # nothing was touched


def test_worker_started_alone_refuses_it_too(portal: Portal) -> None:
    env = environment(portal.settings.data, free_ports(), DATABASE_URL=portal.settings.database_url)
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "worker"],
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "belongs to the demo" in done.stderr


def test_fresh_install_lets_nobody_in_but_by_the_link_it_prints(tmp_path: Path) -> None:
    env = environment(tmp_path, free_ports())
    setup = [sys.executable, "-m", "flask", "--app", "app", "setup", "demo/catalog.toml"]
    subprocess.run(setup, env=env, cwd=ROOT, check=True, capture_output=True)
    with closing(sqlite3.connect(tmp_path / "lastmile.db")) as database:
        for table in ("accounts", "sessions", "memberships", "factors"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        people = (
            "SELECT password_hash, role FROM customers LEFT JOIN staff_members ON id = customer_id"
        )
        assert database.execute(people).fetchall() == [("", "administrator")]
        links = "SELECT purpose FROM one_time_links WHERE ended_at IS NULL"
        assert database.execute(links).fetchall() == [("staff",)]
