"""A town behind nginx over TLS, for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import outside
from tests.faults.test_kill import Machine
from tests.real import nginx
from tests.test_serve import free_ports


@dataclass(frozen=True, slots=True)
class Street:
    """A machine, the nginx in front of it, and the file of its settings."""

    machine: Machine
    proxy: nginx.Proxy
    settings: Path


# The shortest that still let a slow test machine be quick enough.
SECONDS = {"client_header_timeout": 4, "client_body_timeout": 4}


@pytest.fixture(scope="package")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    outside.need("nginx")
    folder = tmp_path_factory.mktemp("street")
    settings = folder / "settings"
    settings.touch()
    port = free_ports()
    machine = Machine(
        folder,
        "",
        LASTMILE_PUBLIC_URL=f"https://{nginx.NAME}:{port}",
        LASTMILE_PROXY_COUNT="1",
        LASTMILE_SETTINGS=str(settings),
    )
    try:
        node = f"127.0.0.1:{machine.port}"
        with nginx.running(folder / "nginx", [node], (port, port + 1), **SECONDS) as proxy:
            yield Street(machine, proxy, settings)
    finally:
        machine.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They are marked by their folder."""
    for item in items:
        if item.nodeid.startswith("tests/real/"):
            item.add_marker(pytest.mark.real)
