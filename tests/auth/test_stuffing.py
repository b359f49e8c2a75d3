"""Somebody tries ten thousand pairs of ID and password, found elsewhere, from 500 addresses."""

from __future__ import annotations

from collections import Counter

import pytest

from blueprints.auth import asking, service
from blueprints.auth.errors import SignInRefused
from blueprints.auth.service import Browser
from core import passwords
from core.throttle import SUBJECTS_PER_NETWORK, TooManyAttempts
from tests import repeats
from tests.conftest import Portal
from tests.world import PASSWORD

ADDRESSES = repeats.sized(60, 500, 500)
PAIRS_EACH = 20


@pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
def test_ten_thousand_pairs_from_500_addresses(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = portal.visitor("alice")
    checked: list[str] = []

    def verify(_folder: object, password_hash: str | None, password: str, **_more: object) -> bool:
        checked.append(password)
        return password_hash is not None and password == PASSWORD

    monkeypatch.setattr(passwords, "verify", verify)
    answers: Counter[str] = Counter()
    with portal.app.test_request_context():
        rules = asking.rules()
    with portal.app.app_context():
        for number in range(ADDRESSES * PAIRS_EACH):
            address = f"198.51.{number // PAIRS_EACH // 250}.{number // PAIRS_EACH % 250}"
            # The right pair of mallory comes late from its address, when that has tried enough.
            is_right = number == 100 * PAIRS_EACH + PAIRS_EACH - 1
            typed = "mallory" if is_right else f"somebody-{number}"
            try:
                service.sign_in(
                    typed,
                    PASSWORD if is_right else f"wrong-{number}",
                    is_own_device=False,
                    browser=Browser(address, "", None, None),
                    rules=rules,
                )
            except (SignInRefused, TooManyAttempts) as refusal:
                answers[type(refusal).__name__] += 1
    most = ADDRESSES * SUBJECTS_PER_NETWORK
    assert answers == {"SignInRefused": most, "TooManyAttempts": ADDRESSES * PAIRS_EACH - most}
    assert len(checked) == most
    assert PASSWORD not in checked
    owner.client.delete_cookie("session")
    assert owner.sign_in("alice").status == 303
