"""What is measured is the server that was started for it."""

from __future__ import annotations

import socket

import pytest

from bench import serving


def test_port_at_which_another_server_answers_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(serving.PortTaken, match=f"another server listens on port {port}"),
            serving.running_portal({}, port),
        ):
            pass
