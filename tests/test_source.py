"""Rules for the source itself: clock, seeds, templates, secrets, dependencies (bars 38, 81, 91)."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ROOT

OURS = ("blueprints", "core", "gateways", "demo", "migrations")
APP = [ROOT / "app.py", ROOT / "models.py"]
NOT_OURS = {".git", ".venv", "instance", "build", "__pycache__", ".hypothesis"}


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    for path in paths + (APP if folders == OURS else []):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


# Time ------------------------------------------------------------------------------------------

CLOCKS = {
    "now", "utcnow", "today", "time", "time_ns", "localtime", "gmtime", "ctime", "strftime",
    "current_timestamp", "localtimestamp", "current_date",
}  # fmt: skip
OF_MODULES = {"datetime", "date", "time", "func", "dt"}
# The sandbox bank is a program of its own; what a copy of the database notes about itself and the
# instants in the log are no money, session or usage. The clock of FreeRADIUS' database is its own:
# sessions are looked for by it.
READ_THE_CLOCK = {
    "blueprints/staff/copy_target.py": 2,
    "core/clock.py": 2,
    "core/log.py": 3,
    "gateways/network/freeradius/database.py": 3,
    "gateways/payments/sandbox/notices.py": 1,
    "gateways/payments/sandbox/books.py": 1,
}


def readings(tree: ast.Module) -> list[int]:
    """The lines that read the time of the machine, by Python or in the database."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name in OF_MODULES:
                found.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [node.lineno for alias in node.names if alias.name in CLOCKS]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_sql = re.search(r"CURRENT_TIMESTAMP|\bnow\(\)|datetime\('now", node.value)
            found += [node.lineno] * bool(is_sql)
    return found


def test_only_the_clock_reads_the_time() -> None:
    """Whoever asks `core.clock` can be tested at any hour, and the demo can live through a year."""
    found = {name: readings(tree) for name, tree in sources(*OURS) if readings(tree)}
    beyond = {
        name: lines for name, lines in found.items() if len(lines) > READ_THE_CLOCK.get(name, 0)
    }
    assert beyond == {}


@pytest.mark.parametrize(
    "code",
    [
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.utcnow()",
        "import datetime as dt\nx = dt.date.today()",
        "import time\nx = time.time()",
        "from time import time\nx = time()",
        "from sqlalchemy import func\nx = func.now()",
        "x = 'UPDATE payments SET ended_at = CURRENT_TIMESTAMP'",
        "default = datetime.now",
    ],
)
def test_reading_of_the_time_is_found(code: str) -> None:
    assert readings(ast.parse(code))


# Chance ----------------------------------------------------------------------------------------


def generators(tree: ast.Module) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "random"
    ]


def unseeded(tree: ast.Module) -> list[int]:
    """Lines that draw without a seed, or draw a seed in a module that does not print it."""
    prints = any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and "seed" in ast.unparse(node)
        for node in ast.walk(tree)
    )
    found = []
    for call in generators(tree):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        is_seeded = name == "Random" and bool(call.args)
        is_seed = name in ("SystemRandom", "randrange", "getrandbits") and prints
        if not (is_seeded or is_seed):
            found.append(call.lineno)
    return found


def test_random_tests_print_their_seed() -> None:
    found = {name: unseeded(tree) for name, tree in sources("tests", "bench", "demo")}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import random\nx = random.random()",
        "import random\nx = random.choice('ab')",
        "import random\ndice = random.Random()",
        "import random\nseed = random.SystemRandom().randrange(9)\ndice = random.Random(seed)",
    ],
)
def test_chance_that_cannot_be_repeated_is_found(code: str) -> None:
    assert unseeded(ast.parse(code))


# Templates -------------------------------------------------------------------------------------

FORBIDDEN = {
    "a handler inside the page": r"\son[a-z]+\s*=",
    "an htmx handler": r"hx-on",
    "something to evaluate": r"[\"'\s](js|javascript):",
    "a trigger with a condition": r"hx-trigger=\"[^\"]*\[",
    "a style attribute": r"\sstyle\s*=",
    "an inline script": r"<script(?![^>]*\ssrc=)",
    "a frame or a plug-in": r"<(iframe|object|embed|base|meta http-equiv)",
    "text that is not escaped": r"\|\s*safe|autoescape|Markup",
    "a file of another host": r"(src|href|action)=\"(https?:)?//",
}
# The one inlined style block, known by its hash in the policy.
ALLOWED = {("layouts/plain.html", "text that is not escaped"): 1}


def faults(text: str) -> Counter[str]:
    without_comments = re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL)
    return Counter(
        {
            what: len(re.findall(pattern, without_comments))
            for what, pattern in FORBIDDEN.items()
            if re.search(pattern, without_comments)
        }
    )


