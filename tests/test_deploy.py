"""The samples of deploy/ hold what they say: units, settings, container, commands."""

from __future__ import annotations

import fnmatch
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from core.settings import ROOT, read_settings
from tests import processes
from tests.test_serve import environment, free_ports

DEPLOY = ROOT / "deploy"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").glob("lastmile-*.*") if path.is_file())
# What systemd will do to the portal and what Linux can show here: no new executable memory, no new
# privileges. Both are kept by children.
CONFINED = """
import ctypes, os, sys
prctl = ctypes.CDLL(None).prctl
prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN; from Linux 6.3 on
prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units with programs that exist on this machine."""
    folder = tmp_path_factory.mktemp("units")
    shutil.copytree(DEPLOY / "systemd", folder, dirs_exist_ok=True)
    for path in folder.rglob("lastmile-*.*"):
        if path.is_file():
            text = path.read_text().replace("/opt/lastmile/.venv/bin/flask", sys.executable)
            path.write_text(text.replace("/opt/lastmile/.venv/bin/python", sys.executable))
    return folder


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", UNITS)
def test_unit_runs_a_command_that_exists(name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    for command in re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE):
        program, *arguments = command.split()
        assert program.startswith("/opt/lastmile/.venv/bin/")
        assert arguments[0] in ("/opt/lastmile/app.py", "--app")
        assert arguments[1:] in ([], ["web"], ["worker"], ["app", "ledger", "verify"])
    for line in text.splitlines():
        assert not line.startswith(("User=", "ProtectSystem=")), "that is in common.conf"


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_understood_by_systemd(units: Path, name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        return  # the other checks of this file still hold; systemd is not for every machine
    found = analyze(units, "verify", "--man=no", str(units / name))
    assert found.returncode == 0, found.stderr
    assert name not in found.stderr, found.stderr
    if name.endswith(".service"):
        safe = analyze(units, "security", "--offline=yes", "--threshold=20", str(units / name))
        assert safe.returncode == 0, safe.stdout


def test_sample_of_the_settings_is_taken(tmp_path: Path) -> None:
    """As it is, and with everything in it switched on."""
    sample = (DEPLOY / "lastmile.env").read_text()
    every = re.sub(r"^#([A-Z_]+=)", r"\1", sample, flags=re.MULTILINE)
    every = every.replace("LASTMILE_SECRET=", f"LASTMILE_SECRET={os.urandom(32).hex()}")
    radius = tmp_path / "radius.toml"
    radius.write_text('[nas."192.0.2.1"]\nsecret = "a-long-secret-of-a-nas"\n')
    radius.chmod(0o600)
    every = every.replace("/etc/lastmile/radius.toml", str(radius))
    genieacs = tmp_path / "genieacs.toml"
    genieacs.write_text('find_by = ["_tags"]\n')
    every = every.replace("/etc/lastmile/genieacs.toml", str(genieacs))
    for number, text in enumerate((sample, every)):
        path = tmp_path / f"{number}.env"
        path.write_text(text)
        settings = read_settings(
            {"LASTMILE_SETTINGS": str(path), "LASTMILE_DATA": str(tmp_path / "data")}
        )
        assert settings.public_url == "https://my.example.net"
        assert settings.proxy_count == 1
    assert settings.host == "10.0.0.11"
    assert settings.database_url.startswith("postgresql+psycopg://")


def test_command_of_the_operator_is_sound() -> None:
    assert os.access(DEPLOY / "lastmile", os.X_OK)
    checked = subprocess.run(["sh", "-n", str(DEPLOY / "lastmile")], check=False)
    assert checked.returncode == 0


def copied() -> list[tuple[str, str]]:
    """Source and target of what the container's last stage copies from the repository."""
    last = (DEPLOY / "Containerfile").read_text().rsplit("\nFROM ", 1)[1]
    pairs = []
    for line in re.findall(r"^COPY (?!--from)(.+)$", last, re.MULTILINE):
        *sources, target = line.split()
        pairs += [(source, target) for source in sources]
    return pairs


def is_let_in(path: str) -> bool:
    """What .dockerignore says, as far as it uses the last rule that fits."""
    verdict = True
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.lstrip("!")
        if fnmatch.fnmatch(path, pattern) or path.startswith(pattern + "/"):
            verdict = rule.startswith("!")
    return verdict


def test_container_copies_what_exists_and_what_is_let_in() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    sources = [source for source, _target in copied()] + ["requirements.txt"]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_let_in(source), source
    for kept_out in ("instance/secret", ".venv/bin/python", ".git/config", "tests/world.py"):
        assert not is_let_in(kept_out), kept_out
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert "--require-hashes" in text


def test_what_the_container_holds_serves_and_writes_nothing_but_data(tmp_path: Path) -> None:
    """Its files alone, confined as the unit confines: set up, served, found healthy, and exchanged
    for the next release by a link and a reload."""
    code, data, link = tmp_path / "code", tmp_path / "data", tmp_path / "link"
    code.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for source, target in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, code / target, ignore=ignored)
        else:
            place = code / (source if target == "./" else target)
            place.parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / source, place)
    before = sorted(code.rglob("*"))
    link.symlink_to(code)
    more = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "LASTMILE_PUBLIC_URL": "https://my.example.net",
        "LASTMILE_PROXY_COUNT": "1",
    }
    env = environment(data, free_ports(), **more)
    confined = [sys.executable, "-c", CONFINED]
    catalog = str(ROOT / "demo" / "catalog.toml")
    setup = [*confined, "-m", "flask", "--app", "app", "setup", catalog]
    made = subprocess.run(setup, env=env, cwd=code, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*confined, str(link / "app.py")], env=env, cwd=link, stdout=log, stderr=log
        )
    try:
        check = [sys.executable, "deploy/healthcheck.py"]
        end = time.monotonic() + 60
        while subprocess.run(check, env=env, cwd=code, capture_output=True, check=False).returncode:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
        for pid in processes.descendants(process.pid):
            assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
        _release_next(code, link)
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while b"Of the next release" not in _help_page(int(env["PORT"])):
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.2)
    finally:
        processes.end(process, 40)
    assert process.returncode == 0
    assert sorted(code.rglob("*")) == before


def _release_next(code: Path, link: Path) -> None:
    """A release that differs by one page, in place of the present one at once."""
    made = code.with_name("next")
    shutil.copytree(code, made)
    page = made / "templates" / "support" / "help.html"
    page.write_text(
        page.read_text().replace("{% block content %}", "{% block content %}Of the next release")
    )
    assert "Of the next release" in page.read_text()
    new = link.with_name("new")
    new.symlink_to(made)
    new.replace(link)


def _help_page(port: int) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/help", headers={"Host": "my.example.net"})
        return connection.getresponse().read()
