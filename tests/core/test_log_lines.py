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


CARDS = ("4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "6011000990139424")


@pytest.mark.parametrize("card", CARDS)
def test_no_line_holds_a_card_number(card: str) -> None:
    """In the message, in a value, deep in one, as a number, in a trace, as an address (bar 61)."""
    lines = written(f"Declined: {card}", f"y{card}")
    digits = card.replace(" ", "").replace("-", "")
    with contextlib.redirect_stderr(io.StringIO()) as more:
        log.configure()
        values = {"deep": [{"of": (card,), card: 1}], "number": int(digits), "other": {card}}
        logging.getLogger("lastmile.test").warning("refused", extra=values)
        logging.getLogger("other").error("%s and %s", card, digits)
    lines += more.getvalue() + log.request_line("GET", "a", 200, 0.1, 1, card, "r")
    assert card not in lines
    assert digits not in lines
    assert card[-4:] in lines
    for line in lines.splitlines():
        json.loads(line)


def test_what_is_no_card_number_stays() -> None:
    facts = {
        "invoice": "2026-000123",
        "phone": "+1 541 555 0100",
        "bytes": 123_456_789_012,
        "seconds": 0.4111111111111111,
        "is_late": True,
        "nothing": None,
        "days": [1, 2.5],
    }
    with contextlib.redirect_stderr(io.StringIO()) as lines:
        log.configure()
        logging.getLogger("lastmile.test").warning("told", extra=facts)
    assert json.loads(lines.getvalue()).items() >= facts.items()
