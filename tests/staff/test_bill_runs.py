"""Bill runs by staff: added up, started once, watched, stopped, accepted, by the worker."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from blueprints.billing import asked_runs, bill_run
from blueprints.billing.errors import BillRunUnderWay
from core import clock, nightly
from core.db import unit_of_work
from core.nightly import ASKED_RUN, Asked
from models import BillRunState
from tests.billing.test_bill_run import many
from tests.billing.test_bill_run import run as run_now
from tests.conftest import Portal, together
from tests.page import FRAGMENT, Page, Visitor

JULY = date(2026, 7, 1)
LIST = "/staff/bill-runs/"
on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"])


@pytest.fixture
def july() -> Any:
    with clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)):
        yield


def work(portal: Portal) -> int:
    """What the worker's process does."""
    with portal.app.app_context():
        return asked_runs.do_asked()


def preview(portal: Portal, visitor: Visitor, day: str = "2026-07-01") -> str:
    """The path of a preview that the worker has made."""
    out = visitor.submit(visitor.get(LIST), "/bill-runs/", day=day)
    assert out.status == 303, out.text
    assert work(portal) >= 1
    return out.location


def start(portal: Portal, visitor: Visitor, path: str) -> str:
    out = visitor.submit(visitor.get(path), path)
    assert out.status == 303, out.text
    return out.location


def issued(portal: Portal) -> int:
    return int(portal.one("SELECT count(*) FROM invoices WHERE run_id IS NOT NULL"))


def facts(page: Page) -> dict[str, str]:
    return {
        row.cssselect("dt")[0].text_content(): row.cssselect("dd")[0].text_content()
        for row in page.select("#bill-run dl div")
    }


