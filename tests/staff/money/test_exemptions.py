"""Staff's pages about taxes that an account does not pay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from core import clock
from tests import world
from tests.conftest import Portal
from tests.page import Page, Visitor
from tests.staff.money.test_desk import path


def kept(portal: Portal) -> list[tuple[str, str, str | None, str]]:
    rows = portal.rows("SELECT tax_code, from_on, to_on, reason FROM tax_exemptions")
    return [(code, str(since), until and str(until), why) for code, since, until, why in rows]


def grant(visitor: Visitor, portal: Portal, **values: str) -> Page:
    page = visitor.get(path(portal, "exemptions"))
    typed = {"tax": "STATE", "from_on": "2026-06-01", "reason": "C-77"} | values
    return visitor.submit(page, "/exemptions", **typed)


def end(visitor: Visitor, portal: Portal, last_on: str) -> Page:
    at = path(portal, "exemptions/STATE")
    return visitor.submit(visitor.get(at), "/STATE", last_on=last_on)


def test_exemption_is_granted_and_the_next_bill_is_without_the_tax(portal: Portal) -> None:
    ben = portal.visitor("ben")
    assert "This account pays every tax." in ben.get(path(portal, "exemptions")).text
    out = grant(ben, portal, reason="C-77, card 4111 1111 1111 1111")
    page = ben.get(out.location)
    for words in ("The exemption is kept", "State communications tax", "C-77", "•••• 1111"):
        assert words in page.text
    assert "Counts now" in page.text
    with portal.app.app_context(), clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)):
        world.issue_month(portal.world, ("alice",), date(2026, 7, 1))
    ledgers = portal.rows(
        "SELECT l.ledger FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id"
        " WHERE i.account_id = :id AND i.issued_on = '2026-07-01' AND l.kind = 'tax'",
        id=portal.world.accounts["alice"],
    )
    assert ledgers == [("tax:E911",)]


def test_decision_is_kept_with_who_made_it_and_read_by_the_customer(portal: Portal) -> None:
    alice = portal.visitor("alice", own_device="y")
    before = alice.get(portal.path()).response.headers["ETag"]
    ben, ada = portal.visitor("ben"), portal.visitor("ada")
    grant(ben, portal)
    out = end(ada, portal, "2026-06-20")
    listed = ada.get(out.location).text
    for words in ("The exemption ends", "Exempted", "Ended", "Ben", "Ada"):
        assert words in listed
    home = alice.get(portal.path())
    assert home.response.headers["ETag"] != before
    activity = alice.get("/activity").text
    assert "You do not pay a tax that others pay" in activity
    assert "You pay a tax that you were exempt from" in activity
    assert "C-77" not in activity


def test_same_tax_again_changes_days_and_reason(portal: Portal) -> None:
    ben = portal.visitor("ben")
    grant(ben, portal)
    grant(ben, portal, to_on="2026-12-31", reason="C-78")
    assert kept(portal) == [("STATE", "2026-06-01", "2026-12-31", "C-78")]
    grant(ben, portal, tax="E911", from_on="2027-01-01", reason="C-79")
    assert "To come" in ben.get(path(portal, "exemptions")).text


def test_form_sent_twice_counts_once(portal: Portal) -> None:
    ben = portal.visitor("ben")
    page = ben.get(path(portal, "exemptions"))
    typed = {"tax": "STATE", "from_on": "2026-06-01", "reason": "C-77"}
    answers = {ben.submit(page, "/exemptions", **typed).location for _ in range(2)}
    assert len(answers) == 1
    page = ben.get(path(portal, "exemptions/STATE"))
    assert {ben.submit(page, "/STATE", last_on="2026-05-31").status for _ in range(2)} == {303}
    assert kept(portal) == []
    assert portal.one("SELECT count(*) FROM activity WHERE kind LIKE 'tax_exempt%'") == 2
    assert ben.get(path(portal, "exemptions/STATE")).status == 404


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"reason": ""}, "Give the number of the certificate"),
        ({"reason": "x" * 201}, "Give the number of the certificate"),
        ({"from_on": ""}, "Choose a day."),
        ({"from_on": "soon"}, "Enter the day like 2026-03-31"),
        ({"to_on": "2026-05-31"}, "The last day is before the first one."),
        ({"tax": "VAT"}, "valid choice"),
    ],
)
def test_what_cannot_be_is_answered_and_nothing_is_kept(
    portal: Portal, typed: dict[str, str], words: str
) -> None:
    page = grant(portal.visitor("ben"), portal, **typed)
    assert page.status == 422
    assert words in page.text
    assert kept(portal) == []


def test_what_has_ended_by_then_is_not_ended_again(portal: Portal) -> None:
    ben = portal.visitor("ben")
    grant(ben, portal, to_on="2026-07-31")
    page = end(ben, portal, "2026-08-31")
    assert page.status == 422
    assert "By that day the account pays this tax already." in page.text
    assert end(ben, portal, "").status == 422
    assert kept(portal)[0][2] == "2026-07-31"


def test_one_that_is_over_is_shown_as_such(portal: Portal) -> None:
    ben = portal.visitor("ben")
    grant(ben, portal, to_on="2026-06-10")
    page = ben.get(path(portal, "exemptions/STATE"))
    assert "Over" in page.text
    assert not page.select("main form")


def test_only_whoever_gave_the_password_lately_decides(
    portal: Portal, tick: Callable[..., None]
) -> None:
    ben = portal.visitor("ben")
    grant(ben, portal)
    pages = {
        "/exemptions": ben.get(path(portal, "exemptions")),
        "/STATE": ben.get(path(portal, "exemptions/STATE")),
    }
    tick(minutes=11)
    for action, page in pages.items():
        typed = {"tax": "E911", "reason": "C-80"} if action == "/exemptions" else {}
        assert ben.submit(page, action, **typed).location.startswith("/confirm?")
    assert kept(portal) == [("STATE", "2026-06-01", None, "C-77")]


def test_what_was_typed_waits_for_the_password(portal: Portal, tick: Callable[..., None]) -> None:
    ben = portal.visitor("ben")
    page = ben.get(path(portal, "exemptions"))
    tick(minutes=11)
    typed = {"tax": "STATE", "from_on": "2026-06-01", "to_on": "2026-12-31", "reason": "C-77"}
    assert ben.submit(page, "/exemptions", **typed).location.startswith("/confirm?")
    shown = ben.get(path(portal, "exemptions")).form("/exemptions")[1]
    assert {name: shown[name] for name in typed} == typed


@pytest.mark.parametrize(("name", "status"), [("sue", 403), ("tess", 403), ("alice", 404)])
def test_only_who_handles_money_sees_it(portal: Portal, name: str, status: int) -> None:
    grant(portal.visitor("ben"), portal)
    visitor = portal.visitor(name)
    for rest in ("exemptions", "exemptions/STATE"):
        assert visitor.get(path(portal, rest)).status == status
        theirs = portal.visitor("ben").get(path(portal, rest, "mallory"))
        assert "C-77" not in theirs.text


def test_both_account_pages_lead_there(portal: Portal) -> None:
    ben = portal.visitor("ben")
    for rest in ("money", ""):
        page = ben.get(path(portal, rest).rstrip("/"))
        assert page.select(f"a[href='{path(portal, 'exemptions')}']")


def test_without_taxes_in_the_catalog_there_is_nothing_to_choose(portal: Portal) -> None:
    portal.execute("DELETE FROM taxes")
    page = portal.visitor("ben").get(path(portal, "exemptions"))
    assert "The catalog has no taxes" in page.text
    assert not page.select("main form")
