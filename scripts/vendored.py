"""Third-party files kept in the repository, each known by its SHA-256.

`vendored.py check` compares them with `scripts/vendored.sha256` and fails on a changed, a missing
or an unlisted file. `vendored.py write` lists what is there, after one was replaced on purpose.
"""

import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "scripts" / "vendored.sha256"
PATTERNS = ["static/vendor/**/*", "fonts/*", "tests/browser/axe-core-*"]


def present() -> dict[str, str]:
    """Path inside the repository → SHA-256, of each vendored file."""
    files = (path for pattern in PATTERNS for path in ROOT.glob(pattern) if path.is_file())
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
    }


def listed() -> dict[str, str]:
    pairs = (line.split("  ", 1) for line in LIST.read_text("utf-8").splitlines() if line)
    return {name: digest for digest, name in pairs}


def check() -> int:
    found, known = present(), listed()
    faults = [f"{name} is not in scripts/vendored.sha256" for name in found.keys() - known.keys()]
    faults += [f"{name} is missing" for name in known.keys() - found.keys()]
    faults += [
        f"{name} was changed" for name in found.keys() & known.keys() if found[name] != known[name]
    ]
    for fault in sorted(faults):
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{len(found)} vendored files are as listed.")
    return 1 if faults else 0


def write() -> int:
    LIST.write_text("".join(f"{digest}  {name}\n" for name, digest in present().items()), "utf-8")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["check"], ["write"]):
        sys.exit("usage: vendored.py check|write")
    sys.exit(check() if sys.argv[1] == "check" else write())