def test_templates_hold_nothing_that_runs() -> None:
    folders = (ROOT / "templates", ROOT / "gateways")
    paths = [path for folder in folders for path in sorted(folder.rglob("*.html"))]
    assert len(paths) > 20
    found = {}
    for path in paths:
        name = path.relative_to(ROOT / "templates").as_posix() if folders[0] in path.parents else ""
        for what, count in faults(path.read_text()).items():
            if count > ALLOWED.get((name, what), 0):
                found[path.name] = what
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        '<b onclick="x">',
        '<b hx-on:click="x">',
        '<b hx-vals="js:{}">',
        '<a href="javascript:x">',
        '<b hx-trigger="click[x]">',
        "<b style='x'>",
        "<script>x</script>",
        "<iframe>",
        "{{ x|safe }}",
        '<img src="//cdn.example/x">',
    ],
)
def test_what_runs_in_a_template_is_found(text: str) -> None:
    assert faults(text)


# Secrets ---------------------------------------------------------------------------------------

KNOWN_SHAPES = (
    r"-----BEGIN (?:[A-Z ]+ )?PRIVATE KEY-----",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    r"\bgithub_pat_[A-Za-z0-9_]{50,}",
    r"\bglpat-[A-Za-z0-9_-]{20}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\b[sr]k_live_[A-Za-z0-9]{16,}",
    r"\bwhsec_[A-Za-z0-9]{20,}",
    r"\bAIza[0-9A-Za-z_-]{35}\b",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
    r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
)
NAMED = re.compile(
    r"(?i)(?:secret|passw(?:or)?d|token|api_?key|private_?key)\w*[\"']?\s*[:=]\s*[\"']([^\"'\s]{16,})[\"']"
)
# Lists of hashes of public files are no secrets.
LISTS = {"requirements.txt", "requirements-dev.txt", "vendored.sha256"}


def bits(text: str) -> float:
    """Shannon's entropy of the text, in bits a sign."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def leaks(text: str, *, is_test: bool = False) -> list[str]:
    """What looks like a credential: of a known shape, or random and named like one. Tests and bench
    make up passwords of their own."""
    found = [match.group() for shape in KNOWN_SHAPES for match in re.finditer(shape, text)]
    named = [] if is_test else NAMED.findall(text)
    return found + [value for value in named if bits(value) > 3.5 and not value.isalpha()]


def tracked() -> list[Path]:
    """The files of the repository; in a release without its history, all there are."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout.split("\0")
        return [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        return [
            path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)
        ]


def test_no_secret_is_in_the_tree() -> None:
    found = {}
    for path in tracked():
        if path.is_file() and path.name not in LISTS and path != Path(__file__):
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                continue
            name = path.relative_to(ROOT).as_posix()
            suspects = leaks(text, is_test=name.startswith(("tests/", "bench/")))
            if suspects:
                found[name] = suspects
    assert found == {}


def test_no_file_that_holds_secrets_is_in_the_tree() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    shapes = r"(^|/)(\.env.*|secret|sandbox-secret|id_[a-z0-9]+|.*\.(pem|key|p12|pfx|db|sqlite3?))$"
    assert [name for name in names if re.search(shapes, name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN EC PRIVATE KEY-----",
        "aws = AKIA" + "ABCDEFGHIJKLMNOP",
        "sk_live_" + "abcdefghijklmnop1234",
        'SECRET_KEY = "q8Zr2LmVx0TfYw7BnK3sEa"',
        '{"api_key": "9f8e7d6c5b4a39281706f5e4d3c2b1a0"}',
    ],
)
def test_secret_is_found(text: str) -> None:
    assert leaks(text)


# Dependencies ----------------------------------------------------------------------------------


def locked(name: str) -> dict[str, list[str]]:
    """Each package of a lock with its version, and the lines that belong to it."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and line[0] not in " #-":
            found[line.split()[0].rstrip("\\").strip()] = []
        elif line.startswith("    ") and found:
            list(found.values())[-1].append(line.strip())
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_dependency_is_pinned_by_version_and_hash(name: str) -> None:
    packages = locked(name)
    assert len(packages) > 20
    for package, lines in packages.items():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+!]*", package), package
        assert any(line.startswith("--hash=sha256:") for line in lines), package
    text = (ROOT / name).read_text()
    assert "://" not in re.sub(r"#.*", "", text)
    assert "--trusted-host" not in text


def asked_for(name: str) -> set[str]:
    text = re.sub(r"#.*", "", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("-")]
    return {re.split(r"[\[<>=;! ]", line)[0].lower().replace("_", "-") for line in lines}


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_lock_holds_what_is_asked_for_and_what_that_needs(name: str) -> None:
    packages = locked(f"{name}.txt")
    names = {package.split("==")[0] for package in packages}
    asked = asked_for(f"{name}.in")
    assert asked <= names
    for package, lines in packages.items():
        why = " ".join(lines)
        assert "via" in why, package
        if package.split("==")[0] in asked:
            assert f"-r {name}.in" in why, package


def test_inventory_is_the_one_of_the_locks() -> None:
    command = [sys.executable, "scripts/inventory.py", "check"]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0
