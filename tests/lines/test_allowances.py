"""Beyond what is included: top-ups first, then by the plan's rule; each thing once, on both
databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy.orm import Session

from blueprints.billing.periods import Span
from blueprints.lines.allowances import deciding, rules, watching
from blueprints.lines.allowances.rules import Count, KnownTopUp, Mark
from tests import repeats, world
from tests.conftest import Portal, together
from tests.dashboard.told import letters
from tests.dashboard.usage.carried import GB, carry, include, line_of
from tests.lines.conftest import Street
from tests.lines.test_watching import use
from tests.page import Visitor

JUNE, JULY = date(2026, 6, 1), date(2026, 7, 1)


def top_up(number: int, amount: int, **more: object) -> KnownTopUp:
    facts: dict[str, object] = {
        "bought_on": date(2026, 6, 10), "expires_on": date(2026, 7, 10), "uses": {},
    }  # fmt: skip
    return KnownTopUp(number, amount, **(facts | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "open_bytes", "day", "uses", "rest"),
    [
        ([], 10, date(2026, 6, 20), {}, 10),
        ([top_up(1, 50)], 0, date(2026, 6, 20), {}, 0),
        ([top_up(1, 50)], 30, date(2026, 6, 20), {1: 30}, 0),
        ([top_up(1, 50)], 80, date(2026, 6, 20), {1: 50}, 30),
        # What expires first is used first.
        ([top_up(1, 50), top_up(2, 50, expires_on=date(2026, 7, 1))], 60, date(2026, 6, 20),
         {2: 50, 1: 10}, 0),
        # What was used before is not there any more, in this period or another.
        ([top_up(1, 50, uses={JUNE: 20, JULY: 5})], 60, date(2026, 7, 5), {1: 25}, 35),
        ([top_up(1, 50, uses={JUNE: 50})], 60, date(2026, 7, 5), {}, 60),
        # It lasts until the end of its last day.
        ([top_up(1, 50)], 60, date(2026, 7, 10), {1: 50}, 10),
        ([top_up(1, 50)], 60, date(2026, 7, 11), {}, 60),
        # June is over; what was bought in July does not count for it.
        ([top_up(1, 50, bought_on=date(2026, 7, 1))], 60, date(2026, 6, 30), {}, 60),
    ],
)  # fmt: skip
def test_top_ups_are_spent_first(
    known: list[KnownTopUp], open_bytes: int, day: date, uses: dict[int, int], rest: int
) -> None:
    assert rules.spend(known, open_bytes, day) == (uses, rest)


@pytest.mark.parametrize(("over", "blocks"), [(0, 0), (1, 1), (50, 1), (51, 2), (150, 3)])
def test_blocks_that_are_begun(over: int, blocks: int) -> None:
    assert rules.blocks_of(over, 50) == blocks


# Plans within a period ------------------------------------------------------------------------

SPAN = Span(JUNE, JULY)


def change(count: Count, day: int, plan_bytes: int | None, covered_bytes: int = 0) -> Count:
    return count.follow(plan_bytes, date(2026, 6, day), covered_bytes)


def carrying(count: Count, more_bytes: int) -> Count:
    return replace(count, carried_bytes=count.carried_bytes + more_bytes)


def test_each_plan_includes_its_share_by_days() -> None:
    count = carrying(Count(SPAN, 300, 0, Mark(JUNE)), 200)
    assert (count.included_bytes, count.used_bytes, count.over_bytes) == (300, 200, 0)
    count = change(count, 21, 3000)
    assert count.included_bytes == 200 + 1000
    count = carrying(change(count, 26, 300), 100)
    assert (count.included_bytes, count.over_bytes) == (200 + 500 + 50, 0)


def test_change_takes_nothing_back_that_was_included_and_gives_nothing_anew() -> None:
    count = change(carrying(Count(SPAN, 3000, 0, Mark(JUNE)), 2400), 21, 300)
    assert (count.included_bytes, count.over_bytes) == (2400, 0)
    assert carrying(count, 1).over_bytes == 1
    assert change(count, 21, 3000).included_bytes == 3000


def test_without_a_limit_nothing_counts_and_nothing_is_forgotten() -> None:
    count = carrying(Count(SPAN, 300, 0, Mark(JUNE)), 350)
    free = carrying(change(count, 11, None), 9_000)
    assert (free.over_bytes, free.used_bytes) == (50, 350)
    back = change(free, 11, 300)
    assert (back.included_bytes, back.used_bytes, back.over_bytes) == (300, 350, 50)
    later = change(free, 21, 300)
    assert (later.included_bytes, later.over_bytes) == (300, 50), "350 less 50 had been included"
    assert carrying(later, 7).over_bytes == 57


def test_changing_to_and_fro_gains_nothing() -> None:
    """However plans follow each other, a plan that comes back on its day finds what it left, and
    no more is included than the plans do by the days on which each was in use."""
    dice = repeats.dice()
    for _ in range(20 * repeats.REPEATS):
        plans = [dice.choice((None, dice.randrange(1, 5000))) for _ in range(3)]
        count = Count(SPAN, plans[0], 0, Mark(JUNE))
        in_use: list[int | None] = []
        for day in sorted(dice.choices(range(1, 31), k=dice.randrange(1, 12))):
            in_use += [count.plan_bytes] * (day - 1 - len(in_use))
            count = carrying(count, dice.randrange(0, 900))
            was = change(change(count, day, dice.choice(plans)), day, count.plan_bytes)
            assert (was.over_bytes, was.used_bytes) == (count.over_bytes, count.used_bytes)
            plan_bytes = dice.choice(plans)
            if not count.would_gain(plan_bytes, date(2026, 6, day)):
                count = change(count, day, plan_bytes)
            assert 0 <= count.used_bytes <= count.carried_bytes
            if count.plan_bytes is not None:
                by_days = [each or 0 for each in in_use]
                by_days += [count.plan_bytes] * (30 - len(by_days))
                assert count.used_bytes - count.over_bytes <= sum(by_days) // 30


def test_whatever_follows_each_byte_is_paid_for_once() -> None:
    """Of plans that charge byte by byte and such as do nothing: what is counted and not charged is
    within what the plans include by days; nothing is charged because of a change alone."""
    dice = repeats.dice()
    for _ in range(20 * repeats.REPEATS):
        plans = [(dice.choice((None, dice.randrange(1, 5000))), True) for _ in range(3)]
        if dice.random() < 0.3:
            plans.append((dice.randrange(1, 5000), False))
        (plan_bytes, is_charging), charged, has_free = plans[0], 0, False
        count = Count(SPAN, plan_bytes, 0, Mark(JUNE))
        in_use: list[int | None] = []

        def left_to_charge(count: Count, charged: int) -> int:
            if count.plan_bytes is None:
                return 0
            return max(0, count.over_bytes - charged - count.mark.spared_bytes)

        for day in sorted(dice.choices(range(1, 31), k=dice.randrange(1, 12))):
            in_use += [count.plan_bytes] * (day - 1 - len(in_use))
            count = carrying(count, dice.randrange(0, 900))
            if is_charging:
                charged += left_to_charge(count, charged)
            has_free = has_free or not is_charging
            wanted = dice.choice(plans)
            if not count.would_gain(wanted[0], date(2026, 6, day)):
                count, is_charging = change(count, day, wanted[0], charged), wanted[1]
                assert left_to_charge(count, charged) == 0
            assert charged <= count.used_bytes
            if count.plan_bytes is not None and not has_free:
                by_days = [each or 0 for each in in_use]
                by_days += [count.plan_bytes] * (30 - len(by_days))
                assert count.used_bytes - charged <= sum(by_days) // 30


def sell(portal: Portal, rule: str = "charge") -> None:
    """100 GB are included; beyond them the rule, and 20 GB more for 5.00 for ten days."""
    include(portal, 100 * GB)
    portal.execute(
        "UPDATE plans SET over_rule = :rule, overage_minor = 1000, overage_bytes = :block,"
        " slow_down_kbps = 1000, slow_up_kbps = 500, top_up_bytes = :more, top_up_minor = 500,"
        " top_up_days = 10 WHERE kind = 'internet'",
        rule=rule,
        block=50 * GB,
        more=20 * GB,
    )


def charges(portal: Portal) -> list[tuple[int, str]]:
    return [
        (minor, description)
        for minor, description in portal.rows(
            "SELECT amount_minor, description FROM charges ORDER BY id"
        )
    ]


def told(portal: Portal) -> list[object]:
    return [facts["what"] for _to, facts in letters(portal, "usage_alert")]


def line(portal: Portal) -> tuple[object, ...]:
    [row] = portal.rows(
        "SELECT wanted_state, slow_down_kbps, slow_up_kbps, CAST(limited_until_on AS text)"
        " FROM lines WHERE username = 'ppp-alice'"
    )
    return row


# Charged by the block -----------------------------------------------------------------------


def test_each_block_is_charged_once(ctx: Portal) -> None:
    sell(ctx)
    for minutes, to_gb in enumerate((100, 101, 120, 120, 150, 151, 151)):
        use(ctx, to_gb, minutes=minutes)
        watching.look()
        watching.look()
    assert charges(ctx) == [(1000, "50 GB beyond what Fiber 300 includes")] * 2
    assert ctx.one("SELECT count(*) FROM usage_blocks") == 2
    assert told(ctx) == ["alert", "charged", "charged"]
    [_alert, (_to, facts), _more] = letters(ctx, "usage_alert")
    assert (facts["amount_minor"], facts["data_bytes"]) == (1000, 50 * GB)


def test_several_blocks_at_once_are_one_charge(ctx: Portal) -> None:
    sell(ctx)
    use(ctx, 260)
    watching.look()
    assert charges(ctx) == [(4000, "200 GB beyond what Fiber 300 includes")]
    assert ctx.rows("SELECT number, count, data_bytes FROM usage_blocks") == [(1, 4, 200 * GB)]


def test_charge_joins_the_next_bill(ctx: Portal) -> None:
    sell(ctx)
    use(ctx, 130)
    watching.look()
    [invoice_id] = world.issue_month(ctx.world, ("alice",), JULY)
    rows = ctx.rows(
        "SELECT amount_minor FROM invoice_lines WHERE invoice_id = :id AND description LIKE '50%'",
        id=invoice_id,
    )
    assert rows == [(1000,)]
    assert ctx.one("SELECT count(*) FROM charges WHERE invoice_id IS NULL") == 0


def test_report_that_comes_after_the_period_still_counts_for_it(
    ctx: Portal, tick: Callable[..., None]
) -> None:
    sell(ctx)
    carry(ctx, date(2026, 6, 30), [(0, 90 * GB)])
    tick(days=11)
    carry(ctx, date(2026, 6, 30), [(0, 20 * GB)])
    use(ctx, 1)
    watching.look()
    assert ctx.rows("SELECT CAST(period_on AS text), number FROM usage_blocks") == [
        ("2026-06-01", 1)
    ]
    assert told(ctx) == ["charged"]
    assert line(ctx) == ("open", None, None, None)


def test_charge_that_staff_cancel_is_not_made_again(ctx: Portal) -> None:
    sell(ctx)
    use(ctx, 130)
    watching.look()
    ctx.execute("UPDATE charges SET cancelled_at = created_at")
    use(ctx, 131, minutes=1)
    watching.look()
    assert len(charges(ctx)) == 1


def test_no_more_is_charged_in_a_period_than_the_rules_say(ctx: Portal) -> None:
    sell(ctx)
    use(ctx, 130)
    watching.look()
    carry(ctx, date(2026, 6, 20), [(0, (10**6 - 130) * GB)])
    watching.look()
    watching.look()
    carry(ctx, date(2026, 6, 20), [(0, 100 * GB)])
    watching.look()
    assert [minor for minor, _description in charges(ctx)] == [1000, 19_000]
    blocks = ctx.rows("SELECT number, count, charge_id IS NULL FROM usage_blocks ORDER BY number")
    assert [(number, count, bool(is_not)) for number, count, is_not in blocks] == [
        (1, 1, False), (2, 19, False), (21, 19_980, True),
    ]  # fmt: skip


def test_line_that_fails_holds_up_no_other(ctx: Portal, tick: Callable[..., None]) -> None:
    sell(ctx)
    use(ctx, 130)
    use(ctx, 130, "mallory", "s2")
    with pytest.MonkeyPatch.context() as patch:
        charge = deciding.add_charge

        def fails(session: Session, account_id: int, *more: Any) -> int:
            if account_id == ctx.world.accounts["alice"]:
                raise OverflowError
            return charge(session, account_id, *more)

        patch.setattr(deciding, "add_charge", fails)
        assert watching.look() == 2
        assert len(charges(ctx)) == 1
        assert watching.look() == 0, "it is tried again later"
    tick(minutes=6)
    assert watching.look() == 1
    assert len(charges(ctx)) == 2


def test_two_workers_at_once_charge_once(ctx: Portal) -> None:
    sell(ctx)
    use(ctx, 260)

    def work(_number: int) -> int:
        with ctx.app.app_context():
            return watching.look()

    assert not [each for each in together(4, work) if isinstance(each, Exception)]
    assert [minor for minor, _description in charges(ctx)] == [4000]


# Slowed down, stopped -----------------------------------------------------------------------


def test_line_is_slowed_down_until_the_period_ends(ctx: Portal, tick: Callable[..., None]) -> None:
    sell(ctx, "slow")
    use(ctx, 100)
    watching.look()
    assert line(ctx) == ("open", None, None, None)
    ctx.execute("UPDATE lines SET sync_at = NULL")
    for minutes in (1, 2):
        use(ctx, 100 + minutes, minutes=minutes)
        watching.look()
    assert line(ctx) == ("open", 1000, 500, "2026-07-01")
    assert ctx.one("SELECT count(*) FROM lines WHERE sync_at IS NOT NULL") == 1
    assert told(ctx) == ["alert", "slowed"]
    tick(days=11)
    watching.Watching()()
    assert line(ctx) == ("open", None, None, None)
    assert charges(ctx) == []
    assert ctx.rows("SELECT kind FROM activity WHERE kind LIKE 'line_%' ORDER BY id") == [
        ("line_slowed",), ("line_unslowed",),
    ]  # fmt: skip


def test_network_is_told_the_slow_speeds_and_the_former_ones(
    street: Street, tick: Callable[..., None]
) -> None:
    portal = street.portal
    sell(portal, "slow")
    use(portal, 101)
    watching.look()
    street.sync()
    tick(days=11)
    watching.Watching()()
    street.sync()
    speeds = [(wanted.down_kbps, wanted.up_kbps) for _name, wanted, _was in street.network.calls]
    assert speeds[-2:] == [(1000, 500), (300_000, 300_000)]
    assert street.column("sync_at") is None


def test_line_is_stopped_until_the_period_ends(ctx: Portal, tick: Callable[..., None]) -> None:
    sell(ctx, "stop")
    use(ctx, 101)
    watching.look()
    watching.look()
    assert line(ctx) == ("held", None, None, "2026-07-01")
    assert told(ctx) == ["stopped"]
    tick(days=11)
    watching.Watching()()
    assert line(ctx) == ("open", None, None, None)


def test_line_that_is_held_for_something_else_stays_so(
    ctx: Portal, tick: Callable[..., None]
) -> None:
    sell(ctx, "stop")
    use(ctx, 101)
    watching.look()
    ctx.execute(
        "INSERT INTO line_holds (line_id, reason, since_at) VALUES (:id, 'unpaid', :at)",
        id=line_of(ctx),
        at="2026-06-20 19:00:00",
    )
    tick(days=11)
    watching.Watching()()
    assert line(ctx) == ("held", None, None, None)


def test_plan_without_a_limit_ends_it(ctx: Portal, tick: Callable[..., None]) -> None:
    sell(ctx, "slow")
    use(ctx, 101)
    watching.look()
    include(ctx, None)
    tick(days=11)
    watching.Watching()()
    assert line(ctx) == ("open", None, None, None)


# Bought besides -----------------------------------------------------------------------------


def buy(portal: Portal, visitor: Visitor | None = None) -> Visitor:
    visitor = visitor or portal.visitor("alice")
    answer = visitor.submit(visitor.get(portal.path("usage/top-up")), "/top-up")
    assert answer.status == 303, answer.text
    assert "The data is there at once" in visitor.get(answer.location).text
    return visitor


def test_top_up_in_two_presses(portal: Portal) -> None:
    sell(portal)
    use(portal, 90)
    alice = portal.visitor("alice")
    [link] = alice.get(portal.path("usage/")).select("main a[href$='/top-up']")
    page = alice.get(link.get("href"))
    assert "Buy 20 GB for $5.00" in page.text
    assert "Can be used untilJun 30, 2026" in page.text
    buy(portal, alice)
    assert charges(portal) == [(500, "20 GB more data")]
    text = alice.get(portal.path("usage/")).text
    assert "Bought besides, until Jun 30, 202620 GB" in text
    use(portal, 105, minutes=1)
    assert "until Jun 30, 202615 GB" in alice.get(portal.path("usage/")).text


def test_top_up_counts_before_overage(portal: Portal) -> None:
    sell(portal)
    buy(portal)
    for minutes, (to_gb, count) in enumerate(((119, 0), (120, 0), (121, 1))):
        use(portal, to_gb, minutes=minutes)
        with portal.app.app_context():
            watching.look()
        assert portal.one("SELECT count(*) FROM usage_blocks") == count


def test_top_up_opens_a_stopped_line_at_once(portal: Portal) -> None:
    sell(portal, "stop")
    use(portal, 110)
    with portal.app.app_context():
        watching.look()
    alice = portal.visitor("alice")
    assert "the data of your plan is used up" in alice.get(portal.path()).text
    buy(portal, alice)
    assert line(portal) == ("open", None, None, None)
    use(portal, 121, minutes=1)
    with portal.app.app_context():
        watching.look()
    assert line(portal)[0] == "held"


def test_block_that_was_charged_does_not_use_up_what_is_bought_later(portal: Portal) -> None:
    sell(portal)
    for minutes, to_gb in enumerate((101, 150, 160, 170, 171)):
        use(portal, to_gb, minutes=minutes)
        with portal.app.app_context():
            watching.look()
        if to_gb == 101:
            buy(portal)
        assert len(charges(portal)) == (2 if to_gb < 171 else 3)
    assert portal.rows("SELECT used_bytes FROM top_up_uses") == [(20 * GB,)]


def test_top_up_speeds_up_a_line_however_much_it_used_slowly(portal: Portal) -> None:
    sell(portal, "slow")
    use(portal, 160)
    with portal.app.app_context():
        watching.look()
    assert line(portal)[1] == 1000
    buy(portal)
    assert line(portal) == ("open", None, None, None)
    for to_gb, kbps in ((180, None), (181, 1000)):
        use(portal, to_gb, minutes=to_gb)
        with portal.app.app_context():
            watching.look()
        assert line(portal)[1] == kbps


def test_no_data_is_sold_while_a_bill_is_overdue(portal: Portal) -> None:
    sell(portal)
    alice = portal.visitor("alice")
    page = alice.get(portal.path("usage/top-up"))
    portal.execute(
        "INSERT INTO line_holds (line_id, reason, since_at) VALUES (:id, 'unpaid', :at)",
        id=line_of(portal),
        at="2026-06-20 19:00:00",
    )
    refused = alice.submit(page, "/top-up")
    assert refused.status == 422
    assert "A bill is overdue. Pay it first" in refused.text
    shown = alice.get(portal.path("usage/top-up"))
    assert shown.status == 200
    assert "Pay it first" in shown.text
    assert not shown.select("main form button")
    assert charges(portal) == []


def test_what_is_left_goes_on_into_the_next_period_until_it_expires(
    portal: Portal, tick: Callable[..., None]
) -> None:
    sell(portal)
    portal.execute("UPDATE plans SET top_up_days = 30")
    buy(portal)
    use(portal, 105)
    with portal.app.app_context():
        watching.look()
        tick(days=13)
        carry(portal, date(2026, 7, 3), [(0, 110 * GB)])
        use(portal, 0, session="s2")
        watching.look()
        assert portal.rows("SELECT used_bytes FROM top_up_uses ORDER BY period_on") == [
            (5 * GB,), (10 * GB,),
        ]  # fmt: skip
        assert charges(portal)[1:] == []
        carry(portal, date(2026, 7, 3), [(0, 6 * GB)])
        use(portal, 1, session="s2", minutes=1)
        watching.look()
    assert len(charges(portal)) == 2, "five and fifteen are used: the rest is charged"


def test_fifty_presses_at_once_buy_once(portal: Portal) -> None:
    sell(portal)
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path("usage/top-up")).form("/top-up")
    cookies = alice.cookies()

    def press(_number: int) -> tuple[int, str]:
        visitor = Visitor(portal.app)
        for name, value in cookies.items():
            visitor.client.set_cookie(name, value, domain="127.0.0.1")
        for _ in range(20):
            answer = visitor.post(action, values)
            if answer.status != 503:
                break
        return answer.status, answer.location

    answers = set(together(50, press))
    assert len(answers) == 1, answers
    assert portal.one("SELECT count(*) FROM top_ups") == 1
    assert charges(portal) == [(500, "20 GB more data")]


def test_two_tabs_buy_once_and_the_second_is_asked(portal: Portal) -> None:
    sell(portal)
    alice = portal.visitor("alice")
    one, other = (alice.get(portal.path("usage/top-up")) for _ in range(2))
    assert alice.submit(one, "/top-up").status == 303
    asked = alice.submit(other, "/top-up")
    assert asked.status == 422
    assert "Data was bought for this line in the meantime" in asked.text
    assert portal.one("SELECT count(*) FROM top_ups") == 1
    assert alice.submit(asked, "/top-up").status == 303
    assert portal.one("SELECT count(*) FROM top_ups") == 2


def test_price_that_has_changed_is_shown_before_it_is_paid(portal: Portal) -> None:
    sell(portal)
    alice = portal.visitor("alice")
    page = alice.get(portal.path("usage/top-up"))
    portal.execute("UPDATE plans SET top_up_minor = 900")
    asked = alice.submit(page, "/top-up")
    assert asked.status == 422
    assert "$9.00" in asked.text
    assert charges(portal) == []


def test_only_whoever_pays_buys_and_only_what_is_sold(portal: Portal) -> None:
    sell(portal)
    for name, status in (("bob", 200), ("vera", 403), ("theo", 403), ("mallory", 404)):
        assert portal.visitor(name).get(portal.path("usage/top-up")).status == status
    assert not portal.visitor("vera").get(portal.path("usage/")).select("a[href$='/top-up']")
    portal.execute("UPDATE plans SET top_up_bytes = NULL, top_up_minor = NULL")
    assert portal.visitor("alice").get(portal.path("usage/top-up")).status == 404
