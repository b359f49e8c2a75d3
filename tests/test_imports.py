"""What a process does not import: each has its memory to itself, and its start is waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from app import COMMANDS
from core.settings import ROOT
from tests.conftest import Portal
from tests.page import BASE
from tests.test_serve import environment
from tests.world import NOW, PASSWORD

NOT_IN_WEB_PROCESSES = {
    *("alembic", "flask_migrate", "psycopg", "sqlalchemy.dialects.postgresql"),
    *("stripe", "prometheus_client"),  # nothing asks for them here
    *("defusedxml", "email_validator", "pyotp", "segno", "typst", "webauthn", "zxcvbn"),
    *("core.backup", "core.doctor", "core.migrate", "core.restore"),
    *("blueprints.staff.catalog", "blueprints.staff.copying", "blueprints.staff.importing"),
    *(place.partition(":")[0] for place in COMMANDS.values()),
}
"""What commands, one gateway, another database or a rare page need: they import it themselves."""
NOT_IN_SUPERVISOR = {"app", "models", "sqlalchemy", "granian", "blueprints"}

FIRST_PAGES = f"""
from datetime import datetime
from app import create_app
from core import clock

browser = create_app().test_client()
with clock.set_to(datetime.fromisoformat("{NOW.isoformat()}")):
    def ask(method, path, status, **more):
        answer = browser.open(path, method=method, base_url="{BASE}", **more)
        assert answer.status_code == status, (path, answer.status_code)
        return answer

    ask("GET", "/sign-in", 200)
    typed = {{"sign_in_id": "alice", "password": "{PASSWORD}"}}
    home = ask("POST", "/sign-in", 303, data=typed).headers["Location"]
    for path in ("", "billing/", "billing/pay"):
        ask("GET", home + path, 200)
"""


def imported_by(code: str, env: dict[str, str]) -> set[str]:
    """The modules that a process has imported once it has run `code`."""
    asked = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_web_process_has_imported_nothing_rare_after_its_first_pages(portal: Portal) -> None:
    env = environment(portal.settings.data, 8000, LASTMILE_DEMO="1")
    found = imported_by(FIRST_PAGES, env)
    assert found >= {"app", "models", "blueprints.staff", "core.commands"}
    assert found & NOT_IN_WEB_PROCESSES == set()


def test_supervisor_imports_nothing_of_what_it_watches_over() -> None:
    ends = "import contextlib, runpy\nwith contextlib.suppress(SystemExit): "
    program = f"{ends}runpy.run_path('app.py', run_name='__main__')"
    found = imported_by(program, os.environ | {"LASTMILE_PROCESSES": "many"})
    assert "core.supervisor" in found
    assert found & NOT_IN_SUPERVISOR == set()


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_its_name_leads(portal: Portal, name: str) -> None:
    done = portal.app.test_cli_runner().invoke(args=[name, "--help"])
    assert done.exit_code == 0, done.output
    assert f"{name} [OPTIONS]" in done.output
