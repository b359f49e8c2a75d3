"""Importing accounts from the old billing's export."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from blueprints.auth import reach
from blueprints.billing import drafting, invoicing, opening
from blueprints.staff import importing
from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_writing import first_bill_day
from core.db import db, unit_of_work
from tests.conftest import Portal, Queries, together
from tests.staff.conftest import DATA, Desk, as_csv, row

EXPECTED = json.loads((DATA / "customers_export.expected.json").read_text())


@pytest.fixture
def export(desk: Desk) -> Path:
    """A copy of the real export, beside which the refused rows may be written."""
    return Path(shutil.copy(DATA / "customers_export.csv", desk.folder))


def rejected(export: Path) -> list[dict[str, str]]:
    path = export.with_name(f"{export.name}.rejected.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# The real export -----------------------------------------------------------------------------


def test_the_export_comes_out_exactly_as_expected(desk: Desk, export: Path) -> None:
    before = desk.portal.one("SELECT sum(balance_minor) FROM accounts")
    result = desk.take_file(export)
    assert (result.rows, result.added) == (EXPECTED["rows"], EXPECTED["accepted"])
    assert result.refused.total() == EXPECTED["refused"]
    assert result.opening_minor == EXPECTED["sum_of_opening_balances_minor"]
    after = desk.portal.one("SELECT sum(balance_minor) FROM accounts")
    assert after - before == EXPECTED["sum_of_opening_balances_minor"]
    assert [{"line": int(each["line"]), "reason": each["reason"]} for each in rejected(export)] == (
        EXPECTED["refused_rows"]
    )
    imported = "number LIKE '103%'"
    by_status = dict(
        desk.portal.rows(
            f"SELECT CASE WHEN status = 'closed' THEN status WHEN EXISTS (SELECT 1 FROM lines l"
            f" JOIN line_holds h ON h.line_id = l.id WHERE l.account_id = accounts.id AND"
            f" h.reason = 'imported') THEN 'suspended' ELSE 'active' END AS s, count(*)"
            f" FROM accounts WHERE {imported} GROUP BY s"
        )
    )
    assert by_status == EXPECTED["accepted_by_status"]
    assert desk.portal.one("SELECT count(*) FROM lines WHERE username LIKE 'ppp103%'") == 2414
    assert desk.portal.one("SELECT count(*) FROM customers") == 10


def test_a_second_run_changes_nothing(desk: Desk, export: Path) -> None:
    desk.take_file(export)
    before, refused = desk.everything(), rejected(export)
    result = desk.take_file(export, cut_over=date(2026, 6, 19))
    assert (result.added, result.changed, result.unchanged) == (0, 0, EXPECTED["accepted"])
    assert desk.everything() == before
    assert rejected(export) == refused


def test_refused_rows_are_kept_verbatim(desk: Desk, export: Path) -> None:
    desk.take_file(export)
    with export.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        originals: dict[int, list[str]] = {}
        while True:
            line = reader.line_num + 1
            try:
                originals[line] = next(reader)
            except StopIteration:
                break
    path = export.with_name(f"{export.name}.rejected.csv")
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["line", "column", "reason", *originals[1]]
    for number, _column, _reason, *cells in rows:
        assert cells == originals[int(number)]


def test_the_refused_rows_can_be_mended_and_imported(desk: Desk, export: Path) -> None:
    desk.take_file(export)
    mended = export.with_name(f"{export.name}.rejected.csv")
    with mended.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    header, count = rows[0], 0
    for cells in rows[1:]:
        reason = cells[header.index("reason")]
        if reason == "invalid email":
            cells[header.index("email")] = ""
        elif reason == "bill day out of range":
            cells[header.index("bill_day")] = "15"
        elif reason == "wrong number of columns":
            cells.extend([""] * (len(header) - len(cells) - 1))  # still one too few
        count += reason in ("invalid email", "bill day out of range")
    with mended.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    result = desk.take_file(mended)
    assert (result.added, result.refused.total()) == (count, EXPECTED["refused"] - count)
    again = rejected(mended)
    assert list(again[0]) == header
    assert {each["reason"] for each in again} == {cells[2] for cells in rows[1:]} - {
        "invalid email",
        "bill day out of range",
    }


def test_a_dry_run_writes_nothing_and_says_what_would_happen(desk: Desk, export: Path) -> None:
    before = desk.everything()
    found: list[int] = []
    result = desk.take_file(
        export, is_dry_run=True, on_refusal=lambda record, _: found.append(record.line)
    )
    assert (result.added, result.refused.total()) == (EXPECTED["accepted"], EXPECTED["refused"])
    assert found == [each["line"] for each in EXPECTED["refused_rows"]]
    assert result.rejected_path is None
    assert desk.everything() == before
    assert [path.name for path in desk.folder.iterdir()] == [export.name]


# What a row becomes --------------------------------------------------------------------------


def test_an_active_row_becomes_an_account_with_all_that_belongs_to_it(desk: Desk) -> None:
    desk.take(row())
    account = desk.account()
    assert account["status"] == "active"
    assert account["balance_minor"] == 6567
    one = {"id": account["id"]}
    assert desk.portal.rows(
        "SELECT kind, value, since_on FROM contacts WHERE account_id = :id ORDER BY kind", **one
    ) == [
        ("email", "zoe@example.net", _day(desk, "2022-09-04")),
        ("phone", "+15415215901", _day(desk, "2022-09-04")),
        ("postal", "591 Mill St, Cold Spring OR 97040, US", _day(desk, "2022-09-04")),
    ]
    assert desk.portal.rows(
        "SELECT p.code, s.started_on, s.ended_on, s.line_id IS NULL FROM subscriptions s"
        " JOIN plans p ON p.id = s.plan_id WHERE account_id = :id ORDER BY s.id",
        **one,
    ) == [
        ("AIR-25", _day(desk, "2022-09-04"), None, False),
        ("TV-BASIC", _day(desk, "2022-09-04"), None, True),
        ("VOICE-HOME", _day(desk, "2022-09-04"), None, True),
    ]
    assert desk.portal.rows(
        "SELECT username, is_closed, down_kbps, up_kbps FROM lines WHERE account_id = :id", **one
    ) == [("ppp7001", False, 25000, 5000)]
    assert desk.portal.rows(
        "SELECT number, kind, due_on, total_minor FROM invoices WHERE account_id = :id", **one
    ) == [("BF-7001", "opening", _day(desk, "2026-06-01"), 6567)]


def _day(desk: Desk, text: str) -> Any:
    return text if desk.portal.settings.is_sqlite else date.fromisoformat(text)


def test_a_negative_opening_balance_is_credit_and_zero_is_nothing(desk: Desk) -> None:
    desk.take(
        row(opening_balance="(12.50)"), row(account_number="7002", opening_balance="", email="")
    )
    assert desk.account()["balance_minor"] == -1250
    assert desk.portal.one("SELECT count(*) FROM invoices WHERE number LIKE 'BF-700%'") == 0
    assert desk.portal.rows("SELECT key FROM journal_entries WHERE key LIKE '%700%'") == [
        ("opening:BF-7001",)
    ]


def test_a_suspended_row_holds_its_line(desk: Desk) -> None:
    desk.take(row(status="SUSPENDED"))
    assert desk.account()["status"] == "active"
    assert desk.portal.rows("SELECT reason, released_at FROM line_holds") == [("imported", None)]


def test_a_closed_row_is_closed_on_the_cut_over(desk: Desk) -> None:
    desk.take(row(status="Closed"))
    assert desk.account()["status"] == "closed"
    assert desk.portal.one("SELECT is_closed FROM lines WHERE username = 'ppp7001'") in (1, True)
    ends = "SELECT DISTINCT ended_on FROM subscriptions WHERE account_id = :id"
    assert desk.portal.one(ends, id=desk.account()["id"]) == _day(desk, "2026-06-01")
    assert _bill(desk, date(2026, 8, 1)) == []


def _bill(desk: Desk, day: date) -> list[int]:
    account_id = desk.account()["id"]
    return unit_of_work(
        lambda session: invoicing.issue(
            session, drafting.draft_next(session, [account_id], day, 14), "USD"
        ),
        account_id,
    )


@pytest.mark.parametrize(
    ("start", "bill_day", "first"),
    [
        (date(2026, 6, 1), 1, date(2026, 6, 1)),
        (date(2026, 6, 1), 26, date(2026, 6, 26)),
        (date(2026, 6, 27), 26, date(2026, 7, 26)),
        (date(2026, 2, 28), 31, date(2026, 2, 28)),
        (date(2026, 12, 31), 1, date(2027, 1, 1)),
    ],
)
def test_billing_begins_on_the_first_bill_day_from_the_cut_over(
    start: date, bill_day: int, first: date
) -> None:
    assert first_bill_day(start, bill_day) == first


def test_the_first_bill_is_one_whole_month(desk: Desk) -> None:
    desk.take(row())
    assert _bill(desk, date(2026, 6, 25)) == []
    [invoice_id] = _bill(desk, date(2026, 6, 26))
    assert desk.portal.rows(
        "SELECT period_from, period_to FROM invoices WHERE id = :id", id=invoice_id
    ) == [(_day(desk, "2026-06-26"), _day(desk, "2026-07-25"))]


# Duplicates ----------------------------------------------------------------------------------


def test_duplicates_are_refused_for_the_same_reasons_in_every_run(desk: Desk) -> None:
    rows = [
        row(),
        row(line_username="other"),  # the number of a row above
        row(account_number="7002", line_username="ppp7001"),  # the username of a row above
        row(account_number="7001", line_username="ppp7003"),
        row(account_number="7003"),  # whose username a refused row had
        row(),  # once more
    ]
    expected = [
        (3, "duplicate account number"),
        (4, "line username already used"),
        (5, "duplicate account number"),
        (7, "duplicate account number"),
    ]
    assert desk.refusals(*rows, is_dry_run=True) == expected
    assert desk.refusals(*rows) == expected
    before = desk.everything()
    assert desk.refusals(*rows) == expected
    assert desk.everything() == before


def test_what_is_stored_is_not_taken_over_by_another_row(desk: Desk) -> None:
    assert desk.refusals(
        row(account_number="1001"), row(account_number="7001", line_username="ppp-alice")
    ) == [(2, "duplicate account number"), (3, "line username already used")]


# Changes -------------------------------------------------------------------------------------


def changed(desk: Desk, **changes: str) -> dict[str, Any]:
    """The account after its row came again with changes, which must count as one change."""
    desk.take(row())
    before = desk.account()["revision"]
    result = desk.take(row(**changes), cut_over=date(2026, 6, 10))
    assert (result.added, result.changed, result.unchanged) == (0, 1, 0)
    after = desk.everything()
    assert desk.take(row(**changes)).unchanged == 1
    assert desk.everything() == after
    account = desk.account()
    assert account["revision"] > before
    return account


def test_a_changed_row_changes_the_account(desk: Desk) -> None:
    account = changed(desk, name="Zoë Kim-Park", language="fr", area="PINE", bill_day="15")
    assert (account["name"], account["language"]) == ("Zoë Kim-Park", "fr")
    assert (account["area_code"], account["bill_day"]) == ("PINE", 15)
    assert account["billed_through_on"] == _day(desk, "2026-06-14")


def test_a_changed_contact_is_on_file_since_today(desk: Desk) -> None:
    account = changed(desk, email="new@example.net")
    assert desk.portal.rows(
        "SELECT value, since_on FROM contacts WHERE account_id = :id AND kind <> 'postal'"
        " AND ended_on IS NULL ORDER BY kind",
        id=account["id"],
    ) == [
        ("new@example.net", _day(desk, "2026-06-20")),
        ("+15415215901", _day(desk, "2022-09-04")),
    ]


def test_a_replaced_contact_ends_and_stays_on_file_for_a_while(desk: Desk) -> None:
    """Codes still go to it (bar 17)."""
    account = changed(desk, email="new@example.net")
    [(value, ended_on)] = desk.portal.rows(
        "SELECT value, ended_on FROM contacts WHERE account_id = :id AND ended_on IS NOT NULL",
        id=account["id"],
    )
    assert value == row()["email"].lower()
    assert ended_on == _day(desk, "2026-06-20")
    with desk.portal.app.app_context():
        found = reach.of_account(db.session(), account["id"])
    assert {(each.value, each.may_have_codes) for each in found if each.channel == "email"} == {
        (value, True),
        ("new@example.net", False),
    }


def test_a_contact_that_comes_back_counts_as_new(desk: Desk) -> None:
    account = changed(desk, email="new@example.net")
    assert desk.take(row(), cut_over=date(2026, 6, 10)).changed == 1
    assert desk.portal.rows(
        "SELECT value, since_on, ended_on FROM contacts WHERE account_id = :id AND kind = 'email'"
        " ORDER BY id",
        id=account["id"],
    ) == [
        (row()["email"].lower(), _day(desk, "2026-06-20"), None),
        ("new@example.net", _day(desk, "2026-06-20"), _day(desk, "2026-06-20")),
    ]
    assert desk.take(row(), cut_over=date(2026, 6, 10)).unchanged == 1


def test_an_empty_contact_leaves_what_is_on_file(desk: Desk) -> None:
    desk.take(row())
    assert desk.take(row(email="", phone="")).unchanged == 1


def test_changed_plans_end_and_begin_subscriptions(desk: Desk) -> None:
    account = changed(desk, plan_code="FIBER-100", add_on_codes="TV-BASIC")
    assert desk.portal.rows(
        "SELECT p.code, s.started_on, s.ended_on FROM subscriptions s"
        " JOIN plans p ON p.id = s.plan_id WHERE account_id = :id ORDER BY s.id",
        id=account["id"],
    ) == [
        ("AIR-25", _day(desk, "2022-09-04"), _day(desk, "2026-06-10")),
        ("TV-BASIC", _day(desk, "2022-09-04"), None),
        ("VOICE-HOME", _day(desk, "2022-09-04"), _day(desk, "2026-06-10")),
        ("FIBER-100", _day(desk, "2026-06-10"), None),
    ]
    assert desk.portal.one("SELECT down_kbps FROM lines WHERE username = 'ppp7001'") == 100_000


def test_a_corrected_activation_moves_what_follows_from_it(desk: Desk) -> None:
    account = changed(desk, activated_on="2021-01-31")
    assert account["opened_on"] == _day(desk, "2021-01-31")
    for sql in (
        "SELECT DISTINCT started_on FROM subscriptions WHERE account_id = :id",
        "SELECT DISTINCT since_on FROM contacts WHERE account_id = :id",
    ):
        assert desk.portal.one(sql, id=account["id"]) == _day(desk, "2021-01-31")


def test_introductory_terms_are_those_of_the_day_it_was_taken_in(desk: Desk) -> None:
    terms = "SELECT intro_price_minor, intro_until_on FROM subscriptions WHERE account_id = :id"
    account = changed(desk, plan_code="FIBER-300")
    desk.portal.execute("UPDATE plans SET intro_price_minor = 4500, intro_months = 2")
    [*_others, promised] = desk.portal.rows(terms + " ORDER BY id", id=account["id"])
    assert tuple(promised) == (4900, _day(desk, "2026-12-10"))


def test_corrected_activation_moves_the_end_of_introductory_months(desk: Desk) -> None:
    desk.take(row(plan_code="FIBER-300", activated_on="2026-05-04"))
    desk.take(row(plan_code="FIBER-300", activated_on="2026-04-30"))
    until = "SELECT intro_until_on FROM subscriptions WHERE intro_price_minor IS NOT NULL"
    assert desk.portal.one(until) == _day(desk, "2026-10-30")


@pytest.mark.parametrize("there_and_back", [("suspended", "active"), ("active", "suspended")])
def test_status_holds_and_frees_the_line(desk: Desk, there_and_back: tuple[str, str]) -> None:
    first, second = there_and_back
    desk.take(row(status=first))
    assert desk.take(row(status=second)).changed == 1
    standing = desk.portal.one("SELECT count(*) FROM line_holds WHERE released_at IS NULL")
    assert standing == (second == "suspended")


def test_a_hold_that_was_released_here_does_not_come_back(desk: Desk) -> None:
    desk.take(row(status="suspended"))
    desk.portal.execute("UPDATE line_holds SET released_at = since_at")
    result = desk.take(row(status="suspended"))
    assert result.unchanged == 1
    assert result.warnings["suspended in the file, released here since"] == 1


def test_closing_ends_everything_and_can_be_taken_back(desk: Desk) -> None:
    account = changed(desk, status="closed")
    assert account["status"] == "closed"
    open_ = "SELECT count(*) FROM subscriptions WHERE account_id = :id AND ended_on IS NULL"
    assert desk.portal.one(open_, id=account["id"]) == 0
    assert desk.take(row(), cut_over=date(2026, 6, 28)).changed == 1
    assert desk.account()["status"] == "active"
    assert desk.account()["billed_through_on"] == _day(desk, "2026-07-25")
    assert desk.portal.one(open_, id=account["id"]) == 3


def test_an_account_closed_after_its_time_here_stays_closed(desk: Desk) -> None:
    desk.take(row())
    _bill(desk, date(2026, 6, 26))
    desk.take(row(status="closed"))
    result = desk.take(row())
    assert result.unchanged == 1
    assert result.warnings["closed here since, stays closed"] == 1


# Opening balances ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["65.67", "(12.50)", ""])
@pytest.mark.parametrize("second", ["100.00", "20.00", "(50.00)", "0"])
def test_a_corrected_opening_balance_posts_the_difference(
    desk: Desk, first: str, second: str
) -> None:
    desk.take(row(opening_balance=first))
    result = desk.take(row(opening_balance=second))
    assert result.changed + result.unchanged == 1
    assert desk.account()["balance_minor"] == result.opening_minor
    before = desk.everything()
    assert desk.take(row(opening_balance=second)).unchanged == 1
    assert desk.everything() == before


def test_an_opening_balance_is_settled_once_the_account_has_another_entry(desk: Desk) -> None:
    desk.take(row())
    _bill(desk, date(2026, 6, 26))
    before = desk.everything()
    changes = {"opening_balance": "70.00", "name": "Zoë Park"}
    assert desk.refusals(row(**changes)) == [(2, "opening balance already settled")]
    assert desk.everything() == before
    assert desk.take(row(name="Zoë Park")).changed == 1


def test_an_opening_balance_is_corrected_once_only(desk: Desk) -> None:
    desk.take(row())
    desk.take(row(opening_balance="70.00"))
    assert desk.refusals(row(opening_balance="65.67")) == [(2, "opening balance already settled")]


def test_a_late_opening_balance_is_refused_too(desk: Desk) -> None:
    desk.take(row(opening_balance="0"))
    _bill(desk, date(2026, 6, 26))
    assert desk.refusals(row()) == [(2, "opening balance already settled")]


# Faults --------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """The machine stops here."""


def test_a_run_that_fails_anywhere_is_finished_by_another(
    desk: Desk, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LARGEST_BATCH", 200)
    write = opening.post_openings
    left = 0

    def fail_in_time(session: Session, openings: Any, currency: str) -> None:
        nonlocal left
        left -= 1
        write(session, openings, currency)
        if left == 0:
            session.flush()
            raise PowerCut

    monkeypatch.setattr(opening, "post_openings", fail_in_time)
    for left in (1, 3, 2):
        with pytest.raises(PowerCut):
            desk.take_file(export)
        assert not export.with_name(f"{export.name}.rejected.csv").exists()
    assert desk.take_file(export).unchanged > 0
    finished = desk.everything()
    assert desk.take_file(export).unchanged == EXPECTED["accepted"]
    assert desk.everything() == finished
    imported = "SELECT sum(balance_minor) FROM accounts WHERE number LIKE '103%'"
    assert desk.portal.one(imported) == EXPECTED["sum_of_opening_balances_minor"]


def test_two_runs_at_once_end_as_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(account_number=str(8000 + number)) for number in range(120)]
    paths = []
    for number in range(2):
        paths.append(desk.folder / f"copy-{number}.csv")
        paths[-1].write_bytes(as_csv(*rows))

    def run(number: int) -> Any:
        with desk.portal.app.app_context():
            try:
                return desk.take_file(paths[number])
            finally:
                db.session.remove()

    results: list[Any] = together(2, run)
    assert sum(result.added for result in results) == 120
    assert desk.portal.one("SELECT count(*) FROM accounts WHERE number LIKE '8%'") == 120


def test_one_file_is_not_imported_twice_at_once(desk: Desk) -> None:
    path = desk.write(row())
    inner: list[Any] = []

    def meddle(_offset: int) -> None:
        with pytest.raises(ImportImpossible, match="being imported by another") as caught:
            importing.run(path)
        inner.append(caught.value)

    assert desk.take_file(path, on_progress=meddle).added == 1
    assert len(inner) == 1


def test_a_mended_file_is_not_lost_to_a_later_run(desk: Desk) -> None:
    path = desk.write(row(bill_day="0"))
    rejected_path = desk.take_file(path).rejected_path
    assert rejected_path is not None
    mended = rejected_path.read_text().replace(",0,", ",5,")
    rejected_path.write_text(mended)
    desk.take_file(path)
    old = rejected_path.with_name(f"{rejected_path.name}.old")
    assert old.read_text() == mended
    assert desk.take_file(old).added == 1
    desk.take(row(bill_day="5"))
    assert not rejected_path.exists()


def test_without_a_catalog_there_is_nothing_to_import_into(ctx: Portal, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(as_csv(row()))
    ctx.execute("DELETE FROM isp")
    with pytest.raises(ImportImpossible, match="flask catalog load"):
        importing.run(path)


# Cost ----------------------------------------------------------------------------------------


def test_statements_of_an_import_do_not_grow_with_its_rows(
    desk: Desk, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "FIRST_BATCH", 1000)
    counts = []
    for start, size in ((20000, 5), (30000, 300)):
        rows = [
            row(account_number=str(start + number), status="suspended", opening_balance="0")
            for number in range(size)
        ]
        with queries:
            before = queries.count
            assert desk.take(*rows).added == size
            counts.append(queries.count - before)
    assert counts[0] == counts[1]


# The command ---------------------------------------------------------------------------------


def test_the_command_sums_up(desk: Desk) -> None:
    path = desk.write(row(), row(account_number="7002", bill_day="0", add_on_codes="TV-KIDS"))
    run = desk.portal.app.test_cli_runner().invoke
    dry = run(args=["accounts", "import", str(path), "--dry-run", "--cut-over", "2026-06-01"])
    assert dry.exit_code == 0
    assert "Nothing was written. It would be:\n2 rows: 1 accounts added" in dry.stdout
    assert dry.stderr.endswith(
        "line 3: bill day out of range (bill_day). '0' is no day of a month, from 1 to 31.\n"
    )
    done = run(args=["accounts", "import", str(path), "--cut-over", "2026-06-01"])
    assert done.exit_code == 0
    assert "1 accounts added, 0 changed, 0 unchanged; 1 rows refused." in done.stdout
    assert "$65.67, due 2026-06-01" in done.stdout
    assert f"{path}.rejected.csv" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"), [(b"a,b\n", "must name the columns"), (None, "cannot be read")]
)
def test_the_command_fails_in_one_line(desk: Desk, content: bytes | None, message: str) -> None:
    path = desk.folder / "export.csv"
    if content is not None:
        path.write_bytes(content)
    failed = desk.portal.app.test_cli_runner().invoke(args=["accounts", "import", str(path)])
    assert failed.exit_code == 1
    assert message in failed.stderr.splitlines()[-1]
    assert failed.stderr.splitlines()[-1].startswith("Error: ")
