"""Loading the catalog."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from blueprints.billing.dunning.reading import read_frame
from blueprints.staff import catalog
from blueprints.staff.catalog import contrast
from blueprints.staff.errors import CatalogInvalid
from core import isp
from core.bank_account import BankAccount
from core.db import db
from core.dunning_policy import DunningRules, Reminder
from core.pause_rules import PauseRules
from core.settings import ROOT
from models import Channel
from tests.conftest import Portal
from tests.staff.conftest import DATA, Desk, row

Edit = Callable[..., Path]


def test_the_catalog_is_stored_as_it_stands(ctx: Portal) -> None:
    ctx.execute("UPDATE isp SET revision = 7")
    summary = catalog.load(DATA / "catalog.toml")
    # The world has the ISP, an area, three plans and two taxes already.
    assert summary.added == 4 + 9
    assert summary.revision == 8
    assert ctx.rows(
        "SELECT code, kind, price_minor, intro_price_minor, intro_months, down_kbps, changes_to"
        " FROM plans WHERE code IN ('FIBER-300', 'TV-KIDS') ORDER BY code"
    ) == [
        ("FIBER-300", "internet", 6500, 4900, 6, 300000, _json(ctx, ["FIBER-100", "FIBER-1000"])),
        ("TV-KIDS", "tv", 700, None, None, None, _json(ctx, [])),
    ]
    assert ctx.rows("SELECT rate_bp, flat_minor FROM taxes ORDER BY code") == [
        (None, 125),
        (625, None),
    ]
    assert ctx.one("SELECT frn FROM isp") == "0031234567"


def _json(ctx: Portal, value: list[str]) -> object:
    return json.dumps(value) if ctx.settings.is_sqlite else value


def test_loading_again_changes_nothing(desk: Desk) -> None:
    revision = desk.portal.one("SELECT revision FROM isp")
    summary = catalog.load(DATA / "catalog.toml")
    assert (summary.added, summary.changed, summary.unchanged) == (0, 0, 20)
    assert desk.portal.one("SELECT revision FROM isp") == revision


def test_an_empty_database_gets_its_isp(ctx: Portal, edited: Edit) -> None:
    ctx.execute("DELETE FROM isp")
    catalog.load(DATA / "catalog.toml")
    assert ctx.rows("SELECT name, id_name, revision FROM isp") == [
        ("Pinecrest Broadband", "Pinecrest ID", 1)
    ]
    ctx.execute("DELETE FROM isp")
    catalog.load(edited(('currency = "USD"', 'currency = "USD"\nid_name = "Pine key"')))
    assert ctx.one("SELECT id_name FROM isp") == "Pine key"


def test_a_plan_that_left_the_file_is_no_longer_offered_and_can_come_back(
    desk: Desk, edited: Edit
) -> None:
    desk.take(row(add_on_codes="ROUTER-RENT"))
    without = edited(('[[plans]]\ncode = "ROUTER-RENT"', '[[plans]]\ncode = "ROUTER-SALE"'))
    summary = catalog.load(without)
    assert summary.withdrawn == ("ROUTER-RENT",)
    assert not desk.portal.one("SELECT is_offered FROM plans WHERE code = 'ROUTER-RENT'")
    assert catalog.load(without).withdrawn == ()
    assert catalog.load(DATA / "catalog.toml").withdrawn == ("ROUTER-SALE",)
    assert desk.portal.one("SELECT is_offered FROM plans WHERE code = 'ROUTER-RENT'")


def test_what_a_plan_leaves_out_is_not_left_as_it_was(desk: Desk, edited: Edit) -> None:
    summary = catalog.load(edited(("intro_price_minor = 4900\nintro_months = 6\n", "")))
    assert summary.changed == 1
    assert desk.portal.rows("SELECT intro_months FROM plans WHERE code = 'FIBER-300'") == [(None,)]


def test_what_isp_leaves_out_stays_as_it_was(desk: Desk, edited: Edit) -> None:
    desk.portal.execute("UPDATE isp SET pay_how = 'At the counter.', id_name = 'Pine key'")
    summary = catalog.load(edited(("terms_days = 14", "terms_days = 21")))
    assert summary.changed == 1
    assert desk.portal.rows("SELECT pay_how, id_name, terms_days FROM isp") == [
        ("At the counter.", "Pine key", 21)
    ]


def test_what_getting_in_asks_for_is_set_by_the_file(desk: Desk, edited: Edit) -> None:
    rules = "requires_second_factor = true\nrequires_mixed_password = true\ncontact_rest_days = 7"
    summary = catalog.load(edited(("terms_days = 14", rules)))
    assert summary.changed == 1
    [found] = desk.portal.rows(
        "SELECT requires_second_factor, requires_mixed_password, contact_rest_days FROM isp"
    )
    assert found == (True, True, 7)
    catalog.load(edited(("terms_days = 14", "requires_second_factor = false")))
    assert not desk.portal.one("SELECT requires_second_factor FROM isp")


def test_postal_address_is_set_by_the_file(desk: Desk, edited: Edit) -> None:
    assert desk.portal.one("SELECT postal_address FROM isp") == ""
    catalog.load(edited(("terms_days = 14", 'postal_address = "5 Elm St, Pinecrest"')))
    assert desk.portal.one("SELECT postal_address FROM isp") == "5 Elm St, Pinecrest"


def test_bank_account_is_set_and_taken_away_by_the_file(desk: Desk, edited: Edit) -> None:
    iban = 'bank_account = { holder = "Pine", iban = "de89 3704 0044 0532 0130 00" }'
    catalog.load(edited(("terms_days = 14", iban)))
    isp.forget()
    assert isp.current_isp().bank == BankAccount("Pine", iban="DE89370400440532013000")
    assert catalog.load(DATA / "catalog.toml").changed == 0
    isp.forget()
    assert isp.current_isp().bank is not None
    catalog.load(edited(("terms_days = 14", "bank_account = {}")))
    isp.forget()
    assert isp.current_isp().bank is None


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ('"DE89370400440532013000"', "bank_account: must be a table"),
        ('{ iban = "DE89370400440532013000" }', "bank_account.holder: is missing"),
        ('{ holder = "P" }', "bank_account: needs the account itself"),
        ('{ holder = "P\\nQ", account = "1" }', "bank_account.holder: must be a name on one line"),
        ('{ holder = "P", iban = "DE89370400440532013001" }', "bank_account.iban: .*check digits"),
        ('{ holder = "P", iban = 8937 }', "bank_account.iban: must be an IBAN"),
        ('{ holder = "P", account = "1", bic = "COBADEFF" }', "bank_account.iban: is missing"),
        (
            '{ holder = "P", iban = "DE89370400440532013000", bic = "COBA" }',
            "bank_account.bic: must be a BIC",
        ),
        (
            '{ holder = "P", iban = "DE89370400440532013000", routing = "123456780" }',
            "bank_account.account: is missing",
        ),
        (
            '{ holder = "P", account = "1", routing = "123456789" }',
            "bank_account.routing: must be nine",
        ),
        ('{ holder = "P", account = "1 €" }', "bank_account.account: must be digits"),
        ('{ holder = "P", account = "1", number = "2" }', "bank_account.number: is not known"),
    ],
)
def test_a_wrong_bank_account_is_one_line(named: str, message: str) -> None:
    text = (DATA / "catalog.toml").read_text()
    with pytest.raises(CatalogInvalid, match=rf"isp\.{message}") as caught:
        catalog.parse(text.replace("terms_days = 14", f"bank_account = {named}", 1))
    assert "\n" not in str(caught.value)


AIR = "data_included_bytes = 300_000_000_000\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (AIR, AIR + "over_rule = 'slow'\n", "slow_down_kbps: is missing"),
        (AIR, "", "data_included_bytes: is missing; overage_minor means nothing"),
        (AIR, AIR + "over_rule = 'more'\n", "must be one of charge, slow, stop"),
        (AIR, AIR + "top_up_bytes = 1\n", "top_up_minor: is missing"),
        (AIR, AIR + "slow_up_kbps = 1\n", "slow_down_kbps: is missing"),
    ],
)
def test_what_follows_beyond_an_allowance_must_make_sense(
    edited: Edit, old: str, new: str, message: str
) -> None:
    with pytest.raises(CatalogInvalid) as refusal:
        catalog.read_file(edited((old, new)))
    assert message in str(refusal.value)


def test_rules_beyond_an_allowance_are_stored(ctx: Portal, edited: Edit) -> None:
    more = "over_rule = 'slow'\nslow_down_kbps = 2000\nslow_up_kbps = 1000\n"
    more += "top_up_bytes = 5\ntop_up_minor = 8\ntop_up_days = 7\n"
    catalog.load(edited((AIR, AIR + more)))
    columns = "over_rule, slow_down_kbps, slow_up_kbps, top_up_bytes, top_up_minor, top_up_days"
    kept = ctx.rows(f"SELECT {columns} FROM plans WHERE code IN ('AIR-25', 'AIR-50') ORDER BY code")
    assert kept == [("slow", 2000, 1000, 5, 8, 7), ("", None, None, None, None, None)]


def test_a_tax_that_left_the_file_is_pointed_out(desk: Desk, edited: Edit) -> None:
    [note] = catalog.load(edited(('code = "E911"', 'code = "E912"'))).notes
    assert "E911" in note
    assert "to_on" in note


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[isp]", "[isp", "not valid TOML"),
        ("[isp]", "[company]", "company: is not known"),
        ('name = "Pinecrest Broadband"\n', "", "isp.name: is missing"),
        ('currency = "USD"', 'currency = "DOLLAR"', "isp.currency: must be a currency"),
        ('"America/Los_Angeles"', '"Mars/Olympus"', "isp.timezone: must be a time zone"),
        ('["en", "es", "fr"]', "[]", "isp.languages: must be a list"),
        ('["en", "es", "fr"]', '["en", "xx"]', r"isp.languages\[2\]: must be a language"),
        ("terms_days = 14", "terms_days = true", "isp.terms_days: must be a whole number"),
        ("terms_days = 14", "requires_second_factor = 1", "second_factor: must be true or false"),
        ("terms_days = 14", "contact_rest_days = -1", "isp.contact_rest_days: must be a whole"),
        ("terms_days = 14", 'accent = "#9fe8c8"', "isp.accent: .* choose a darker"),
        ("terms_days = 14", "logo_svg = '<svg onload=\"x\"></svg>'", "isp.logo_svg: .*onload"),
        ('frn = "0031234567"', 'frn = "31234567"', "isp.frn: must be ten digits"),
        ("terms_days = 14", 'postal_address = "5 Elm St\\nX"', "isp.postal_address: .* one line"),
        ('"help@pinecrest.example"', '"help at us"', "isp.support_email: must be an e-mail"),
        ('"+15415550100"', '"541 555"', "isp.support_phone: must be a phone number"),
        ('code = "ALDR"', 'code = "PINE"', "areas.PINE: this code stands in the file twice"),
        ("rate_bp = 625 ", "rate_bp = 6.25 ", "taxes.STATE.rate_bp: must be a whole number"),
        ("flat_minor = 125 ", "flat_minor = 125\nrate_bp = 1 ", "taxes.E911: give it either"),
        ("from_on = 2020-01-01", 'from_on = "2020-01-01"', "taxes.STATE.from_on: must be a day"),
        ('applies_to = ["phone"]', 'applies_to = ["fax"]', r"taxes.E911.applies_to\[1\]: must be"),
        ("price_minor = 3900", "price_minor = -1", "plans.AIR-25.price_minor: must be a whole"),
        ("price_minor = 3900", "prize_minor = 3900", "plans.AIR-25.prize_minor: is not known"),
        ('kind = "internet"', 'kind = "wifi"', "plans.AIR-25.kind: must be one of"),
        ("down_kbps = 25000\n", "", "plans.AIR-25.down_kbps: is missing"),
        ("intro_months = 6\n", "", "plans.FIBER-300.intro_months: is missing"),
        ('changes_to = ["AIR-50"]', 'changes_to = ["AIR-99"]', "plans.AIR-25.changes_to: there is"),
        ('changes_to = ["AIR-50"]', 'changes_to = ["TV-KIDS"]', "'TV-KIDS' is of another kind"),
        ('requires = ["TV-BASIC"]', 'requires = ["TV-FAMILY"]', "TV-FAMILY.requires: names the"),
        ('"AIR25000000000A"', '"AIR25"', "plans.AIR-25.plan_id_suffix: must be 15"),
        ('"AIR50000000000A"', '"AIR25000000000A"', "AIR-50.plan_id_suffix: AIR-25 has it"),
        ('code = "AIR-50"', 'code = "AIR-25"', "plans.AIR-25: this code stands in the file twice"),
        ('code = "AIR-50"', 'code = ""', r"plans\[2\].code: must be a code"),
        ('requires_kind = "internet"', "requires_kind = 1", "STATIC-IP.requires_kind: must be one"),
    ],
)
def test_a_wrong_catalog_is_one_line_that_names_the_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = (DATA / "catalog.toml").read_text()
    assert old in text
    with pytest.raises(CatalogInvalid, match=message) as caught:
        catalog.parse(text.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_nothing_is_written_when_anything_is_wrong(ctx: Portal, edited: Edit) -> None:
    before = ctx.rows("SELECT code, price_minor FROM plans")
    wrong = edited(("price_minor = 6500", "price_minor = 1"), ("price_minor = 1000", "x = 1"))
    with pytest.raises(CatalogInvalid, match=r"^catalog.toml: plans.STATIC-IP.x"):
        catalog.load(wrong)
    assert ctx.rows("SELECT code, price_minor FROM plans") == before


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ([('currency = "USD"', 'currency = "EUR"')], "isp.currency: it cannot change"),
        ([('kind = "option"', 'kind = "equipment"')], "STATIC-IP.kind: it was loaded as option"),
        (
            [
                ('code = "AIR-25"', 'code = "AIR-30"'),
                ('changes_to = ["AIR-25"]', 'changes_to = ["AIR-30"]'),
            ],
            "AIR-30.plan_id_suffix: it was used for AIR-25",
        ),
    ],
)
def test_what_contradicts_the_database_is_refused(
    desk: Desk, edited: Edit, replacements: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(CatalogInvalid, match=message):
        catalog.load(edited(*replacements))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 1_000_001])
def test_a_file_that_is_no_text_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalog.toml"
    path.write_bytes(content)
    with pytest.raises(CatalogInvalid, match=r"not UTF-8|megabyte"):
        catalog.read_file(path)
    with pytest.raises(CatalogInvalid, match="cannot be read"):
        catalog.read_file(tmp_path / "missing.toml")


def test_contrast_is_as_wcag_defines_it() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_the_command_says_what_it_did(desk: Desk, edited: Edit) -> None:
    run = desk.portal.app.test_cli_runner().invoke
    done = run(args=["catalog", "load", str(DATA / "catalog.toml")])
    assert (done.exit_code, done.output) == (
        0,
        "Catalog loaded: 0 added, 0 changed, 20 unchanged.\n",
    )
    failed = run(args=["catalog", "load", str(edited(('kind = "tv"', 'kind = "radio"')))])
    assert failed.exit_code == 1
    assert failed.output.startswith("Error: catalog.toml: plans.TV-BASIC.kind: must be one of")
    assert failed.output.count("\n") == 1


DUNNING = """
[dunning]
hour = 9
fee_minor = 700
hold_after_days = 14
weekend = ["sunday"]
holidays = [2026-12-25, 2026-11-26]

