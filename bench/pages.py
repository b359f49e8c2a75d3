"""Requests a second of the hottest pages, as a share of a bare Flask route served the same way.

Reference and page take turns in one run. The dashboards are those of the demo's customers, each
account with a year of history.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bench.report import Bar, Result, Table
from core.settings import ROOT

DATA = ROOT / "build" / "bench-demo"
SESSIONS = 400
ROUNDS = {"small": 3, "full": 7}
SECONDS = {"small": 2, "full": 4}
# A page may change while it is measured: a payment under way in the demo ends.
MOST_WRONG = 0.02
LIMITS = {"sign-in page": 0.6, "dashboard": 0.35, "dashboard, unchanged": 0.6}
BARE_PORT, PORTAL_PORT = 8391, 8393

_PREPARE = """
import json, sys
from bench.pages import open_sessions
from app import create_app
from core.serve import prepare
from core.settings import read_settings
settings = read_settings()
prepare(settings)
with create_app(settings).app_context():
    print("SESSIONS " + json.dumps(open_sessions(int(sys.argv[1]))))
"""
_SERVE = "from core.serve import run; from core.settings import read_settings; run(read_settings())"


def open_sessions(count: int) -> list[tuple[str, str]]:
    """Sign `count` owners in on devices of their own; pairs of cookie token and account."""
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from core import clock, ids
    from core.db import db, unit_of_work
    from models import Account, Customer, Membership, Role, SignInSession

    people = db.session.execute(
        select(Customer.id, Customer.session_generation, Account.public_id)
        .join(Membership, Membership.customer_id == Customer.id)
        .join(Account, Account.id == Membership.account_id)
        .where(Membership.role == Role.OWNER.value)
        .order_by(Account.id)
        .limit(count)
    ).all()
    made = [(ids.secret_token(), person) for person in people]

    def work(session: Session) -> None:
        now = clock.now()
        for token, person in made:
            session.add(
                SignInSession(
                    token_hash=ids.hash_token(token),
                    customer_id=person.id,
                    csrf_secret=secrets.token_bytes(16),
                    generation=person.session_generation,
                    is_own_device=True,
                    address="127.0.0.1",
                    user_agent="bench",
                    created_at=now,
                    last_used_at=now,
                    expires_at=now + timedelta(days=1),
                    password_at=now,
                )
            )

    unit_of_work(work)
    return [(token, person.public_id) for token, person in made]


def _environment(processes: int) -> dict[str, str]:
    return os.environ | {
        "LASTMILE_DEMO": "1",
        "LASTMILE_DATA": str(DATA),
        "LASTMILE_PROCESSES": str(processes),
        "PORT": str(PORTAL_PORT),
    }


@contextlib.contextmanager
def _running(arguments: list[str], env: dict[str, str], url: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=quiet, stderr=quiet)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"nothing answers at {url}")
        yield
    finally:
        process.terminate()
        process.wait(20)


def _lua(path: Path, requests: list[tuple[str, dict[str, str]]], wanted_status: int) -> Path:
    """A wrk script that goes through `requests` and counts answers of another status."""
    lines = ["local r = {}"]
    for number, (address, headers) in enumerate(requests, 1):
        table = ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items())
        lines.append(f"r[{number}] = wrk.format('GET', {json.dumps(address)}, {{{table}}})")
    lines += [
        "local i = 0",
        "request = function() i = i % #r + 1; return r[i] end",
        "wrong = 0",
        "response = function(status)",
        f"  if status ~= {wanted_status} then wrong = wrong + 1 end",
        "end",
        "local threads = {}",
        "setup = function(thread) table.insert(threads, thread) end",
        "done = function() print('WRONG ' .. threads[1]:get('wrong')) end",
    ]
    path.write_text("\n".join(lines))
    return path


def _rate(script: Path, port: int, seconds: int) -> float:
    answer = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wrong = re.search(r"WRONG (\d+)", answer)
    found = re.search(r"Requests/sec:\s+([\d.]+)", answer)
    done = re.search(r"(\d+) requests in", answer)
    if wrong is None or found is None or done is None or "Socket errors" in answer:
        raise RuntimeError(f"wrk did not finish:\n{answer}")
    if int(wrong.group(1)) > MOST_WRONG * int(done.group(1)):
        raise RuntimeError(f"answers were not as wanted:\n{answer}")
    return float(found.group(1))


def _etag(address: str, headers: dict[str, str]) -> str:
    asked = urllib.request.Request(f"http://127.0.0.1:{PORTAL_PORT}{address}", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return str(answer.headers["ETag"])


def _scripts(folder: Path, sessions: list[tuple[str, str]]) -> dict[str, Path]:
    br = {"Accept-Encoding": "br", "Host": f"127.0.0.1:{PORTAL_PORT}"}
    homes = [(f"/a/{account}/", br | {"Cookie": f"session={token}"}) for token, account in sessions]
    held = [(path, sent | {"If-None-Match": _etag(path, sent)}) for path, sent in homes]
    return {
        "sign-in page": _lua(folder / "sign-in.lua", [("/sign-in", br)], 200),
        "dashboard": _lua(folder / "home.lua", homes, 200),
        "dashboard, unchanged": _lua(folder / "held.lua", held, 304),
    }


def run(size: str) -> Result:
    """Shares of the bare route with one process each. Raises RuntimeError when wrk is absent or
    any answer was not the page asked for."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is missing: apt-get install wrk")
    DATA.mkdir(parents=True, exist_ok=True)
    env = _environment(1)
    made = subprocess.run(
        [sys.executable, "-c", _PREPARE, str(SESSIONS)],
        cwd=ROOT,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    sessions = json.loads(made.split("SESSIONS ", 1)[1])
    bare_url, portal_url = (
        f"http://127.0.0.1:{BARE_PORT}/",
        f"http://127.0.0.1:{PORTAL_PORT}/health",
    )
    rates: dict[str, list[float]] = {name: [] for name in LIMITS}
    shares: dict[str, list[float]] = {name: [] for name in LIMITS}
    bare_rates = []
    with (
        tempfile.TemporaryDirectory() as folder,
        _running(["-m", "bench.bare", str(BARE_PORT), "1"], dict(os.environ), bare_url),
        _running(["-c", _SERVE], env, portal_url),
    ):
        bare = _lua(
            Path(folder) / "bare.lua", [("/", {"Accept-Encoding": "br", "Host": "127.0.0.1"})], 200
        )
        for _ in range(ROUNDS[size]):
            # Anew in each round: the worker may have changed an account, and with it its tag.
            scripts = _scripts(Path(folder), sessions)
            for name, script in scripts.items():
                bare_rates.append(_rate(bare, BARE_PORT, SECONDS[size]))
                rates[name].append(_rate(script, PORTAL_PORT, SECONDS[size]))
                shares[name].append(rates[name][-1] / bare_rates[-1])
    middle = {name: statistics.median(found) for name, found in shares.items()}
    rows = [["bare Flask route", f"{statistics.median(bare_rates):,.0f}", "1"]]
    rows += [
        [name, f"{statistics.median(rates[name]):,.0f}", f"{middle[name]:.3f}"] for name in rates
    ]
    note = (
        f"One process each, wrk with one thread and eight connections; {len(sessions)} accounts "
        "in turn."
    )
    return Result(
        [Table("", ("page", "requests a second", "share of the bare route"), rows, note)],
        [
            Bar(f"{name}, share", middle[name], limit, at_least=True)
            for name, limit in LIMITS.items()
        ],
    )
