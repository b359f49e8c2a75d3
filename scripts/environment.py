"""Makes `.venv` and installs the locked requirements: `environment.py run` or `environment.py dev`.

A stamp is written last, so an environment whose making was interrupted, whose lock has changed,
that was moved or whose Python is another is made anew. With a good stamp this takes no time and no
network.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCKS = {"run": ["requirements.txt"], "dev": ["requirements.txt", "requirements-dev.txt"]}
WHAT = {"run": "what the portal needs", "dev": "what tests and checks need"}


def digest(kind: str) -> str:
    """What the environment depends on: this Python, this folder, the locks."""
    known = hashlib.sha256(f"{sys.version}\n{os.path.realpath(sys.executable)}\n{VENV}\n".encode())
    for name in LOCKS[kind]:
        known.update((ROOT / name).read_bytes())
    return known.hexdigest()


def stamp(kind: str) -> Path:
    return VENV / f"made-for-{kind}"


def state(kind: str) -> str:
    """'good', 'absent', or 'stale' when it was begun or made for something else."""
    try:
        return "good" if stamp(kind).read_text() == digest(kind) else "stale"
    except FileNotFoundError:
        return "absent"


def make() -> None:
    print(f"Making .venv with Python {sys.version.split()[0]} …", flush=True)
    if VENV.is_symlink():
        VENV.unlink()
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True, symlinks=True)


def install(kind: str) -> None:
    stamp(kind).write_text("begun")
    print(f"Installing {WHAT[kind]} …", flush=True)
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--require-hashes"]
    for name in LOCKS[kind]:
        command += ["--requirement", str(ROOT / name)]
    subprocess.run(command, check=True)
    stamp(kind).write_text(digest(kind))


def ensure(kind: str) -> None:
    if state(kind) == "good" and (kind == "dev" or state("dev") != "stale"):
        return
    if state("run") != "good" or state("dev") == "stale":
        make()
        install("run")
    if kind == "dev":
        install("dev")


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        print("usage: environment.py run|dev", file=sys.stderr)
        return 1
    try:
        # Two commands started at once would remove each other's half-made environment.
        with (ROOT / "requirements.txt").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ensure(sys.argv[1])
    except KeyboardInterrupt:
        print("\nStopped. The next call makes .venv anew.", file=sys.stderr)
        return 1
    except (subprocess.CalledProcessError, OSError) as failure:
        is_said = isinstance(failure, subprocess.CalledProcessError)
        reason = "pip failed, see above" if is_said else str(failure)
        print(f".venv could not be made ({reason}). Mend that, call again.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