[[groups]]
code = "SHOPS"
name = "Shops"
dunning = { reminders = [{ days = 1, channels = ["text"] }], fee_minor = 0, close_after_days = 0 }

[[areas]]
"""


def dunning(*changes: tuple[str, str]) -> str:
    """The catalog with a policy about unpaid bills."""
    text = DUNNING
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return (DATA / "catalog.toml").read_text().replace("[[areas]]\n", text, 1)


def test_policy_about_unpaid_bills_and_its_groups_are_read(ctx: Portal, tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(dunning())
    catalog.load(path)
    isp.forget()
    rules = isp.current_isp().dunning
    assert (rules.hour, rules.weekend) == (9, (7,))
    assert rules.holidays == (date(2026, 11, 26), date(2026, 12, 25))
    assert (rules.usual.fee_minor, rules.usual.hold_after_days) == (700, 14)
    assert rules.usual.close_after_days == 90
    shops = read_frame(db.session()).policy_of("SHOPS")
    assert (shops.fee_minor, shops.hold_after_days, shops.close_after_days) == (0, 14, None)
    assert shops.reminders == (Reminder(1, (Channel.TEXT,)),)
    assert catalog.load(path).changed == 0


def test_policy_is_the_usual_one_where_the_catalog_has_none(desk: Desk) -> None:
    with desk.portal.app.app_context():
        assert isp.current_isp().dunning == DunningRules()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hour = 9", "hour = 24", "dunning.hour: must be a whole number from 0 to 23"),
        ("hour = 9", "when = 9", "dunning.when: is not known"),
        ("fee_minor = 700", "fee_minor = 700\nfee_bp = 1", "dunning: give it either fee_minor or"),
        ("fee_minor = 0", "fee_bp = 150", "groups.SHOPS.dunning: give it either fee_minor or"),
        ("hold_after_days = 14", "hold_after_days = 95", "close_after_days: must be more than"),
        ("close_after_days = 0", "close_after_days = 9", "SHOPS.dunning.close_after_days: must be"),
        ('["sunday"]', '["Sunday"]', r"dunning.weekend\[1\]: must be one of monday"),
        (
            '["sunday"]',
            '["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]',
            "dunning.weekend: names every day",
        ),
        ("2026-11-26", '"2026-11-26"', r"dunning.holidays\[2\]: must be a day without quotes"),
        ('["text"]', '["post"]', r"reminders\[1\].channels\[1\]: must be one of email, text"),
        ('["text"]', "[]", r"reminders\[1\].channels: must be a list"),
        (
            '[{ days = 1, channels = ["text"] }]',
            '[{ days = 7, channels = ["text"] }, { days = 1, channels = ["text"] }]',
            "reminders: must go from the first day to the last",
        ),
        ('[{ days = 1, channels = ["text"] }]', "3", "reminders: must be a list like"),
        ("fee_minor = 0", "holidays = []", "groups.SHOPS.dunning.holidays: is not known"),
    ],
)
def test_a_wrong_policy_is_one_line_that_names_the_key(old: str, new: str, message: str) -> None:
    with pytest.raises(CatalogInvalid, match=message) as caught:
        catalog.parse(dunning((old, new)))
    assert "\n" not in str(caught.value)


PAUSE = """
[pause]
kinds = ["internet", "tv"]
least_days = 10
most_days = 60
most_days_a_year = 90
notice_days = 0
plan = "REST"
prolongs_contract = false

