"""The command itself, killed at random points and run again."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from core.db import db
from core.settings import ROOT
from tests import repeats
from tests.staff.conftest import DATA, Desk

EXPECTED = json.loads((DATA / "customers_export.expected.json").read_text())
KILLS = repeats.sized(4, 4, 20)


def _start(desk: Desk, export: Path) -> subprocess.Popen[bytes]:
    settings = desk.portal.settings
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "LASTMILE_DATA": str(settings.data),
        "LASTMILE_DEMO": "1",
        "LASTMILE_SECRET": secrets.token_hex(32),
    }
    arguments = ["accounts", "import", str(export), "--cut-over", "2026-06-01"]
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "app", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _count(desk: Desk) -> int:
    return int(desk.portal.one("SELECT count(*) FROM accounts WHERE number LIKE '103%'"))


def test_an_import_killed_at_random_points_is_finished_by_another(desk: Desk) -> None:
    db.session.remove()
    db.engine.dispose()
    export = Path(shutil.copy(DATA / "customers_export.csv", desk.folder))
    dice = repeats.dice()
    counts = [0]
    for _ in range(KILLS):
        process = _start(desk, export)
        deadline = time.monotonic() + 30
        while _count(desk) == counts[-1] and time.monotonic() < deadline:
            assert process.poll() in (None, 0), process.communicate()
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(_count(desk))
        if counts[-1] == EXPECTED["accepted"]:
            break
    assert counts[1] > 0
    # An account is there with all that belongs to it, or not at all.
    assert _count(desk) == desk.portal.one(
        "SELECT count(DISTINCT account_id) FROM subscriptions s"
        " JOIN accounts a ON a.id = s.account_id WHERE number LIKE '103%'"
    )
    process = _start(desk, export)
    output, _errors = process.communicate(timeout=60)
    assert process.returncode == 0
    left = EXPECTED["accepted"] - counts[-1]
    assert f"{left:,} accounts added, 0 changed, {counts[-1]:,} unchanged" in output.decode()
    total = desk.portal.one("SELECT sum(balance_minor) FROM accounts WHERE number LIKE '103%'")
    assert total == EXPECTED["sum_of_opening_balances_minor"]
    names = {path.name for path in desk.folder.iterdir()}
    assert names == {export.name, f"{export.name}.rejected.csv"}
