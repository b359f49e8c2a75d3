"""One event is one line of the log, whatever its values hold (bar 77)."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core import log

FORGED = (
    'x\n{"event": "signed in"}',
    "x\r\n\r\n",
    "\x1b[2K\x1b[1A\x1b]0;title\x07",
    "\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e",
    "\x9b31m",
    "\u202e\u2066",
    "\0",
    "\ud800",
)
TEXTS = st.sampled_from(FORGED) | st.text(max_size=80)


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger as it was."""
    logger, levels = logging.getLogger(), logging.getLogger("lastmile").level
    kept, level = logger.handlers, logger.level
    yield
    logger.handlers, logger.level = kept, level
    logging.getLogger("lastmile").setLevel(levels)


def written(text: str, name: str) -> str:
    """What the log holds after an event with `text` everywhere that a value can stand."""
    with contextlib.redirect_stderr(io.StringIO()) as lines:
        log.configure()
        logger = logging.getLogger("lastmile.test")
        logger.info(text)
        logger.info("sign-in refused: %s", text, extra={"address": text, "reason": text})
        with contextlib.suppress(TypeError):
            logger.info("named", extra={f"x{name}": text})
        try:
            int(f"x{text}")
        except ValueError:
            logger.exception("failed")
        assert sys.stderr is lines
    return lines.getvalue()


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, name=TEXTS)
@example(text=FORGED[0], name=FORGED[2])
def test_no_value_forges_a_line_or_reaches_the_terminal(text: str, name: str) -> None:
    lines = written(text, name)
    assert lines.endswith("\n")
    assert lines.count("\n") == len(lines.splitlines()) == 4
    # Nothing a terminal or a reader of lines obeys: plain ASCII between the line ends.
    assert all(" " <= sign <= "~" for sign in lines.replace("\n", ""))
    events = [json.loads(line) for line in lines.splitlines()]
    assert events[0]["event"] == text
    assert events[1]["address"] == text
    assert "ValueError" in events[3]["exception"]
    assert all(event["timestamp"].endswith("Z") for event in events)
