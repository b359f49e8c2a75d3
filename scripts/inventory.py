"""The inventory of what Lastmile is made of, from the locks.

`inventory.py write` makes docs/dependencies.md; `inventory.py check` fails when the locks or the
vendored files have changed since.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "dependencies.md"
HEAD = """# Dependencies

Written by `scripts/inventory.py write` from the locks, which pin every package by version and
SHA-256; `make lock` writes those, and `make check` fails when this page is not theirs. To hold them
against an advisory database where one can be reached:
`pip-audit --require-hashes -r requirements.txt`.
"""


def packages(name: str) -> dict[str, tuple[str, str]]:
    """Package → version and what asks for it."""
    found: dict[str, tuple[str, list[str]]] = {}
    latest: list[str] = []
    for line in (ROOT / name).read_text("utf-8").splitlines():
        pinned = re.match(r"([a-z0-9-]+)==(\S+)", line)
        if pinned:
            latest = []
            found[pinned.group(1)] = (pinned.group(2), latest)
        elif line.startswith("    #"):
            latest += line.strip(" #").removeprefix("via").split(",")
    return {
        package: (version, ", ".join(sorted(filter(None, map(_reason, reasons)))))
        for package, (version, reasons) in found.items()
    }


def _reason(text: str) -> str:
    text = text.strip()
    if text.startswith("-r"):
        return "Lastmile"
    return "" if text.startswith("-c") else text


def _table(rows: dict[str, tuple[str, str]]) -> str:
    lines = ["| package | version | asked for by |", "|---|---|---|"]
    lines += [f"| {name} | {version} | {why} |" for name, (version, why) in sorted(rows.items())]
    return "\n".join(lines)


def page() -> str:
    """The whole of docs/dependencies.md."""
    run, dev = packages("requirements.txt"), packages("requirements-dev.txt")
    only_dev = {name: found for name, found in dev.items() if name not in run}
    vendored = (ROOT / "scripts" / "vendored.sha256").read_text("utf-8").splitlines()
    pairs = [line.split("  ", 1) for line in vendored if line]
    files = ["| file | SHA-256 |", "|---|---|"]
    files += [f"| {name} | `{digest}` |" for digest, name in pairs]
    return "\n\n".join(
        [
            HEAD.rstrip(),
            "## What the portal runs on",
            _table(run),
            "## What only tests and checks need",
            _table(only_dev),
            "## Files of others in the repository",
            "\n".join(files) + "\n",
        ]
    )


def main(command: str) -> int:
    """Exit code of `write` or `check`."""
    if command == "write":
        PAGE.write_text(page(), "utf-8")
        return 0
    if not PAGE.exists() or PAGE.read_text("utf-8") != page():
        print(f"{PAGE.name} is not what the locks say: scripts/inventory.py write", file=sys.stderr)
        return 1
    print("The inventory of dependencies is that of the locks.")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["check"], ["write"]):
        sys.exit("usage: inventory.py check|write")
    sys.exit(main(sys.argv[1]))
