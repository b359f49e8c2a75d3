"""Importing calls: each counts once, and what it costs is on one bill, whatever happens."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from blueprints.lines.phone import calls, numbers
from blueprints.staff.phone import call_importing
from core import clock, privacy
from core.db import db, unit_of_work
from models import Charge
from tests import crawl, world
from tests.conftest import Portal, together

HEADER = "number,direction,other,started_at,seconds,amount,id\n"
ALICE, MALLORY = crawl.PHONES["alice"], crawl.PHONES["mallory"]


@pytest.fixture
def phones(ctx: Portal) -> Portal:
    unit_of_work(lambda session: crawl.add_phones(session, ctx.world))
    for table in ("call_records", "call_imports"):
        ctx.execute(f"DELETE FROM {table}")
    ctx.execute("DELETE FROM charges")
    return ctx


def row(number: int, amount: str = "0.35", of: str = ALICE, month: int = 6, key: str = "") -> str:
    at = f"2026-{month:02}-{number % 18 + 1:02}T10:{number % 60:02}:00-07:00"
    return f"{of},out,+442079460958,{at},{60 + number},{amount},{key}\n"


def write(folder: Path, *rows: str, name: str = "calls.csv") -> Path:
    path = folder / name
    path.write_text(HEADER + "".join(rows))
    return path


def charges(portal: Portal) -> list[tuple[Any, ...]]:
    return portal.rows(
        "SELECT account_id, kind, description, amount_minor FROM charges ORDER BY id"
    )


def run(portal: Portal, *arguments: str) -> tuple[int, str]:
    done = portal.app.test_cli_runner().invoke(args=["calls", *arguments])
    return done.exit_code, done.output


def test_calls_are_kept_and_what_they_cost_is_charged_by_number_and_month(
    phones: Portal, tmp_path: Path
) -> None:
    path = write(tmp_path, row(1), row(2), row(3, "0"), row(4, month=5), row(5, of=MALLORY))
    done = call_importing.run(path)
    assert (done.kept, done.known, done.refused, done.rejected_path) == (5, 0, 0, None)
    assert charges(phones) == [
        (1, "phone", "Calls from +1 541-555-0171, May 2026", 35),
        (1, "phone", "Calls from +1 541-555-0171, June 2026", 70),
        (2, "phone", "Calls from +1 541-555-0172, June 2026", 35),
    ]
    months = phones.rows("SELECT month_on, count(*) FROM call_records GROUP BY 1 ORDER BY 1")
    assert [(f"{month}", count) for month, count in months] == [
        ("2026-05-01", 1),
        ("2026-06-01", 4),
    ]


def test_same_file_again_and_a_call_in_two_files_count_once(phones: Portal, tmp_path: Path) -> None:
    path = write(tmp_path, row(1), row(2), row(2))
    first = call_importing.run(path)
    assert (first.kept, first.known) == (2, 1)
    again = call_importing.run(path)
    assert (again.kept, again.known) == (0, 3)
    other = write(tmp_path, row(2), row(3), name="other.csv")
    done = call_importing.run(other)
    assert (done.kept, done.known) == (1, 1)
    assert [amount for *_, amount in charges(phones)] == [105]


def test_calls_that_come_after_the_bill_begin_another_charge(
    phones: Portal, tmp_path: Path
) -> None:
    call_importing.run(write(tmp_path, row(1), row(2)))
    with clock.set_to(clock.now().replace(month=7, day=1)):
        world.issue_month(phones.world, ("alice",), date(2026, 7, 1))
    lines = phones.rows(
        "SELECT description, ledger, amount_minor FROM invoice_lines JOIN invoices"
        " ON invoices.id = invoice_id WHERE issued_on = '2026-07-01'"
    )
    assert ("Calls from +1 541-555-0171, June 2026", "revenue:phone", 70) in lines
    [state_tax] = [amount for text, _, amount in lines if text.startswith("State")]
    assert state_tax == round((1900 + 1800 + 70) * 0.0625)
    call_importing.run(write(tmp_path, row(1), row(2), row(3)))
    assert [amount for *_, amount in charges(phones)] == [70, 35]
    rows = phones.rows("SELECT count(*), sum(amount_minor) FROM call_records GROUP BY charge_id")
    assert sorted(rows) == [(1, 35), (2, 70)]


def test_charge_that_staff_took_back_grows_no_more(phones: Portal, tmp_path: Path) -> None:
    call_importing.run(write(tmp_path, row(1)))
    phones.execute("UPDATE charges SET cancelled_at = created_at")
    call_importing.run(write(tmp_path, row(1), row(2)))
    assert [amount for *_, amount in charges(phones)] == [35, 35]


def test_bad_rows_are_told_with_their_lines_and_kept_to_be_mended(
    phones: Portal, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        row(1, key="one"),
        row(2, "much"),
        row(3, of="+15415550199"),
        row(4, key="one"),
        "nonsense\n",
        row(5),
    )
    code, output = run(phones, "import", str(path))
    assert code == 1
    assert "2 calls taken, 0 known before, 4 refused." in output
    for line in ("line 3, amount:", "line 4, number:", "line 5, id:", "line 6:"):
        assert line in output
    rejected = path.with_name("calls.csv.rejected.csv")
    text = rejected.read_text("utf-8-sig").replace("much", "0.35")
    rejected.write_text(text)
    code, output = run(phones, "import", str(rejected))
    assert "1 calls taken, 0 known before, 3 refused." in output
    assert [amount for *_, amount in charges(phones)] == [105]


def test_file_that_cannot_be_read_changes_nothing(phones: Portal, tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("when,who\n")
    code, output = run(phones, "import", str(path))
    assert code == 1
    assert "Missing" in output
    assert run(phones, "import", str(tmp_path / "nothing.csv"))[0] == 1
    assert phones.rows("SELECT * FROM call_imports") == []


def test_import_that_is_killed_half_way_is_made_whole_by_another(
    phones: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_importing, "AT_ONCE", 2)
    path = write(tmp_path, *(row(number) for number in range(7)))
    keep, count = calls.keep, 0

    def die(session: Session, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        found = keep(session, *arguments)
        if count == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(calls, "keep", die)
    with pytest.raises(KeyboardInterrupt):
        call_importing.run(path)
    assert phones.one("SELECT count(*) FROM call_records") == 4
    monkeypatch.setattr(calls, "keep", keep)
    done = call_importing.run(path)
    assert (done.kept, done.known) == (3, 4)
    assert [amount for *_, amount in charges(phones)] == [7 * 35]


def test_imports_at_the_same_time_count_each_call_once(phones: Portal, tmp_path: Path) -> None:
    rows = [row(number, of=of) for number in range(30) for of in (ALICE, MALLORY)]
    paths = [write(tmp_path, *rows, name=f"calls-{number}.csv") for number in range(4)]

    def take(number: int) -> tuple[int, int]:
        with phones.app.app_context():
            done = call_importing.run(paths[number])
            db.session.remove()
        return done.kept, done.known

    done = [counts for counts in together(4, take) if isinstance(counts, tuple)]
    assert [sum(counts) for counts in zip(*done, strict=True)] == [60, 180]
    assert phones.one("SELECT count(*) FROM call_records") == 60
    assert phones.one("SELECT sum(kept_count) FROM call_imports") == 60
    sums = phones.rows("SELECT account_id, sum(amount_minor) FROM charges GROUP BY 1 ORDER BY 1")
    assert [(account, int(amount)) for account, amount in sums] == [(1, 1050), (2, 1050)]


def test_number_that_changed_hands_has_the_calls_of_its_days(
    phones: Portal, tmp_path: Path
) -> None:
    phones.execute(
        "UPDATE phone_numbers SET number = :number, ended_on = '2026-06-05'"
        " WHERE public_id = 'malloryphone'",
        number=ALICE,
    )
    phones.execute("UPDATE phone_numbers SET from_on = '2026-06-05' WHERE public_id = 'alicephone'")
    done = call_importing.run(write(tmp_path, row(1), row(4), row(9)))
    assert (done.kept, done.refused) == (2, 1)  # nobody knows whose those of the 5th are
    accounts = phones.rows("SELECT account_id FROM call_records ORDER BY started_at")
    assert accounts == [(2,), (1,)]


def test_charge_is_in_the_language_of_the_account(phones: Portal, tmp_path: Path) -> None:
    phones.execute("UPDATE accounts SET language = 'es' WHERE id = 1")
    call_importing.run(write(tmp_path, row(1)))
    assert "Llamadas de +1 541-555-0171, junio de 2026" in charges(phones)[0]


def test_calls_are_deleted_after_eighteen_months_and_not_taken_again(
    phones: Portal, tmp_path: Path
) -> None:
    path = write(tmp_path, row(1), row(2))
    call_importing.run(path)
    with clock.set_to(clock.now() + privacy.CALLS_KEPT):
        unit_of_work(lambda session: privacy.delete_old(session, clock.now()))
        assert phones.rows("SELECT * FROM call_records") == []
        unit_of_work(lambda session: privacy.delete_old(session, clock.now()))
        assert call_importing.run(path).refused == 2
    with db.engine.connect() as connection:
        assert len(connection.execute(select(Charge.id)).all()) == 1


def test_calls_after_the_plan_are_nobodys(phones: Portal, tmp_path: Path) -> None:
    phones.execute("UPDATE subscriptions SET ended_on = '2026-06-05' WHERE public_id = 'alicesub3'")
    path = write(tmp_path, row(1), row(7), row(9))
    done = call_importing.run(path)
    assert (done.kept, done.refused) == (1, 2)
    assert [amount for *_, amount in charges(phones)] == [35]


def test_number_given_again_on_the_day_has_the_calls_of_the_day(
    phones: Portal, tmp_path: Path
) -> None:
    unit_of_work(lambda session: numbers.take_back(session, 1, "alicephone"), 1)
    unit_of_work(lambda session: numbers.give(session, 1, None, ALICE), 1)
    late = f"{ALICE},out,+442079460958,2026-06-20T10:00:00-07:00,60,5.00,z\n"
    assert call_importing.run(write(tmp_path, late)).kept == 1


def test_call_counts_once_with_an_id_and_without(phones: Portal, tmp_path: Path) -> None:
    daily = write(tmp_path, row(1), row(2), name="daily.csv")
    monthly = write(tmp_path, row(1, key="a"), row(2, key="b"), row(3, key="c"), name="monthly.csv")
    call_importing.run(daily)
    done = call_importing.run(monthly)
    assert (done.kept, done.known, done.refused) == (1, 2, 0)
    done = call_importing.run(write(tmp_path, row(3), row(1, key="a"), row(4), row(4, key="d")))
    assert (done.kept, done.known, done.refused) == (1, 3, 0)
    assert [amount for *_, amount in charges(phones)] == [4 * 35]


def test_two_calls_of_which_the_same_is_known_are_two_by_their_ids(
    phones: Portal, tmp_path: Path
) -> None:
    done = call_importing.run(write(tmp_path, row(1, key="a"), row(1, key="b")))
    assert (done.kept, done.known) == (2, 0)


@pytest.mark.parametrize("keys", [("", ""), ("a", "a"), ("", "a"), ("a", "")])
def test_known_call_with_another_amount_is_refused_and_says_so(
    phones: Portal, tmp_path: Path, keys: tuple[str, str]
) -> None:
    call_importing.run(write(tmp_path, row(1, key=keys[0])))
    code, output = run(
        phones, "import", str(write(tmp_path, row(1, "0.50", key=keys[1]), name="other.csv"))
    )
    assert code == 1
    assert "line 2, amount: This call is known already, with another amount." in output
    assert [amount for *_, amount in charges(phones)] == [35]


def test_call_between_two_subscribers_is_a_call_of_both(phones: Portal, tmp_path: Path) -> None:
    at = "2026-06-10T10:00:00-07:00,60"
    out, come = f"{ALICE},out,{MALLORY},{at},0.10,77\n", f"{MALLORY},in,{ALICE},{at},,77\n"
    done = call_importing.run(write(tmp_path, out, come))
    assert (done.kept, done.refused) == (2, 0)
    sides = phones.rows("SELECT account_id, is_out FROM call_records ORDER BY id")
    assert [(account, bool(is_out)) for account, is_out in sides] == [(1, True), (2, False)]


def test_month_that_is_dearer_than_a_charge_may_be_is_two_charges(
    phones: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjusting, "MAXIMUM_MINOR", 100)
    call_importing.run(write(tmp_path, *(row(number) for number in range(5))))
    call_importing.run(write(tmp_path, row(6), row(7)))
    assert [amount for *_, amount in charges(phones)] == [70, 70, 70, 35]


def test_import_that_goes_on_counts_what_it_had_taken(
    phones: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_importing, "AT_ONCE", 2)
    rows = HEADER + "".join(row(number) for number in (*range(5), 4))
    ben = phones.visitor("ben")
    action, values = ben.get("/staff/calls").form("/calls")
    keep, count = calls.keep, 0

    def die(session: Session, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return keep(session, *arguments)

    monkeypatch.setattr(calls, "keep", die)
    with pytest.raises(KeyboardInterrupt):
        ben.post(action, values | {"rows": rows})
    monkeypatch.setattr(calls, "keep", keep)
    assert ben.post(action, values | {"rows": rows}).status == 303
    assert phones.rows("SELECT kept_count, known_count FROM call_imports") == [(5, 1)]


# On the page -----------------------------------------------------------------------------------


def test_staff_give_a_file_and_see_what_became_of_it(phones: Portal) -> None:
    ben = phones.visitor("ben")
    page = ben.submit(ben.get("/staff/calls"), "/calls", rows=HEADER + row(1) + row(2, "much"))
    assert page.status == 303
    shown = ben.get(page.location)
    assert "Line 3" in shown.text
    assert "Write what the call costs like 1.25" in shown.text
    refused = ben.get(f"{page.location}/csv")
    assert "'+15415550171,out" in refused.text
    mended = refused.text.replace("much", "0.35")
    again = ben.submit(ben.get("/staff/calls"), "/calls", rows=mended)
    assert "Calls taken1" in ben.get(again.location).text
    assert [amount for *_, amount in charges(phones)] == [70]


def test_file_is_uploaded(phones: Portal) -> None:
    ben = phones.visitor("ben")
    action, values = ben.get("/staff/calls").form("/calls")
    content = (HEADER + row(1)).encode()
    page = ben.post(action, values | {"file": (io.BytesIO(content), "june.csv")})
    assert page.status == 303
    assert "june.csv" in ben.get(page.location).text
    other = ben.post(action, values | {"file": (io.BytesIO(content + b"x"), "july.csv")})
    assert other.status == 409


def test_nothing_and_nonsense_are_explained(phones: Portal) -> None:
    ben = phones.visitor("ben")
    for rows in ("", "when,who\n"):
        page = ben.submit(ben.get("/staff/calls"), "/calls", rows=rows)
        assert page.status == 422
        assert "Missing: number" in page.text
    assert phones.rows("SELECT * FROM call_imports") == []


@pytest.mark.parametrize("name", ["sue", "tess"])
def test_calls_are_given_by_billing_alone(phones: Portal, name: str) -> None:
    assert phones.visitor(name).get("/staff/calls").status == 403
