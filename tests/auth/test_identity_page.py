"""The table of limits in docs/identity.md says what the code does."""

from __future__ import annotations

import re
from datetime import timedelta

from sqlalchemy import ColumnDefault

from blueprints.auth import (
    choosing,
    disabling,
    losing_factors,
    message_factors,
    passkeys,
    proving,
    recovering,
    recovery_codes,
    registering,
    second_step,
    service,
    totp,
)
from blueprints.dashboard.people import service as sharing
from blueprints.dashboard.settings import exporting
from blueprints.staff import callers, members, viewing
from core import codes, form_keys, passwords, sessions, throttle
from core.settings import ROOT
from core.throttle import Windows
from models import Channel, Isp

PAGE = ROOT / "docs" / "identity.md"


def span(length: timedelta) -> str:
    """A length of time as the page writes it: `5 min`, `14 days`."""
    for unit, name in ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(int(length.total_seconds()), unit)
        if count and not rest:
            if name == "day" and count == 1:
                return "24 h"
            return f"{count} {name}{'s' if name == 'day' else ''}"
    raise ValueError(length)


def limit(windows: Windows) -> str:
    return ", ".join(f"{most} in {span(window)}" for window, most in windows)


def rest_of_contacts() -> str:
    """What holds where the catalog says nothing else."""
    days = Isp.__table__.columns["contact_rest_days"].default
    assert isinstance(days, ColumnDefault)
    return f"{days.arg} days, or `contact_rest_days` of the catalog"


def rows() -> list[tuple[str, str]]:
    network = f"{throttle.SUBJECTS_PER_NETWORK} people in {span(throttle.WINDOW)}"
    shared = f"{throttle.SUBJECTS_PER_SHARED_NETWORK} in networks that many share"
    [pending] = {totp.PENDING, message_factors.PENDING, recovery_codes.PENDING}
    return [
        ("password: length", f"{passwords.MIN_LENGTH} to {passwords.MAX_LENGTH} characters"),
        ("password: strength", f"zxcvbn score {passwords.MIN_SCORE} or better"),
        ("wrong passwords, per person", f"{throttle.PER_SUBJECT} in {span(throttle.WINDOW)}"),
        (
            "wait after a wrong password",
            f"{span(throttle.FIRST_DELAY)}, doubling to {span(throttle.LAST_DELAY)}",
        ),
        ("wrong passwords in a row until it is switched off", str(disabling.MOST_IN_A_ROW)),
        ("people tried from one address", f"{network}; {shared}"),
        ("wrong codes and second steps, per person", limit(throttle.CODES)),
        ("ways in begun, per account or what was typed", limit(throttle.STARTS)),
        ("codes and links sent, per person", limit(throttle.SENDINGS)),
        ("passwords reset, per person", limit(throttle.RESETS)),
        ("asking whether an ID is free, per flow or link", limit(choosing.QUESTIONS)),
        (
            "code by e-mail",
            f"{codes.DIGITS[Channel.EMAIL]} digits, {span(codes.VALID[Channel.EMAIL])}",
        ),
        ("code by text", f"{codes.DIGITS[Channel.TEXT]} digits, {span(codes.VALID[Channel.TEXT])}"),
        ("code by post", f"{codes.DIGITS[Channel.POST]} digits, {span(codes.VALID[Channel.POST])}"),
        ("letters to one account while their codes count", str(registering.LETTERS)),
        ("code of the second step", span(second_step.CODE_VALID)),
        ("link to choose a new password", span(recovering.LINK_VALID)),
        ("code for a caller", span(callers.VALID)),
        ("welcome link; link of a new member of staff",
         f"{span(service.WELCOME_VALID)}; {span(members.LINK_VALID)}"),
        ("link of an invitation", span(sharing.VALID)),
        ("new contact until codes go to it; replaced one that still hears", rest_of_contacts()),
        ("way in, by post", f"{span(proving.LASTS)}, {span(proving.LASTS_BY_POST)}"),
        ("half-finished sign-in", span(service.HALF_LASTS)),
        ("the same second step once more, its answer lost", span(second_step.REPEATED)),
        ("device that is not asked for the second step", span(service.TRUST_LASTS)),
        ("time steps of an app that count", f"{totp.WINDOW} before and after, each once"),
        (
            "recovery codes",
            f"{recovery_codes.COUNT} of {5 * recovery_codes.CHARACTERS} bits, each once",
        ),
        ("app, contact or recovery codes that wait to be confirmed", span(pending)),
        ("challenge of a passkey", span(passkeys.CHALLENGE_VALID)),
        ("proving that every factor is lost", span(losing_factors.LASTS)),
        ("session: unused, at most", f"{span(sessions.IDLE)}, {span(sessions.ABSOLUTE)}"),
        (
            "session on an own device",
            f"{span(sessions.IDLE_OWN_DEVICE)}, {span(sessions.ABSOLUTE_OWN_DEVICE)}",
        ),
        ("session of staff", f"{span(sessions.IDLE_STAFF)}, {span(sessions.ABSOLUTE_STAFF)}"),
        ("seeing the portal as a customer does", span(viewing.LASTS)),
        ("password counts as just given", span(sessions.RECENT)),
        ("fetching one's own data once it was asked for", span(exporting.FETCHED_WITHIN)),
        ("form that waits for a new sign-in", span(sessions.FORM_KEPT)),
        ("one-time key of a form", span(form_keys.VALID)),
    ]  # fmt: skip


def table() -> str:
    lines = [f"| {what} | {value} |" for what, value in rows()]
    return "\n".join(("| what | limit |", "|---|---|", *lines))


def test_limits_on_the_page_are_those_of_the_code() -> None:
    found = re.search(
        r"<!-- limits: begin -->\n(.*?)\n<!-- limits: end -->", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert found is not None
    assert found.group(1) == table()