[[plans]]
code = "REST"
kind = "option"
name = "Paused line"
price_minor = 500

[[areas]]
"""


def pause(*changes: tuple[str, str]) -> str:
    """The catalog with rules about pauses."""
    text = PAUSE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return (DATA / "catalog.toml").read_text().replace("[[areas]]\n", text, 1)


def test_rules_about_pauses_are_read_and_without_them_there_are_none(
    ctx: Portal, tmp_path: Path
) -> None:
    assert isp.current_isp().pause is None
    path = tmp_path / "catalog.toml"
    path.write_text(pause())
    catalog.load(path)
    isp.forget()
    assert isp.current_isp().pause == PauseRules(
        ("internet", "tv"), 10, 60, 90, 0, "REST", prolongs_contract=False
    )
    path.write_text(pause(("plan = ", "# plan = "), ("kinds = ", "# kinds = ")))
    catalog.load(path)
    isp.forget()
    rules = isp.current_isp().pause
    assert rules is not None
    assert (rules.kinds, rules.plan) == (("internet", "tv", "phone"), "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("least_days = 10", "least_days = 0", "pause.least_days: must be a whole number from 1"),
        ("most_days = 60", "most_days = 9", r"pause.most_days: must not be less than least_days"),
        ("a_year = 90", "a_year = 9", r"pause.most_days_a_year: must not be less than least_days"),
        ('"internet", "tv"', '"water"', r"pause.kinds\[1\]: must be one of internet, tv"),
        ('kinds = ["internet", "tv"]', "kinds = []", "pause.kinds: must be a list"),
        ('plan = "REST"', 'plan = "NONE"', "pause.plan: there is no option 'NONE' in this file"),
        ('plan = "REST"', 'plan = "TV-BASIC"', "pause.plan: there is no option 'TV-BASIC'"),
        ("least_days = 10", "price_minor = 10", "pause.price_minor: is not known"),
        ("notice_days = 0", "notice_days = 61", "pause.notice_days: must be a whole number"),
    ],
)
def test_wrong_rules_about_pauses_are_one_line(old: str, new: str, message: str) -> None:
    with pytest.raises(CatalogInvalid, match=message) as caught:
        catalog.parse(pause((old, new)))
    assert "\n" not in str(caught.value)


def test_a_group_that_left_the_file_is_pointed_out(ctx: Portal, tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(dunning())
    catalog.load(path)
    assert "group SHOPS is not in the file and stays" in catalog.load(DATA / "catalog.toml").notes


def test_example_of_the_documentation_is_a_catalog() -> None:
    text = (ROOT / "docs" / "billing.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    whole = (DATA / "catalog.toml").read_text().replace("[[areas]]\n", f"{example}\n[[areas]]\n", 1)
    assert catalog.parse(whole).groups[0]["code"] == "shops"
