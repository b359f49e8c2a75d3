"""Labels as they were shown, the identifiers that are not used again, and plans that are withdrawn
by the file or by staff."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from blueprints.dashboard.plans import kept_labels
from blueprints.staff import catalog
from blueprints.staff.errors import CatalogInvalid
from blueprints.staff.prices import telling
from core import isp
from core.db import db
from tests.conftest import Portal
from tests.dashboard.plans.shop import Shop, at

IDENTIFIER = re.compile(r"[FM][0-9]{10}[A-Z0-9]{15}")
HEAD = """[isp]
name = "Pinecrest Broadband"
currency = "USD"
timezone = "America/Los_Angeles"
languages = ["en", "es", "fr"]
frn = "0031234567"
"""
PLAN = """[[plans]]
code = "CODE"
kind = "internet"
name = "Plan CODE"
price_minor = 4900
down_kbps = 100000
up_kbps = 100000
plan_id_suffix = "SUFFIX"
"""
A, B = "PLAN0000000000A", "PLAN0000000000B"


def plan(code: str, suffix: str) -> str:
    return PLAN.replace("CODE", code).replace("SUFFIX", suffix)


def load(portal: Portal, folder: Path, *plans: str) -> catalog.CatalogSummary:
    path = folder / "catalog.toml"
    path.write_text(HEAD + "".join(plans))
    with portal.app.app_context():
        isp.forget()
        return catalog.load(path)


def labels_of(portal: Portal) -> list[dict[str, str]]:
    text = portal.visitor().get("/broadband-facts/csv").text.removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(text)))


def kept(portal: Portal) -> list[tuple[str, str, str | None]]:
    return [
        (unique_id, str(from_on), None if until_on is None else str(until_on))
        for unique_id, from_on, until_on in portal.rows(
            "SELECT unique_id, from_on, until_on FROM plan_labels ORDER BY id"
        )
    ]


def test_withdrawn_plans_label_stays_as_it_was_for_two_years(
    portal: Portal, tmp_path: Path
) -> None:
    load(portal, tmp_path, plan("ONE", A), plan("TWO", B))
    assert [each["offered_until"] for each in labels_of(portal)] == ["", ""]
    with at(2026, 6, 25):
        load(portal, tmp_path, plan("ONE", A))
        portal.execute("UPDATE plans SET price_minor = 1 WHERE code = 'TWO'")
        page = portal.visitor().get("/broadband-facts")
        [section] = page.select("#withdrawn")
        shown = section.text_content()
        assert "Plan TWO" in shown
        assert "$49.00" in shown
        assert "Offered until Jun 25, 2026" in shown
    with at(2028, 6, 25):
        last = labels_of(portal)[-1]
        assert (last["plan"], last["monthly_price"], last["offered_until"]) == (
            "Plan TWO", "49.00", "2026-06-25",
        )  # fmt: skip
    with at(2028, 6, 26):
        assert {each["plan"] for each in labels_of(portal)} == {"Plan ONE"}
        assert not portal.visitor().get("/broadband-facts").select("#withdrawn")
    assert len(kept(portal)) == 2


def test_every_identifier_has_the_form_that_the_rule_gives(portal: Portal, tmp_path: Path) -> None:
    load(portal, tmp_path, plan("ONE", A), plan("TWO", B))
    load(portal, tmp_path, plan("ONE", A))
    found = [each["unique_plan_id"] for each in labels_of(portal)]
    assert len(found) == len(set(found)) == 2
    assert all(IDENTIFIER.fullmatch(each) for each in found)
    assert all(IDENTIFIER.fullmatch(unique_id) for unique_id, *_days in kept(portal))


def test_each_text_of_a_label_is_kept_with_its_days(portal: Portal, tmp_path: Path) -> None:
    load(portal, tmp_path, plan("ONE", A))
    load(portal, tmp_path, plan("ONE", A))
    with at(2026, 6, 25):
        faster = plan("ONE", A).replace("down_kbps = 100000", "down_kbps = 200000")
        load(portal, tmp_path, faster)
    unique_id = f"F0031234567{A}"
    assert kept(portal) == [
        (unique_id, "2026-06-20", "2026-06-25"),
        (unique_id, "2026-06-25", None),
    ]


def test_price_that_begins_makes_another_text(shop: Shop) -> None:
    portal = shop.portal
    with portal.app.app_context():
        isp.forget()
        assert kept_labels.Keeping()() == 2
        watch = kept_labels.Keeping()
        assert watch() == 0
        db.session.remove()
    ben = portal.visitor("ben")
    page = "/staff/prices/FIBER-100"
    ben.submit(ben.get(page), page, price="59.00", from_on="2026-06-21", existing="keep")
    with at(2026, 6, 21), portal.app.app_context():
        isp.forget()
        assert telling.go_on_due() == 1
        assert watch() == 0
        db.session.remove()
    assert [days[1:] for days in kept(portal)][-2:] == [
        ("2026-06-20", "2026-06-21"),
        ("2026-06-21", None),
    ]


@pytest.mark.parametrize("between", [True, False])
def test_suffix_that_was_ever_another_plans_is_refused(
    portal: Portal, tmp_path: Path, between: bool
) -> None:
    load(portal, tmp_path, plan("ONE", A))
    if between:
        load(portal, tmp_path, plan("ONE", B))
    with pytest.raises(CatalogInvalid, match="was used for ONE; a suffix is never used again"):
        load(portal, tmp_path, plan("ONE", B), plan("TWO", A))
    load(portal, tmp_path, plan("ONE", A))


def test_staff_withdraw_a_plan_and_the_file_does_not_bring_it_back(
    portal: Portal, tmp_path: Path
) -> None:
    load(portal, tmp_path, plan("ONE", A), plan("TWO", B))
    ben = portal.visitor("ben")
    page = "/staff/prices/TWO/offering"
    answer = ben.submit(ben.get(page), page)
    assert answer.status == 303
    assert "It is no longer offered" in ben.get(answer.location).text
    assert [each["offered_until"] for each in labels_of(portal)] == ["", "2026-06-20"]
    summary = load(portal, tmp_path, plan("ONE", A), plan("TWO", B))
    assert any("plan TWO was withdrawn on the page Prices" in note for note in summary.notes)
    assert summary.changed == 0
    assert not portal.one("SELECT is_offered FROM plans WHERE code = 'TWO'")
    again = ben.submit(ben.get(page), page)
    assert "It is offered again." in ben.get(again.location).text
    assert portal.one("SELECT is_offered FROM plans WHERE code = 'TWO'")
    assert [each["offered_until"] for each in labels_of(portal)] == ["", ""]


def test_plan_that_the_file_leaves_out_is_not_offered_again_by_the_page(
    portal: Portal, tmp_path: Path
) -> None:
    load(portal, tmp_path, plan("ONE", A), plan("TWO", B))
    ben = portal.visitor("ben")
    path = "/staff/prices/VOICE-HOME/offering"
    page = ben.get(path)
    assert "put it there to offer it again" in page.text
    assert not page.select("form[action*='offering']")
