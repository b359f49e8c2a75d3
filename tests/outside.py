"""Programs that some tests need and that are no Python packages: found, or the test is skipped.

A test says `need("chromium")` and gets the path. Without the program it is skipped with a sentence
that says how to install it, and the end of the run lists what was skipped for which program. With
LASTMILE_REQUIRE_ALL=1, as in CI, a skip of any kind is a failure.

`tests/conftest.py` switches the hooks on with `pytest_plugins = ["tests.outside"]`.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

POSTGRESQL_PROGRAMS = ("initdb", "postgres")


@dataclass(frozen=True)
class Program:
    """One outside program: what people call it, its Debian package, how it is found."""

    name: str
    package: str
    find: Callable[[], Path | None]


def _first_on_path(*commands: str) -> Path | None:
    found = (shutil.which(command) for command in commands)
    return next((Path(path) for path in found if path), None)


def _find_chromium() -> Path | None:
    return _first_on_path("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _find_postgresql() -> Path | None:
    """The folder of the newest PostgreSQL server's programs; Debian keeps them off the PATH."""
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if _is_server(path)]
    if folders:
        return max(folders, key=lambda path: float(path.parent.name))
    on_path = _first_on_path("initdb")
    if on_path and _is_server(on_path.resolve().parent):
        return on_path.resolve().parent
    return None


def _is_server(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in POSTGRESQL_PROGRAMS)


def _find_freeradius() -> Path | None:
    """The server, where its schema may be read too and the tool that asks it is there."""
    schema = Path("/etc/freeradius/3.0/mods-config/sql/main/sqlite/schema.sql")
    is_whole = os.access(schema, os.R_OK) and _first_on_path("radclient")
    return _first_on_path("freeradius", "/usr/sbin/freeradius") if is_whole else None


PROGRAMS = {
    "chromium": Program("Chromium", "chromium", _find_chromium),
    "freeradius": Program(
        "FreeRADIUS",
        "freeradius freeradius-utils freeradius-postgresql freeradius-rest",
        _find_freeradius,
    ),
    "mariadb": Program(
        "MariaDB's server",
        "mariadb-server-core",
        lambda: _first_on_path("mariadbd", "/usr/sbin/mariadbd"),
    ),
    "lynx": Program("lynx", "lynx", lambda: _first_on_path("lynx")),
    "nginx": Program("nginx", "nginx-light", lambda: _first_on_path("nginx", "/usr/sbin/nginx")),
    "postgresql": Program("PostgreSQL's server", "postgresql", _find_postgresql),
}


def must_have_all() -> bool:
    return os.environ.get("LASTMILE_REQUIRE_ALL") == "1"


def find(program: str) -> Path | None:
    """Path of the program, or of its folder in the case of PostgreSQL; None when it is absent."""
    return PROGRAMS[program].find()


def need(program: str) -> Path:
    """Path of the program; skips the test that asks when it is absent, fails it in CI."""
    path = find(program)
    if path is None:
        known = PROGRAMS[program]
        pytest.skip(f"needs {known.name}, which is not installed: apt-get install {known.package}")
    return path


# What follows are pytest's hooks.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if must_have_all() and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if must_have_all() and report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"Skipped, and LASTMILE_REQUIRE_ALL=1 forbids that: {_reason(report)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _print_tables(terminalreporter)
    lacking = Counter(
        match.groups()
        for report in terminalreporter.stats.get("skipped", [])
        if (match := re.search(r"needs (.+), which is not installed: (.+)$", _reason(report)))
    )
    if not lacking:
        return
    terminalreporter.section("not tested on this machine")
    for (name, remedy), count in sorted(lacking.items()):
        tests = "1 test needs" if count == 1 else f"{count} tests need"
        terminalreporter.write_line(f"{tests} {name}. To run them: {remedy}")


def _print_tables(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured: properties named `table: …`, lists of lines, also from other workers."""
    tables: dict[str, list[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, lines in getattr(report, "user_properties", ()):
                if name.startswith("table: "):
                    tables.setdefault(name.removeprefix("table: "), []).extend(lines)
    for name, lines in tables.items():
        terminalreporter.section(name)
        for place, line in enumerate(lines):
            if line not in lines[:place] or not line.startswith(" "):  # its head stands once
                terminalreporter.write_line(line)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)
