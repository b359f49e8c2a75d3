"""Structured logs: one JSON object a line on standard error, UTC, without control characters."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(*, is_quiet: bool = False) -> None:
    """Send every record of the standard library's logging through structlog's JSON renderer, which
    escapes line breaks and control characters, so that no value can forge a line."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lastmile").setLevel(logging.WARNING if is_quiet else logging.INFO)
