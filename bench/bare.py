"""The reference: a plain Flask application without extensions that answers 4,096 constant bytes."""

from __future__ import annotations

import sys

from flask import Flask

BODY = b"x" * 4096

app = Flask("bare")


@app.get("/")
def bare() -> bytes:
    """Constant bytes, so that what is measured is Flask and the server."""
    return BODY


if __name__ == "__main__":
    from core import supervisor, web_server

    web_server.run(
        "bench.bare:app",
        factory=False,
        sockets=supervisor.listen("127.0.0.1", int(sys.argv[1]), int(sys.argv[2])),
    )
