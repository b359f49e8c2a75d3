"""The bill run: each period once, whoever runs it; what stands out stops it (bar 59)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from blueprints.billing import bill_run, drafting
from blueprints.billing.errors import BillRunStopped, BillRunUnderWay
from blueprints.billing.run_reasons import Standout
from core import clock, ids, nightly
from core.db import unit_of_work
from models import Account, Charge, Plan, Subscription, TopUp, UsageBlock
from tests import repeats
from tests.conftest import Portal, together

JULY = date(2026, 7, 1)


def at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 20, tzinfo=UTC)


def run(day: date = JULY, accepted_minor: int | None = None) -> bill_run.Outcome:
    with clock.set_to(at(day)):
        return bill_run.run(bill_run.read_frame(day), accepted_minor=accepted_minor)


def many(ctx: Portal, count: int, price_minor: int = 3000) -> None:
    """Accounts with one subscription of a plan of their own."""

    def work(session: Session) -> None:
        plan = Plan(id=900, code="MANY", kind="internet", name="Many", price_minor=price_minor)
        session.add(plan)
        session.flush()
        accounts = [
            Account(
                public_id=ids.public_id(), number=f"8{number:05d}", name="One of many",
                bill_day=1, opened_on=date(2026, 5, 1), currency="USD",
                billed_through_on=date(2026, 5, 31),
            )
            for number in range(count)
        ]  # fmt: skip
        session.add_all(accounts)
        session.flush()
        session.execute(
            insert(Subscription),
            [
                {"public_id": ids.public_id(), "account_id": account.id, "plan_id": plan.id,
                 "started_on": date(2026, 5, 1), "billed_until_on": date(2026, 6, 1)}
                for account in accounts
            ],
        )  # fmt: skip

    unit_of_work(work)


def test_each_account_is_billed_until_nothing_is_due(ctx: Portal) -> None:
    first = run()
    assert first.invoices > 0
    assert run().invoices == 0
    assert ctx.rows("SELECT count(*) FROM accounts WHERE billed_through_on < '2026-07-01'") == [
        (0,)
    ]
    issued = ctx.one("SELECT count(*) FROM invoices WHERE run_id IS NOT NULL")
    assert issued == first.invoices
    state = ctx.rows("SELECT state, issued_count, issued_minor FROM bill_runs ORDER BY id")
    assert state == [("done", first.invoices, first.total_minor), ("done", 0, 0)]


def test_two_runs_at_once_bill_once(portal: Portal) -> None:
    def one(_number: int) -> int:
        with portal.app.app_context():
            return run().invoices

    results = together(3, one)
    refused = [result for result in results if isinstance(result, BillRunUnderWay)]
    done = [result for result in results if isinstance(result, int)]
    assert len(refused) + len(done) == 3
    assert done
    twice = portal.rows(
        "SELECT account_id, period_from FROM invoices WHERE kind = 'invoice'"
        " GROUP BY account_id, period_from HAVING count(*) > 1"
    )
    assert twice == []
    assert portal.one("SELECT count(*) FROM invoices WHERE run_id IS NOT NULL") == max(done)


def test_run_that_was_killed_is_finished_by_the_next(
    ctx: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after any batch: what it issued stays, the rest follows, nothing comes twice."""
    many(ctx, 40)
    dice = repeats.dice()
    monkeypatch.setattr(bill_run, "FIRST_BATCH", 3)
    monkeypatch.setattr(bill_run, "SMALLEST_BATCH", 3)
    monkeypatch.setattr(bill_run, "LARGEST_BATCH", 3)
    issue_batch = bill_run.issue_batch
    left = dice.randrange(1, 12)

    def dies(*args: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return issue_batch(*args, **more)

    monkeypatch.setattr(bill_run, "issue_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        run()
    with pytest.raises(BillRunUnderWay):
        run()
    with clock.set_to(at(JULY) + 2 * bill_run.LOST_AFTER):
        bill_run.run(bill_run.read_frame(JULY))
    months = ctx.rows(
        "SELECT i.period_from, count(*), count(DISTINCT i.account_id) FROM invoices i"
        " JOIN accounts a ON a.id = i.account_id WHERE a.number LIKE '8%'"
        " GROUP BY i.period_from ORDER BY 1"
    )
    assert [(count, accounts) for _, count, accounts in months] == [(40, 40), (40, 40)]
    assert ctx.rows("SELECT state FROM bill_runs ORDER BY id") == [("stopped",), ("done",)]


def test_run_says_how_far_it_is_while_it_adds_up_and_issues(ctx: Portal) -> None:
    many(ctx, 40)
    said: dict[str, list[tuple[int, int]]] = {"added": [], "issued": []}
    with clock.set_to(at(JULY)):
        bill_run.run(
            bill_run.read_frame(JULY),
            on_added=lambda *how_far: said["added"].append(how_far),
            on_progress=lambda *how_far: said["issued"].append(how_far),
        )
    for told in said.values():
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1] >= 40
    done = ctx.rows("SELECT done_count, account_count FROM bill_runs")
    assert done == [said["issued"][-1]]


def test_a_total_that_stands_out_stops_it_and_can_be_accepted(ctx: Portal) -> None:
    many(ctx, 60)
    run(date(2026, 6, 30))
    ctx.execute("UPDATE plans SET price_minor = price_minor * 2 WHERE code = 'MANY'")
    before = ctx.one("SELECT count(*) FROM invoices")
    with pytest.raises(BillRunStopped) as stopped:
        run()
    assert ctx.one("SELECT count(*) FROM invoices") == before
    found = stopped.value.plan
    assert found.reasons[0].kind is Standout.COSTS_MORE
    assert len(found.differences) == bill_run.DIFFERENCES_SHOWN
    assert found.differences[0].next_minor == 2 * found.differences[0].last_minor
    with pytest.raises(BillRunStopped):
        run(accepted_minor=found.total_minor - 1)
    assert run(accepted_minor=found.total_minor).total_minor == found.total_minor


def test_too_many_items_for_one_stop_it(ctx: Portal) -> None:
    account_id = ctx.world.accounts["alice"]

    def work(session: Session) -> None:
        session.execute(
            insert(Charge),
            [
                {"public_id": ids.public_id(), "account_id": account_id, "is_credit": False,
                 "kind": "", "description": "Again", "reason": "", "amount_minor": 1,
                 "created_at": clock.now()}
                for _ in range(bill_run.MOST_ITEMS)
            ],
        )  # fmt: skip

    unit_of_work(work)
    with pytest.raises(BillRunStopped, match="'number': '1001', 'count': 18"):
        run()


def test_what_one_used_and_bought_of_data_stops_no_run(ctx: Portal) -> None:
    account_id = ctx.world.accounts["alice"]
    line_id = ctx.one("SELECT id FROM lines WHERE account_id = :id", id=account_id)

    def work(session: Session) -> None:
        charges = [
            Charge(
                public_id=ids.public_id(), account_id=account_id, is_credit=False,
                kind="internet", description="Data", reason="", amount_minor=1,
                created_at=clock.now(),
            )
            for _ in range(2 * bill_run.MOST_ITEMS)
        ]  # fmt: skip
        session.add_all(charges)
        session.flush()
        for number, charge in enumerate(charges):
            if number % 2:
                session.add(
                    UsageBlock(
                        line_id=line_id, period_on=date(2026, 6, 1), number=number, count=1,
                        data_bytes=1, charge_id=charge.id,
                    )
                )  # fmt: skip
            else:
                session.add(
                    TopUp(
                        public_id=ids.public_id(), key=ids.public_id(), line_id=line_id,
                        amount_bytes=1, bought_at=clock.now(), expires_on=JULY,
                        charge_id=charge.id,
                    )
                )  # fmt: skip

    unit_of_work(work)
    assert run().invoices > 0
    assert ctx.one("SELECT count(*) FROM charges WHERE invoice_id IS NULL") == 0


def test_what_is_charged_twice_for_a_day_is_seen(ctx: Portal) -> None:
    with clock.set_to(at(JULY)):
        [draft] = unit_of_work(
            lambda session: drafting.draft_next(session, [ctx.world.accounts["alice"]], JULY, 14)
        )
    assert bill_run._billed_twice([draft]) == ""
    doubled = replace(draft, lines=(draft.lines[0], *draft.lines))
    assert bill_run._billed_twice([doubled]) == draft.lines[0].description


def test_plan_is_what_the_run_then_does(ctx: Portal) -> None:
    with clock.set_to(at(JULY)):
        planned = bill_run.plan(bill_run.read_frame(JULY))
    assert ctx.one("SELECT count(*) FROM bill_runs") == 0
    done = run()
    assert (planned.invoices, planned.total_minor) == (done.invoices, done.total_minor)


def test_credits_beyond_the_charges_become_a_credit_note(ctx: Portal) -> None:
    run()
    ctx.execute(
        "UPDATE subscriptions SET ended_on = '2026-07-11' WHERE account_id = :id",
        id=ctx.world.accounts["alice"],
    )
    ctx.execute("UPDATE accounts SET status = 'closed' WHERE number = '1001'")
    balance = ctx.one("SELECT balance_minor FROM accounts WHERE number = '1001'")
    run(date(2026, 8, 1))
    [(number, total)] = ctx.rows(
        "SELECT number, total_minor FROM invoices WHERE kind = 'credit' AND account_id = :id",
        id=ctx.world.accounts["alice"],
    )
    assert number.startswith("CN-2026-")
    assert ctx.one("SELECT balance_minor FROM accounts WHERE number = '1001'") == balance - total
    assert (
        run(date(2026, 9, 1)).invoices == 0
        or ctx.one(
            "SELECT count(*) FROM invoices WHERE account_id = :id AND issued_on > '2026-08-15'",
            id=ctx.world.accounts["alice"],
        )
        == 0
    )


def test_months_that_were_missed_are_billed_one_by_one(ctx: Portal) -> None:
    october = date(2026, 10, 3)
    with pytest.raises(BillRunStopped, match="many_items") as stopped:
        run(october)
    run(october, accepted_minor=stopped.value.plan.total_minor)
    starts = ctx.rows(
        "SELECT period_from FROM invoices WHERE account_id = :id AND kind = 'invoice'"
        " ORDER BY period_from DESC LIMIT 4",
        id=ctx.world.accounts["alice"],
    )
    assert [str(start)[:7] for (start,) in starts] == ["2026-10", "2026-09", "2026-08", "2026-07"]


def test_command_shows_bills_stops_and_accepts(portal: Portal) -> None:
    runner = portal.app.test_cli_runner()
    with portal.app.app_context():
        many(portal, 60)
    as_of = ["--as-of", "2026-06-30"]
    shown = runner.invoke(args=["billing", "run", "--dry-run", *as_of])
    assert shown.exit_code == 0, shown.output
    assert "invoices for" in shown.output
    refused = runner.invoke(args=["billing", "run", *as_of])
    assert refused.exit_code == 1
    assert "--as-of is in the future" in refused.output
    done = runner.invoke(args=["billing", "run", *as_of, "--ahead"])
    assert done.exit_code == 0, done.output
    assert "invoices issued" in done.output
    assert done.output.index("Adding up") < done.output.index("Issuing")
    portal.execute("UPDATE plans SET price_minor = price_minor * 2 WHERE code = 'MANY'")
    july = ["billing", "run", "--as-of", "2026-07-01", "--ahead"]
    stopped = runner.invoke(args=july)
    assert stopped.exit_code == nightly.NOT_AGAIN_TODAY
    assert "Stands out: a subscription would cost" in stopped.output
    accept = stopped.output.split("--accept-total ")[1].split()[0]
    again = runner.invoke(args=[*july, "--accept-total", accept])
    assert again.exit_code == 0, again.output
    wrong = runner.invoke(args=["billing", "run", "--accept-total", "lots"])
    assert "--accept-total takes an amount" in wrong.output
