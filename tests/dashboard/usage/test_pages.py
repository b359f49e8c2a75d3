"""The pages of usage as they are asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from core.downloads import BYTE_ORDER_MARK
from tests.conftest import Portal
from tests.dashboard.usage.carried import GB, carry, connect, include, line_of, read
from tests.page import FRAGMENT
from tests.world import NOW

PAGES = ("usage/", "usage/months", "usage/sessions", "usage/csv")


@pytest.mark.parametrize("name", ["alice", "bob", "vera", "theo"])
def test_whoever_shares_the_account_sees_what_its_line_carried(portal: Portal, name: str) -> None:
    include(portal, 300 * GB)
    carry(portal, date(2026, 6, 3), [(2 * GB, 58 * GB)])
    read(portal)
    text = portal.visitor(name).get(portal.path("usage/")).text
    for words in ("60 GB used of 300 GB in Fiber 300", "Left240 GB", "At this pace by the end"):
        assert words in text
    assert "94.7 GB" in text, "60 GB in 19 days"
    assert "Days left11" in text
    assert "As of Jun 20, 2026, 12:00 PM" in text


@pytest.mark.parametrize("rest", PAGES)
def test_strangers_find_nothing(portal: Portal, rest: str) -> None:
    carry(portal, date(2026, 6, 3), [(1, 1)])
    assert portal.visitor("mallory").get(portal.path(rest)).status == 404
    assert portal.visitor().get(portal.path(rest)).status == 303
    line = portal.visitor("mallory").get(portal.path(rest, "mallory"), line="aliceline00")
    assert line.status == 404


def test_plan_without_a_limit_says_so(portal: Portal) -> None:
    carry(portal, date(2026, 6, 3), [(0, GB)])
    page = portal.visitor("alice").get(portal.path("usage/"))
    assert "used; Fiber 300 has no limit" in page.text
    assert not page.select("progress")
    assert "Left" not in page.text.replace("Days left", "")


def test_beyond_what_is_included(portal: Portal) -> None:
    include(portal, 10 * GB)
    carry(portal, date(2026, 6, 3), [(0, 12 * GB)])
    page = portal.visitor("alice").get(portal.path("usage/"))
    assert "Beyond what is included2 GB" in page.text
    [bar] = page.select("progress")
    assert (bar.get("value"), bar.text) == ("100", "120 %")


def test_line_of_which_nothing_was_reported(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert "The network has reported nothing yet." in alice.get(portal.path("usage/")).text
    assert "Nothing was used yet" in alice.get(portal.path("usage/months")).text
    assert "not connected yet" in alice.get(portal.path("usage/sessions")).text


def test_account_without_a_line(portal: Portal) -> None:
    portal.execute("UPDATE subscriptions SET line_id = NULL")
    portal.execute("DELETE FROM lines WHERE username = 'ppp-alice'")
    for rest in PAGES:
        page = portal.visitor("alice").get(portal.path(rest))
        assert "No line runs on this account" in page.text


def test_network_that_is_away_is_said_and_the_rest_goes_on(portal: Portal) -> None:
    carry(portal, date(2026, 6, 3), [(0, GB)])
    read(portal, NOW - timedelta(hours=2), "no answer")
    text = portal.visitor("alice").get(portal.path("usage/")).text
    assert "As of Jun 20, 2026, 10:00 AM. We cannot read the network at the moment" in text
    assert "1 GB" in text


def test_press_on_a_day_opens_its_hours(portal: Portal) -> None:
    carry(portal, date(2026, 6, 3), [(0, 0)] * 22 + [(GB, 2 * GB)])
    alice = portal.visitor("alice")
    page = alice.get(portal.path("usage/"))
    assert "Choose a day to see its hours." in page.text
    [link] = [each for each in page.select("a[hx-get]") if "Jun 3" in each.text_content()]
    assert link.get("href") == link.get("hx-get")
    address = link.get("href").removesuffix("#hours")
    fragment = alice.get(address, headers=FRAGMENT)
    assert fragment.tree.get("id") == "hours"
    rows = [" ".join(row.text_content().split()) for row in fragment.select("tbody tr")]
    assert len(rows) == 23
    assert rows[-1] == "10:00 PM2 GB1 GB"
    whole = alice.get(address).select("#hours")[0]
    assert " ".join(whole.text_content().split()) == fragment.text


def test_earlier_bill_periods_are_led_to(portal: Portal) -> None:
    carry(portal, date(2026, 5, 1), [(GB, 2 * GB)])
    carry(portal, date(2026, 5, 31), [(0, 5 * GB)])
    carry(portal, date(2026, 6, 1), [(0, 9 * GB)])
    alice = portal.visitor("alice")
    page = alice.get(portal.path("usage/"))
    [earlier] = page.select("nav.pager a")
    page = alice.get(earlier.get("href"))
    assert "May 1, 2026 – May 31, 2026 8 GB" in page.text
    assert "Days left" not in page.text
    assert len(page.select("table tbody tr")) == 31
    [link] = [each for each in page.select("a[hx-get]") if "May 31" in each.text_content()]
    opened = alice.get(link.get("href").removesuffix("#hours"))
    assert "May 1, 2026 – May 31, 2026" in opened.text
    assert "12:00 AM" in opened.text
    later, before = page.select("nav.pager a")
    assert "Apr 1, 2026" in alice.get(before.get("href")).text
    assert "Days left" in alice.get(later.get("href")).text


@pytest.mark.parametrize("on", ["2019-01-01", "2027-01-01", "soon", "2026-06-01"])
def test_period_that_is_not_kept_is_the_one_that_runs(portal: Portal, on: str) -> None:
    page = portal.visitor("alice").get(portal.path(f"usage/?on={on}"))
    assert "Days left" in page.text


@pytest.mark.parametrize(
    "day", ["2026-06-02", "2025-06-01", "2019-01-01", "2026-07-01", "soon", ""]
)
def test_day_without_hours_is_answered(portal: Portal, day: str) -> None:
    page = portal.visitor("alice").get(portal.path("usage/"), day=day)
    assert page.status == 200
    is_day = day in ("2026-06-02", "2025-06-01")
    assert ("its hours are no longer kept" in page.text) == is_day


def test_several_lines_are_chosen_between(portal: Portal) -> None:
    portal.execute(
        "INSERT INTO lines (public_id, account_id, username, is_closed, wanted_state, sync_count,"
        " sync_failure) VALUES ('second', :id, 'ppp-second', FALSE, 'open', 0, '')",
        id=portal.world.accounts["alice"],
    )
    carry(portal, date(2026, 6, 3), [(0, GB)])
    carry(portal, date(2026, 6, 3), [(0, 7 * GB)], line_of(portal, "second"))
    alice = portal.visitor("alice")
    first, second = (alice.get(portal.path(f"usage/{query}")) for query in ("", "?line=second"))
    assert [link.text_content() for link in first.select("nav.filters a")] == [
        "ppp-alice", "ppp-second",
    ]  # fmt: skip
    assert "1 GB" in first.text
    assert "7 GB" in second.text
    for link in second.select("main a[href*='/usage/']"):
        assert "line=second" in link.get("href"), "what follows is about the same line"
    assert "7,000,000,000" not in second.text
    csv = alice.get(portal.path("usage/csv"), line="second")
    assert "2026-06-03,0,7000000000,7000000000" in csv.text


def test_file_has_each_day_in_bytes(portal: Portal) -> None:
    for day, up, down in ((1, 1, 2), (3, 123_456_789, 2**40)):
        carry(portal, date(2026, 6, day), [(up, down)])
    carry(portal, date(2026, 5, 31), [(9, 9)])
    path = portal.path("usage/csv?from=2026-06-01&to=2026-06-30")
    answer = portal.visitor("alice").get(path)
    assert answer.text == (
        BYTE_ORDER_MARK + "day,up_bytes,down_bytes,total_bytes\r\n"
        "2026-06-01,1,2,3\r\n"
        f"2026-06-03,123456789,{2**40},{2**40 + 123_456_789}\r\n"
    )
    assert answer.response.headers["Content-Disposition"] == (
        "attachment; filename=usage_2026-06-01_2026-06-30.csv"
    )


def test_file_without_a_span_is_that_of_a_year(portal: Portal) -> None:
    carry(portal, date(2025, 6, 20), [(1, 1)])
    carry(portal, date(2025, 6, 21), [(2, 2)])
    text = portal.visitor("alice").get(portal.path("usage/csv")).text
    assert text.endswith("2025-06-21,2,2,4\r\n")
    assert "2025-06-20" not in text


@pytest.mark.parametrize("span", ["from=soon", "from=2026-06-02&to=2026-06-01"])
def test_span_that_is_none_is_refused_where_it_is_typed(portal: Portal, span: str) -> None:
    carry(portal, date(2026, 6, 3), [(1, 1)])
    page = portal.visitor("alice").get(portal.path(f"usage/csv?{span}"))
    assert page.status == 422
    assert page.select("[aria-invalid=true]")
    assert "June 2026" in page.text


def test_months_and_sessions(portal: Portal) -> None:
    connect(
        portal,
        datetime(2026, 6, 3, 19, tzinfo=UTC),
        90,
        4 * GB,
        address="100.64.0.9",
        device="02:00:5e:00:53:01",
    )
    alice = portal.visitor("alice")
    assert "June 20264 GB1 GB" in alice.get(portal.path("usage/months")).text
    text = alice.get(portal.path("usage/sessions")).text
    assert "Jun 3, 2026, 12:00 PM" in text
    assert "100.64.0.9 · …53:014 GB1 GB" in text
    assert "02:00" not in text, "of a device only the end is shown"


def test_texts_of_the_network_are_printed_and_never_run(portal: Portal) -> None:
    canary = "<script>canary</script>{{7*7}}"
    at = datetime(2026, 6, 3, 19, tzinfo=UTC)
    connect(portal, at, 90, GB, address=canary, device=canary)
    page = portal.visitor("alice").get(portal.path("usage/sessions"))
    assert "<script>canary" not in page.source
    assert canary in page.text


def test_home_leads_to_usage(portal: Portal) -> None:
    home = portal.visitor("theo").get(portal.path())
    assert home.select(f"main a[href='{portal.path('usage/')}']")
