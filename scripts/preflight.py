"""Says in one line why Lastmile cannot start with this Python, and exits 1; silent when it can.

Old Pythons have to understand this file, so it is written as for Python 2.7.
"""

import os
import sys

OLDEST = (3, 11)


def why_not():  # type: () -> str | None
    """The reason as one sentence that says what to do, or None."""
    found = "%d.%d.%d" % tuple(sys.version_info[:3])
    if sys.version_info[:2] < OLDEST:
        return (
            "Lastmile needs Python %d.%d or newer; %s is %s."
            " Name a newer one, such as: make run PYTHON=python3.11"
            % (OLDEST[0], OLDEST[1], sys.executable or "this one", found)
        )
    if os.name != "posix":
        return "Lastmile runs on Linux, macOS and other Unix systems; on Windows use WSL."
    missing = []
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            missing.append(module)
    if missing:
        return "%s has no module %s. On Debian and Ubuntu: apt-get install python3-venv" % (
            sys.executable,
            " and no module ".join(missing),
        )
    try:
        import sqlite3
    except ImportError:
        return (
            "%s was built without SQLite. Use a Python that has the sqlite3 module."
            % sys.executable
        )
    if sqlite3.sqlite_version_info < (3, 35, 0):
        return "Lastmile needs SQLite 3.35 or newer; this Python has %s." % sqlite3.sqlite_version
    return None


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.stderr.write(reason + "\n")
        sys.exit(1)
