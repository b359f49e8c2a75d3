"""The page of staff about unpaid bills: what comes, leaving an account alone, its group."""

from __future__ import annotations

from datetime import date

import pytest

from blueprints.billing.dunning.steps import StepKind
from tests.billing.dunning.conftest import Dunning
from tests.conftest import Portal

PATH = "/staff/accounts/aliceaccount00/unpaid"


@pytest.fixture
def dunning(ctx: Portal) -> Dunning:
    return Dunning(ctx)


def test_staff_see_what_was_done_and_what_comes(dunning: Dunning) -> None:
    dunning.run()
    ben = dunning.portal.visitor("ben")
    account = ben.get("/staff/accounts/aliceaccount00")
    [link] = [each for each in account.select("a") if each.get("href") == PATH]
    page = ben.get(link.get("href"))
    assert "Overdue$211.12" in page.text
    assert "Line heldJun 29, 2026" in page.text
    assert "Reminder 2026-000005 Jun 20, 2026" in page.text


def test_account_that_is_left_alone_is_released_and_not_dunned(dunning: Dunning) -> None:
    dunning.run(date(2026, 6, 20))
    dunning.run(date(2026, 6, 29))
    with dunning.on(date(2026, 6, 30)):
        ben = dunning.portal.visitor("ben")
        sent = ben.submit(ben.get(PATH), "/unpaid", until="2026-07-10", reason="promised to pay")
        assert sent.location == f"{PATH}?done=rested"
        page = ben.get(sent.location)
        assert "The account is left alone until the day below." in page.text
        assert "Until Jul 10, 2026 Counts nowpromised to pay Ben" in page.text
        home = dunning.portal.visitor("alice").get(dunning.portal.path())
        assert "We agreed to wait until Jul 10, 2026." in home.text
        assert "If nothing is paid, your line will be held on Jul 13, 2026." in home.text
    assert dunning.line() == "open"
    assert not dunning.run(date(2026, 7, 10))[StepKind.HOLD]
    assert dunning.run(date(2026, 7, 13))[StepKind.HOLD] == 1
    assert dunning.steps()[-1] == ("hold:2", "2026-05")


def test_rest_can_be_ended_before_its_day(dunning: Dunning) -> None:
    dunning.run(date(2026, 6, 20))
    with dunning.on(date(2026, 6, 30)):
        ben = dunning.portal.visitor("ben")
        ben.submit(ben.get(PATH), "/unpaid", until="2026-07-10", reason="promised to pay")
        ended = ben.submit(ben.get(PATH), "/end")
        assert ended.location == f"{PATH}?done=ended"
        assert "Over" in ben.get(ended.location).text
        assert dunning.run()[StepKind.HOLD] == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"until": "", "reason": "promised"}, "Choose a day."),
        ({"until": "10 July", "reason": "promised"}, "Enter a day like 2026-03-31."),
        ({"until": "2026-06-19", "reason": "promised"}, "Choose a day from today on, 90 days"),
        ({"until": "2026-09-19", "reason": "promised"}, "Choose a day from today on, 90 days"),
        ({"until": "2026-07-10", "reason": "  "}, "Say why, in a few words."),
        ({"until": "9999-99-99", "reason": "promised"}, "Enter a day like 2026-03-31."),
    ],
)
def test_what_cannot_be_is_said_at_its_field(
    dunning: Dunning, values: dict[str, str], words: str
) -> None:
    ben = dunning.portal.visitor("ben")
    page = ben.submit(ben.get(PATH), "/unpaid", **values)
    assert page.status == 422
    assert words in page.text
    assert dunning.portal.one("SELECT count(*) FROM dunning_rests") == 0


def test_group_is_chosen_where_there_are_groups(dunning: Dunning) -> None:
    ben = dunning.portal.visitor("ben")
    assert "Usual" not in ben.get(PATH).text
    dunning.portal.execute("INSERT INTO customer_groups (code, name) VALUES ('shops', 'Shops')")
    sent = ben.submit(ben.get(PATH), "/group", group="shops")
    assert sent.location == f"{PATH}?done=grouped"
    group = "SELECT group_code FROM accounts WHERE number = '1001'"
    assert dunning.portal.one(group) == "shops"
    refused = ben.submit(ben.get(PATH), "/group", group="nothing")
    assert refused.status == 422
    assert "Choose one of the groups." in refused.text
    ben.submit(ben.get(PATH), "/group", group="")
    assert dunning.portal.one(group) is None


def test_rest_of_another_account_cannot_be_ended_here(dunning: Dunning) -> None:
    ben = dunning.portal.visitor("ben")
    ben.submit(ben.get(PATH), "/unpaid", until="2026-07-10", reason="promised to pay")
    rest = dunning.portal.one("SELECT public_id FROM dunning_rests")
    page = ben.get(PATH)
    _action, values = page.form("/end")
    other = f"/staff/accounts/malloryaccount00/unpaid/{rest}/end"
    assert ben.post(other, values).status == 404