def test_preview_shows_what_a_dry_run_does_and_bills_nothing(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    page = ben.get(preview(portal, ben))
    with portal.app.app_context():
        planned = bill_run.plan(bill_run.read_frame(JULY))
    assert f"{planned.invoices} bills" in page.text
    assert "Added up" in page.text
    assert "1001" not in page.text or planned.differences
    assert issued(portal) == 0
    assert portal.one("SELECT planned_minor FROM bill_runs") == planned.total_minor


def test_run_is_started_from_what_was_seen_and_bills_once(portal: Portal, july: None) -> None:
    ben, ada = portal.visitor("ben"), portal.visitor("ada")
    path = preview(portal, ben)
    first = start(portal, ben, path)
    assert start(portal, ada, path) == first  # while it waits it is the same run
    assert issued(portal) == 0
    work(portal)
    assert issued(portal) > 0
    page = ben.get(first)
    assert "Done" in page.text
    assert facts(page)["Bills issued"] == str(issued(portal))
    assert not page.select("#bill-run[hx-get]")
    assert portal.rows("SELECT kind FROM activity WHERE kind LIKE 'bill_run%' ORDER BY id") == [
        ("bill_run_asked",), ("bill_run_asked",), ("bill_run_done",),
    ]  # fmt: skip


def test_two_who_press_at_once_start_one(portal: Portal, july: None) -> None:
    path = preview(portal, portal.visitor("ben"))
    public_id = path.rsplit("/", 1)[1]

    def one(number: int) -> str:
        by_id = portal.world.customers["ben" if number % 2 else "ada"]
        with portal.app.app_context():
            return unit_of_work(lambda session: asked_runs.ask_run(session, public_id, by_id))

    assert len({str(result) for result in together(6, one)}) == 1
    assert portal.one("SELECT count(*) FROM bill_runs WHERE NOT is_preview") == 1


def test_form_sent_twice_starts_one(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    path = preview(portal, ben)
    page = ben.get(path)
    outs = [ben.submit(page, path) for _ in range(2)]
    work(portal)
    outs.append(ben.submit(page, path))
    assert len({out.location for out in outs}) == 1
    assert portal.one("SELECT count(*) FROM bill_runs WHERE NOT is_preview") == 1


def test_total_that_stands_out_is_accepted_from_its_page(portal: Portal, july: None) -> None:
    with portal.app.app_context():
        many(portal, 60)
        run_now(date(2026, 6, 30))
    portal.execute("UPDATE plans SET price_minor = price_minor * 2 WHERE code = 'MANY'")
    before = issued(portal)
    ben = portal.visitor("ben")
    page = ben.get(preview(portal, ben))
    assert "This stands out" in page.text
    assert "a subscription would cost $" in page.text
    assert len(page.select("a[href*='/staff/accounts/']")) == bill_run.DIFFERENCES_SHOWN
    assert "Accept $" in page.text
    # What was seen is not what is billed: the price moves once more, and the run stops.
    path = start(portal, ben, page.select("form[method=post]")[1].get("action"))
    portal.execute("UPDATE plans SET price_minor = price_minor + 1 WHERE code = 'MANY'")
    work(portal)
    assert issued(portal) == before
    stopped = ben.get(path)
    assert "It stopped: What it would bill stands out." in stopped.text
    portal.execute("UPDATE customers SET language = 'fr' WHERE name LIKE 'Ben%'")
    en_francais = ben.get(path).text
    assert "Ce qu’elle allait facturer sort de l’ordinaire." in en_francais
    assert "un abonnement coûterait en moyenne" in en_francais
    portal.execute("UPDATE customers SET language = 'en' WHERE name LIKE 'Ben%'")
    work_on = start(portal, ben, path)
    work(portal)
    assert "Done" in ben.get(work_on).text
    assert issued(portal) > before + 50


def test_running_run_stops_between_batches_and_says_so(
    portal: Portal, july: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with portal.app.app_context():
        many(portal, 20)
    monkeypatch.setattr(bill_run, "FIRST_BATCH", 3)
    monkeypatch.setattr(bill_run, "SMALLEST_BATCH", 3)
    monkeypatch.setattr(bill_run, "LARGEST_BATCH", 3)
    issue_batch = bill_run.issue_batch
    ben = portal.visitor("ben")
    path = start(portal, ben, preview(portal, ben))
    page = ben.get(path)

    def pressed(*args: Any, **more: Any) -> Any:
        result = issue_batch(*args, **more)
        with_stop.append(1)
        return result

    with_stop: list[int] = []
    monkeypatch.setattr(bill_run, "issue_batch", pressed)
    issue_due = bill_run._issue_due

    def then_stop(*args: Any) -> Any:
        for number, found in enumerate(issue_due(*args)):
            if number == 1:
                ben.submit(page, "/stop")
                assert "It stops after" in ben.get(path).text
            yield found

    monkeypatch.setattr(bill_run, "_issue_due", then_stop)
    work(portal)
    assert len(with_stop) == 2
    stopped = ben.get(path)
    assert "stopped it. What it has issued stays" in stopped.text
    assert 0 < issued(portal) < 20
    monkeypatch.undo()
    again = start(portal, ben, path)
    work(portal)
    assert "Done" in ben.get(again).text
    assert portal.one("SELECT count(*) FROM accounts WHERE billed_through_on < '2026-07-01'") == 0


def test_run_that_waits_is_stopped_at_once(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    path = start(portal, ben, preview(portal, ben))
    ben.submit(ben.get(path), "/stop")
    assert work(portal) == 0
    assert "Stopped" in ben.get(path).text
    assert issued(portal) == 0


def test_poll_is_answered_when_there_is_news_and_stops_at_the_end(
    portal: Portal, july: None
) -> None:
    ben = portal.visitor("ben")
    path = start(portal, ben, preview(portal, ben))
    [polls] = ben.get(path).select("#bill-run")
    assert polls.get("hx-trigger") == "every 2s"
    assert ben.get(polls.get("hx-get"), headers=FRAGMENT).status == 204
    assert ben.get(path).select(f"a[href='{path}']")[0].text == "Check again"
    work(portal)
    news = ben.get(polls.get("hx-get"), headers=FRAGMENT)
    assert news.status == 200
    assert not news.select("h1")
    assert not news.select("[hx-get]")


def test_killed_run_is_said_to_be_and_goes_on(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    path = start(portal, ben, preview(portal, ben))
    portal.execute("UPDATE bill_runs SET state = 'running' WHERE NOT is_preview")
    with clock.set_to(clock.now() + 2 * bill_run.LOST_AFTER):
        assert "It was killed." in ben.get(path).text
        again = start(portal, ben, path)
        assert again != path
        work(portal)
        assert "Done" in ben.get(again).text


@on_sqlite
def test_day_that_has_not_come_can_be_seen_and_not_billed(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    path = preview(portal, ben, "2026-07-02")
    page = ben.get(path)
    assert "They can be issued when the day has come." in page.text
    guard = dict(ben.get(LIST).form("/bill-runs/")[1])
    out = ben.post(path, guard)
    assert out.status == 409
    assert portal.one("SELECT count(*) FROM bill_runs WHERE NOT is_preview") == 0


@on_sqlite
@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("", "Choose a day."),
        ("soon", "Enter the day like"),
        ("2026-01-01", "Choose a day from"),
        ("2027-01-01", "Choose a day from"),
    ],
)
def test_day_that_makes_no_sense_is_refused(
    portal: Portal, july: None, day: str, said: str
) -> None:
    ben = portal.visitor("ben")
    out = ben.submit(ben.get(LIST), "/bill-runs/", day=day)
    assert out.status == 422
    assert said in out.text


@on_sqlite
def test_another_days_preview_waits_its_turn(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    for day, status in (("2026-07-01", 303), ("2026-06-30", 409), ("2026-07-01", 303)):
        assert ben.submit(ben.get(LIST), "/bill-runs/", day=day).status == status


@on_sqlite
def test_start_asks_for_the_password_once_more(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    path = preview(portal, ben)
    with clock.set_to(clock.now() + timedelta(minutes=15)):
        out = ben.submit(ben.get(path), path)
        assert out.location.startswith("/confirm?next=%2Fstaff%2Fbill-runs%2F")
    assert portal.one("SELECT count(*) FROM bill_runs WHERE NOT is_preview") == 0


@on_sqlite
@pytest.mark.parametrize(("who", "status"), [("sue", 403), ("tess", 403), ("ada", 200)])
def test_only_who_bills_sees_it(portal: Portal, who: str, status: int) -> None:
    assert portal.visitor(who).get(LIST).status == status


def test_run_waits_for_one_that_nobody_asked_for(portal: Portal, july: None) -> None:
    ben = portal.visitor("ben")
    path = start(portal, ben, preview(portal, ben))
    with portal.app.app_context():
        going_on = bill_run._begin(bill_run.read_frame(JULY), None)
        with pytest.raises(BillRunUnderWay):
            asked_runs.do_asked()
        assert "Waits" in ben.get(path).text
        bill_run._end(going_on, BillRunState.DONE)
        assert asked_runs.do_asked() == 1


def test_worker_begins_what_is_asked_for(
    portal: Portal, july: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that it begins is the command, which does the same."""
    monkeypatch.setattr(nightly, "LOOK_FOR_ASKED_SECONDS", 0.0)
    begun: list[Any] = []

    class Ended:
        def poll(self) -> int:
            return 0

    def begin(job: Any, _said: Any) -> Any:
        begun.append(job.command)
        return Ended()

    with portal.app.app_context():
        duty = Asked(ASKED_RUN, portal.settings, begin)
        assert duty() == 0
        ben = portal.visitor("ben")
        ben.submit(ben.get(LIST), "/bill-runs/", day="2026-07-01")
        assert duty() == 1
        assert begun == [("billing", "run", "--asked")]
        with clock.set_to(clock.now() + timedelta(seconds=1)):
            # Asked for while the process runs: it is begun once more.
            unit_of_work(lambda session: nightly.ask(session, ASKED_RUN))
            assert duty() == 1
            assert duty() == 1
        with clock.set_to(clock.now() + timedelta(seconds=2)):
            assert duty() == 1
            assert duty() == 0
    done = portal.app.test_cli_runner().invoke(args=["billing", "run", "--asked"])
    assert done.exit_code == 0, done.output
    assert "1 asked for and done." in done.output
