"""Steps are taken each once, with what belongs to them, whoever runs them however often.

Of alice's bills those of May (due on 15 May) and June (15 June) are unpaid, of mallory's those of
March and April too.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from blueprints.billing import crediting, invoicing, taken_back
from blueprints.billing.dunning import taking
from blueprints.billing.dunning.reading import read_frame
from blueprints.billing.dunning.steps import StepKind
from core import postman
from core.db import db, unit_of_work
from gateways.payments.sandbox.store import Decision, Reversing
from models import Message
from tests.billing.conftest import Till
from tests.billing.dunning.conftest import Dunning
from tests.conftest import together
from tests.world import issue_month

REMINDED = date(2026, 6, 20)
HELD = date(2026, 6, 29)  # the first working day a week after the reminder
CLOSED = date(2026, 9, 8)  # 69 days after it was held: a Sunday, and Monday is a holiday below


def test_overdue_accounts_are_reminded_once_with_one_message(dunning: Dunning) -> None:
    done = dunning.run()
    assert done[StepKind.REMIND] == 2 + 4
    assert dunning.steps() == [("remind:7", "2026-05"), ("remind:1", "2026-06")]
    assert dunning.messages() == [("bill_reminder", "email", "alice@example.net")]
    assert dunning.messages("rich") == []
    assert not dunning.run()
    assert len(dunning.messages()) == 1


def test_line_is_held_a_week_later_and_the_account_closed_in_the_end(dunning: Dunning) -> None:
    dunning.decide(holidays=["2026-09-07"])
    dunning.run(REMINDED)
    assert not dunning.run(date(2026, 6, 26))[StepKind.HOLD]
    assert dunning.run(HELD)[StepKind.HOLD] == 2
    assert dunning.line() == "held"
    assert ("line_held", "email", "alice@example.net") in dunning.messages()
    assert not dunning.run(date(2026, 9, 4))[StepKind.CLOSE]
    assert not dunning.run(date(2026, 9, 7))[StepKind.CLOSE]
    with dunning.on(CLOSED):
        assert dunning.run()[StepKind.CLOSE] == 2
        home = dunning.portal.visitor("alice").get(dunning.portal.path())
    assert dunning.line() == "closed"
    assert "This account is closed" in home.text
    assert dunning.messages()[-1] == ("closed_unpaid", "email", "alice@example.net")
    ended = dunning.portal.rows(
        "SELECT DISTINCT ended_on FROM subscriptions WHERE account_id = :id",
        id=dunning.portal.world.accounts["alice"],
    )
    assert [str(row[0]) for row in ended] == ["2026-09-08"]


def test_paying_what_is_overdue_releases_the_line(dunning: Dunning, till: Till) -> None:
    dunning.run(REMINDED)
    dunning.run(HELD)
    with dunning.on(HELD, hour=12):
        till.start()
        till.portal.bank.decide(till.latest("key"), Decision.PAY)
        till.settle()
    assert dunning.line() == "open"
    assert dunning.line("mallory") == "held"


def test_line_opens_once_all_of_it_comes_from_the_bank_and_is_held_when_it_does_not(
    dunning: Dunning, till: Till
) -> None:
    dunning.run(REMINDED)
    dunning.run(HELD)
    with dunning.on(HELD, hour=12):
        till.start()
        key = till.latest("key")
        till.portal.bank.decide(key, Decision.DEBIT)
        assert till.settle() == "processing"
    assert dunning.line() == "open"
    dunning.run(date(2026, 6, 30))
    assert dunning.line() == "open"
    till.portal.execute("UPDATE payments SET state = 'declined' WHERE state = 'processing'")
    dunning.run(date(2026, 7, 1))
    assert dunning.line() == "held"


def test_bill_that_is_open_again_is_reminded_of_before_anything_else(
    dunning: Dunning, till: Till
) -> None:
    dunning.run(REMINDED)
    bank = till.portal.bank
    with dunning.on(HELD, hour=8):
        till.start()
        key = till.latest("key")
        bank.decide(key, Decision.PAY)
        till.settle()
    bank.reverse(key, Reversing.CHARGEBACK)
    with dunning.on(date(2026, 8, 20)):
        taken_back.learn(till.latest_id(), till.gateway)
    before = len(dunning.steps())
    dunning.run(date(2026, 8, 21))
    assert dunning.line() == "open"
    assert dunning.steps()[before:] == [("remind:7", "2026-05"), ("remind:7", "2026-06")]
    dunning.run(date(2026, 8, 27))
    assert dunning.line() == "open"
    dunning.run(date(2026, 8, 28))
    assert dunning.line() == "held"


def test_late_fee_joins_the_next_bill_on_a_line_of_its_own_and_is_not_taxed(
    dunning: Dunning,
) -> None:
    dunning.decide(fee_minor=700, hold_after_days=0, close_after_days=0)
    dunning.run(REMINDED)
    assert dunning.run(HELD)[StepKind.FEE] == 2 + 4
    assert dunning.steps()[2:] == [("fee", "2026-05"), ("fee", "2026-06")]
    assert dunning.messages()[-1] == ("late_fee", "email", "alice@example.net")
    with dunning.on(date(2026, 7, 1)):
        [invoice_id] = issue_month(dunning.portal.world, ("alice",), date(2026, 7, 1))
    lines = dunning.portal.rows(
        "SELECT description, amount_minor, ledger FROM invoice_lines WHERE invoice_id = :id"
        " AND description LIKE 'Late fee%' ORDER BY position",
        id=invoice_id,
    )
    assert lines == [
        ("Late fee for bill 2026-000005", 700, "revenue:adjustment"),
        ("Late fee for bill 2026-000007", 700, "revenue:adjustment"),
    ]
    assert dunning.portal.one("SELECT total_minor FROM invoices WHERE id = :id", id=invoice_id) == (
        10_556 + 1_400
    )


def test_two_runs_at_once_take_each_step_once(dunning: Dunning) -> None:
    dunning.decide(fee_minor=700)
    dunning.run(REMINDED)
    app = dunning.portal.app

    def run(_number: int) -> int:
        with app.app_context(), dunning.on(HELD):
            return sum(taking.run(read_frame(db.session())).values())

    done = together(4, run)
    assert sum(count for count in done if isinstance(count, int)) == 6 + 2, done
    assert dunning.portal.one("SELECT count(*) FROM charges") == 6
    assert dunning.portal.one("SELECT count(*) FROM line_holds") == 2
    assert len(dunning.messages()) == 2


def test_run_that_was_killed_is_finished_by_the_next(
    dunning: Dunning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "TAKEN_AT_ONCE", 1)
    taken = taking.take
    batches = []

    def die(session: Any, account_ids: Any, frame: Any) -> Any:
        batches.append(account_ids)
        found = taken(session, account_ids=account_ids, frame=frame)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(taking, "take", die)
    with pytest.raises(KeyboardInterrupt):
        dunning.run()
    assert [len(dunning.messages(name)) for name in ("alice", "mallory")] == [1, 0]
    monkeypatch.setattr(taking, "take", taken)
    dunning.run()
    assert [len(dunning.messages(name)) for name in ("alice", "mallory")] == [1, 1]


def test_what_is_on_its_way_from_the_bank_is_not_dunned(dunning: Dunning, till: Till) -> None:
    till.start()
    till.portal.bank.decide(till.latest("key"), Decision.DEBIT)
    assert till.settle() == "processing"
    assert dunning.run()[StepKind.REMIND] == 4
    assert dunning.messages() == []


def test_group_has_a_policy_of_its_own(dunning: Dunning) -> None:
    dunning.portal.execute(
        "INSERT INTO customer_groups (code, name, dunning) VALUES ('shops', 'Shops', :policy)",
        policy='{"reminders": []}',
    )
    dunning.portal.execute("UPDATE accounts SET group_code = 'shops' WHERE number = '1001'")
    assert dunning.run()[StepKind.REMIND] == 4
    assert dunning.steps() == []
    assert dunning.run(date(2026, 6, 22))[StepKind.HOLD] == 1
    assert dunning.line() == "held"


def test_customer_who_wants_no_reminders_is_still_told_of_a_hold(dunning: Dunning) -> None:
    dunning.portal.execute(
        "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
        " VALUES (:id, 'bills', 'email', false)",
        id=dunning.portal.world.customers["alice"],
    )
    dunning.run(REMINDED)
    assert dunning.messages() == []
    dunning.run(HELD)
    assert dunning.messages() == [("line_held", "email", "alice@example.net")]


@pytest.mark.parametrize("has_phone", [True, False])
def test_hold_says_that_emergency_calls_stay_possible_where_there_is_a_phone(
    dunning: Dunning, has_phone: bool
) -> None:
    if not has_phone:
        dunning.portal.execute(
            "UPDATE subscriptions SET ended_on = '2026-06-01'"
            " WHERE plan_id IN (SELECT id FROM plans WHERE kind = 'phone')"
        )
    dunning.run(REMINDED)
    dunning.run(HELD)
    message = db.session.query(Message).filter_by(
        kind="line_held", account_id=dunning.portal.world.accounts["alice"]
    )
    words = postman.compose(message.one(), "http://127.0.0.1:8000").text
    assert ("Emergency calls stay possible." in words) == has_phone


def test_texts_go_where_the_policy_says_so(dunning: Dunning) -> None:
    dunning.portal.execute(
        "INSERT INTO contacts (account_id, kind, value, since_on) VALUES"
        " (:id, 'phone', '+15415550123', '2025-01-01')",
        id=dunning.portal.world.accounts["alice"],
    )
    dunning.run(REMINDED)
    assert ("bill_reminder", "text", "+15415550123") in dunning.messages()


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_every_message_can_be_written(dunning: Dunning, language: str) -> None:
    dunning.decide(fee_minor=700, close_after_days=30)
    dunning.portal.execute("UPDATE customers SET language = :language", language=language)
    for day in (REMINDED, HELD, date(2026, 7, 8), date(2026, 7, 20)):
        dunning.run(day)
    kinds = set()
    for message in db.session.query(Message).filter(Message.kind != "receipt"):
        composed = postman.compose(message, "http://127.0.0.1:8000")
        assert "None" not in composed.text
        assert "1001" in composed.text or "2002" in composed.text
        kinds.add(message.kind)
    assert kinds >= {"bill_reminder", "line_held", "closed_unpaid"}


def test_command_shows_and_takes(dunning: Dunning) -> None:
    runner = dunning.portal.app.test_cli_runner()
    shown = runner.invoke(args=["billing", "dunning", "--dry-run"])
    assert "1001  remind:7  2026-000005  $211.12" in shown.output
    assert "6 steps due: 6 reminders, 0 late fees, 0 accounts held, 0 closed." in shown.output
    assert dunning.steps() == []
    done = runner.invoke(args=["billing", "dunning"])
    assert "6 steps taken: 6 reminders" in done.output
    again = runner.invoke(args=["billing", "dunning"])
    assert "0 steps taken" in again.output
    ahead = runner.invoke(args=["billing", "dunning", "--as-of", "2026-06-29"])
    assert ahead.exit_code == 1
    assert "--dry-run" in ahead.output
    ahead = runner.invoke(args=["billing", "dunning", "--as-of", "2026-06-29", "--dry-run"])
    assert "2 accounts held" in ahead.output


def test_steps_outdate_the_pages_that_are_kept(dunning: Dunning) -> None:
    alice = dunning.portal.visitor("alice", own_device="y")
    with dunning.on(HELD):
        before = alice.get(dunning.portal.path()).text
        dunning.run(REMINDED)
        dunning.run()
        assert "held" in dunning.line()
        assert alice.get(dunning.portal.path()).text != before


def test_credit_note_that_settles_what_is_overdue_releases_too(dunning: Dunning) -> None:
    dunning.run(REMINDED)
    dunning.run(HELD)
    account_id = dunning.portal.world.accounts["alice"]

    def work(session: Any) -> None:
        for (invoice_id,) in dunning.portal.rows(
            "SELECT invoice_id FROM invoice_balances WHERE account_id = :id AND open_minor > 0",
            id=account_id,
        ):
            note = crediting.draft_credit_note(session, invoice_id)
            invoicing.issue(session, [note], "USD")

    with dunning.on(HELD, hour=12):
        unit_of_work(work, account_id)
    assert dunning.line() == "open"
