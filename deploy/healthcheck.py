"""Exit 0 when the portal of this machine answers that it is well, else say what it says; exit 1.

It asks the portal itself, past the proxy, by the name that the portal answers to.
"""

from __future__ import annotations

import http.client
import json
import sys
from ipaddress import ip_address
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.settings import SettingsError, read_settings


def _reached_at(host: str) -> str:
    """The address to ask a portal at that listens on `host`, which may be all of them."""
    if host == "localhost" or not ip_address(host).is_unspecified:
        return host
    return "::1" if ":" in host else "127.0.0.1"


def main() -> int:
    """0 or 1."""
    try:
        settings = read_settings()
        address = _reached_at(settings.host)
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
