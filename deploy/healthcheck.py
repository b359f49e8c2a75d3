"""Exit 0 when the portal of this machine answers that it is well, else say what it says; exit 1.

It asks the portal itself, past the proxy, by the name that the portal answers to.
"""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.settings import SettingsError, read_settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, not where we do


def main() -> int:
    """0 or 1."""
    try:
        settings = read_settings()
        address = _EVERYWHERE.get(settings.host, settings.host)
        connection = http.client.HTTPConnection(address, settings.port, timeout=4)
        connection.request("GET", "/health", headers={"Host": settings.public_host})
        answer = connection.getresponse()
        said = json.loads(answer.read(10_000))
        connection.close()
    except (OSError, ValueError, http.client.HTTPException, SettingsError) as error:
        sys.stderr.write(f"the portal does not answer: {error}\n")
        return 1
    if answer.status != 200:
        sys.stderr.write(f"the portal says: {said.get('status')}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
