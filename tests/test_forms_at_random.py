"""Every form of every page, with anything in its fields, in any order, by anybody: never a 500, no
row that should not be, and nothing of a bystander's changes (bars 32, 45, 51).

The forms are found on the pages themselves, so a new one is attacked from the day it appears.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlsplit

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from lxml import html as lxml_html
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from blueprints.auth import service
from blueprints.billing import settling
from blueprints.billing.verify import find_faults
from blueprints.staff import members
from core import clock, sessions
from core.db import db, reading, unit_of_work
from core.policy import PAYS, POLICY, Proof, Who
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision, SandboxStore
from models import (
    Arrangement,
    BillRun,
    Contact,
    ContactKind,
    Customer,
    CustomerGroup,
    Device,
    FactorReset,
    PaymentMethod,
    PlannedPayment,
    ResetState,
    StaffRole,
)
from models import Base as Tables
from tests import crawl, repeats, world
from tests.conftest import SEED, Base, Portal
from tests.page import BASE, BOOSTED, FRAGMENT, Visitor
from tests.world import NOW

ACTORS = ("alice", "bob", "vera", "theo", None)
OFTEN = st.sampled_from(["alice", "alice", "bob", *ACTORS])
BYSTANDER = "mallory"
VIEWER = "ada as alice"
"""A member of staff who sees what alice sees."""
STEPS = repeats.sized(12, 12, 50)
# A tenth of the examples on PostgreSQL, where a fresh world costs ten times as much.
SHARE = {"sqlite": 1, "postgresql": 10}

NUMBERS = (
    "0", "-1", "1", "-0", "0.00", "5.00", "-5.00", "1e9", "NaN", "Infinity", str(2**31),
    str(2**31 - 1), str(2**53), str(2**63), str(-(2**63)), "9" * 400, "0x10", "٣", "½", "1,5",
)  # fmt: skip
WORDS = (
    "", " ", "balance", "invoice", "other", "alice", "owner", "true", "y", "\0", "a\0b", "\r\nX: y",
    "../../etc/passwd", "//evil.example", "' OR 1=1 --", "<script>canary</script>", "{{7*7}}",
    "%s%n", "\u202e", "\ud7ff\U0010ffff", "x" * 300, "x" * 2000, "é" * 130, world.PASSWORD,
)  # fmt: skip
RAW = (b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b"\x80")
ANYTHING = [value.encode() for value in (*NUMBERS[::2], *WORDS[::2])] + [b"\xff\xfe", b"a\0b"]
VALUES = (
    st.sampled_from([*NUMBERS, *WORDS]).map(str.encode)
    | st.sampled_from(RAW)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.integers().map(lambda number: str(number).encode())
    | st.decimals().map(lambda number: str(number).encode())
)
COLUMNS = sorted(
    {column.name for table in Tables.metadata.sorted_tables for column in table.columns}
)


class Change(NamedTuple):
    """One thing done to the fields of a form; `place` counts round and round."""

    what: str
    place: int
    name: str
    value: bytes


ONE_CHANGE = st.builds(
    Change,
    st.sampled_from(["set", "set", "set", "drop", "twice", "extra", "rename"]),
    st.integers(0, 30),
    st.sampled_from([*COLUMNS, "", "amount", "next", "own_device", "x" * 200, "__class__"]),
    VALUES,
)
# Forms as they should be among them: what follows one that counted is attacked too.
CHANGES: st.SearchStrategy[list[Change]] = (
    st.just([]) | st.lists(ONE_CHANGE, max_size=1) | st.lists(ONE_CHANGE, max_size=4)
)
KINDS = st.sampled_from(["form"] * 9 + ["multipart", "json", "text", "none", "broken multipart"])
HEADERS = st.sampled_from([{}, {}, FRAGMENT, BOOSTED, {"HX-Request": "true"}])
Fields = list[tuple[bytes, bytes]]


def change(fields: Fields, changes: list[Change]) -> Fields:
    """The fields with everything done to them."""
    for each in changes:
        place = each.place % len(fields) if fields else 0
        if each.what == "extra" or not fields:
            fields.append((each.name.encode(), each.value))
        elif each.what == "set":
            fields[place] = (fields[place][0], each.value)
        elif each.what == "drop":
            del fields[place]
        elif each.what == "twice":
            fields.append((fields[place][0], each.value))
        else:
            fields[place] = (each.name.encode(), fields[place][1])
    return fields


def encode(fields: Fields, kind: str) -> tuple[bytes, str]:
    """Body and content type."""
    if kind == "form":
        pairs = (f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields)
        return "&".join(pairs).encode(), "application/x-www-form-urlencoded"
    if kind == "json":
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
        return json.dumps(named).encode(), "application/json"
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % field
        for field in fields
    ]
    end = b"--x--\r\n" if kind == "multipart" else b"--x"
    types = {"text": "text/plain; charset=utf-16", "none": ""}
    return b"".join(parts) + end, types.get(kind, "multipart/form-data; boundary=x")


def forms_of(shown: TestResponse) -> list[tuple[str, dict[str, str]]]:
    """Action and fields, with what they hold, of each form that posts."""
    page: Any = lxml_html.fromstring(shown.text)
    return [
        (
            form.get("action"),
            {field.get("name"): field.get("value") or "" for field in form.cssselect("[name]")}
            | {name: value or "" for name, value in form.form_values()},
        )
        for form in page.cssselect("form[method=post]")
    ]


def as_fields(values: dict[str, str]) -> Fields:
    return [(name.encode(), value.encode()) for name, value in values.items()]


@contextmanager
def fresh_portal(base: Base) -> Iterator[Portal]:
    """The portal on a database that is just the world, without the pytest fixtures of one test."""
    base.reset()
    bank = SandboxStore(":memory:", clock=clock.now)
    secrets = SandboxSecrets.of([SEED])
    gateway = SandboxInProcess(bank, secrets)
    base.app.extensions["payment_gateway"] = gateway
    yield Portal(base.app, base.settings, base.world, bank, gateway, secrets.notice_secrets[0])
    with base.app.app_context():
        db.session.remove()
    bank.close()


def sign_in(portal: Portal, name: str) -> Visitor:
    """A browser signed in as `name`, without the time that a password takes."""
    if name == VIEWER:
        visitor = sign_in(portal, "ada")
        path = f"/staff/accounts/{portal.world.public_ids['alice']}/people/alicecustomer/view"
        assert visitor.submit(visitor.get(path), "/view", reason="a call").status == 303
        return visitor
    with portal.app.app_context():
        token = unit_of_work(
            lambda session: sessions.open_session_row(
                session,
                session.get_one(Customer, portal.world.customers[name]),
                is_own_device=name in ("bob", "theo"),
                address="127.0.0.1",
                user_agent="",
                replaces_token=None,
                is_staff=name in world.STAFF,
            )
        )
    visitor = Visitor(portal.app)
    visitor.client.set_cookie("session", token, domain="127.0.0.1")
    visitor.client.set_cookie("here", "1", domain="127.0.0.1")
    return visitor


class Forms(RuleBasedStateMachine):
    base: Base
    reached: set[tuple[str, str, int]]

    def __init__(self) -> None:
        super().__init__()
        self._clock = clock.set_to(world.NOW)
        self._clock.__enter__()
        self.now = world.NOW
        self._open = fresh_portal(self.base)
        self.portal = self._open.__enter__()
        self.last: TestResponse | None = None

    @initialize()
    def arrive(self) -> None:
        crawl.prepare(self.portal)
        with self.portal.app.app_context():
            self.portal.execute(
                "DELETE FROM memberships WHERE account_id = :id",
                id=self.portal.world.accounts["rich"],
            )
            link = f"/welcome/{service.invite('3003')}"
        self.visitors = {name: browser(self.portal, name) for name in (*ACTORS, BYSTANDER)}
        self.guards = {
            name: crawl.token_of(visitor) for name, visitor in self.visitors.items() if name
        }
        own, foreign = (
            [path for name, path in crawl.list_gets(self.portal, of).items() if has_doors(name)]
            for of in ("alice", BYSTANDER)
        )
        with_forms = [self.portal.path(), self.portal.path("billing/pay"), "/sign-in", link]
        self.paths = [*own, *foreign, *with_forms * 6]
        self.posts = sorted(
            {
                path
                for of in ("alice", BYSTANDER)
                for path in crawl.list_posts(self.portal, of).values()
            }
        )
        self.theirs = self._bystanders_rows()
        self.payers = [
            (account, customer)
            for account, customer, role in self.portal.rows(
                "SELECT account_id, customer_id, role FROM memberships"
            )
            if role in PAYS
        ]
        self.fixed = self._fixed_rows()

    def teardown(self) -> None:
        try:
            if self.last is not None:
                self._check_database()
        finally:
            self._open.__exit__(None, None, None)
            self._clock.__exit__(None, None, None)

    # What is done ------------------------------------------------------------------------------

    @rule(
        who=OFTEN,
        page=st.integers(0, 200),
        form=st.integers(0, 5),
        variants=st.lists(st.tuples(CHANGES, KINDS), min_size=1, max_size=6),
        guard_of=st.sampled_from([None] * 6 + ["bob", BYSTANDER]),
        headers=HEADERS,
    )
    def send_a_form(
        self,
        who: str | None,
        page: int,
        form: int,
        variants: list[tuple[list[Change], str]],
        guard_of: str | None,
        headers: dict[str, str],
    ) -> None:
        shown = self._ask(who, "GET", self.paths[page % len(self.paths)], headers=headers)
        if shown.mimetype != "text/html" or not shown.data:
            return
        # Signing out is on every page, and ends what else could be tried.
        forms = [each for each in forms_of(shown) if form == 0 or each[0] != "/sign-out"]
        if not forms:
            return
        action, values = forms[form % len(forms)]
        if guard_of is not None:
            values |= self.guards[guard_of]
        if "choice" in values:
            values |= {"choice": ("balance", "other", "invoice")[page % 3], "amount": "5.00"}
        for changes, kind in variants:
            body, content_type = encode(change(as_fields(values), changes), kind)
            self._ask(who, "POST", action, data=body, content_type=content_type, headers=headers)
            self.nothing_broke()

    @rule(
        who=OFTEN,
        place=st.integers(0, 200),
        changes=CHANGES,
        guard_of=st.sampled_from([*filter(None, ACTORS), BYSTANDER]),
        kind=KINDS,
        headers=HEADERS,
    )
    def send_no_form(
        self,
        who: str | None,
        place: int,
        changes: list[Change],
        guard_of: str,
        kind: str,
        headers: dict[str, str],
    ) -> None:
        guard = self.guards[who if who is not None and place % 2 else guard_of]
        body, content_type = encode(change(as_fields(guard), changes), kind)
        path = self.posts[place % len(self.posts)]
        self._ask(who, "POST", path, data=body, content_type=content_type, headers=headers)

    @rule(
        who=OFTEN,
        place=st.integers(0, 200),
        name=st.sampled_from(["page", "year", "state", "since", "invoice", "next", "done", "x"]),
        value=VALUES,
        headers=HEADERS,
    )
    def ask_oddly(
        self, who: str | None, place: int, name: str, value: bytes, headers: dict[str, str]
    ) -> None:
        path = f"{self.paths[place % len(self.paths)]}?{name}={quote_plus(value)}"
        self._ask(who, "GET", path, headers=headers)

    @rule(decision=st.sampled_from([*Decision]))
    def let_the_bank_decide(self, decision: Decision) -> None:
        for row in self.portal.bank.list_latest(2):
            self.portal.bank.decide(row.key, decision)
        with self.portal.app.app_context():
            settling.ask_due(self.portal.gateway)

    @rule(seconds=st.sampled_from([2, 2, 400, 400, 4_000, 90_000]))
    def wait(self, seconds: int) -> None:
        self._clock.__exit__(None, None, None)
        self.now += timedelta(seconds=seconds)
        self._clock = clock.set_to(self.now)
        self._clock.__enter__()

    @rule(who=st.sampled_from(["alice", "bob"]))
    def sign_in_again(self, who: str) -> None:
        self.visitors[who] = sign_in(self.portal, who)

    def _ask(self, who: str | None, method: str, path: str, **more: Any) -> TestResponse:
        visitor = self.visitors[who]
        self.last = visitor.client.open(path, base_url=BASE, method=method, **more)
        self.reached.add((method, path.rstrip("/").rpartition("/")[2], self.last.status_code))
        return self.last

    # What must hold ----------------------------------------------------------------------------

    @invariant()
    def nothing_broke(self) -> None:
        if self.last is not None:
            assert self.last.status_code < 500, (self.last.request.method, self.last.request.url)
            assert b"<script>canary" not in self.last.data

    def _check_database(self) -> None:
        with self.portal.app.app_context(), reading() as session:
            assert list(find_faults(session)) == []
        assert self._bystanders_rows() == self.theirs
        assert self._fixed_rows() == self.fixed
        # Alice owns the account: she may let others pay, and take that away again.
        changed = self.portal.rows(
            "SELECT account_id, customer_id FROM activity"
            " WHERE kind IN ('role_changed', 'person_joined')"
        )
        payers = {*self.payers, *changed}
        for account, customer, minor, currency in self.portal.rows(
            "SELECT account_id, customer_id, amount_minor, currency FROM payments"
            " WHERE key NOT LIKE 'world%' AND key <> 'mallory-paid'"
        ):
            self.reached.add(("started", "", 0))
            assert (account, customer) in payers
            assert currency == "USD"
            assert 100 <= minor <= 1_000_000
        for typed, key in self.portal.rows("SELECT sign_in_id, sign_in_key FROM customers"):
            assert typed.isascii()
            assert key == typed.casefold().strip()

    def _fixed_rows(self) -> list[list[tuple[Any, ...]]]:
        """What no form of the portal may change; the welcome link makes one owner of `rich`, and
        alice says who shares her account."""
        shared = ", ".join(str(self.portal.world.accounts[name]) for name in ("rich", "alice"))
        return [
            self.portal.rows(f"SELECT {columns} FROM {table} WHERE {which} ORDER BY 1, 2")
            for columns, table, which in (
                ("customer_id, account_id, role", "memberships", f"account_id NOT IN ({shared})"),
                ("id, public_id, number, name, status, currency, bill_day", "accounts", "1 = 1"),
                ("id, name, price_minor, down_kbps", "plans", "1 = 1"),
                ("id, value, kind", "contacts", "1 = 1"),
                ("id, name, is_demo, revision", "isp", "1 = 1"),
                ("id, public_id, total_minor", "invoices", "1 = 1"),
            )
        ]

    def _bystanders_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table that belongs to the bystander's account or to herself."""
        world_ = self.portal.world
        account, customer = world_.accounts[BYSTANDER], world_.customers[BYSTANDER]
        found = {}
        for table in Tables.metadata.sorted_tables:
            tests = [f"account_id = {account}"] if "account_id" in table.columns else []
            tests += [f"customer_id = {customer}"] if "customer_id" in table.columns else []
            tests += {"accounts": [f"id = {account}"], "customers": [f"id = {customer}"]}.get(
                table.name, []
            )
            if tests:
                found[table.name] = self.portal.rows(
                    f"SELECT * FROM {table.name} WHERE {' OR '.join(tests)} ORDER BY 1, 2"
                )
        assert len(found) > 10
        return found


WHILE_CLOSED = {"auth.staff_sign_in_post"}
"""Shown during maintenance alone, where tests/core/test_maintenance.py attacks it."""
OF_FACTORS = {
    "auth.confirm_passkey",
    "auth.factor_remove",
    "auth.message_check_post",
    "auth.message_send",
    "auth.passkey_sign_in",
    "auth.recovery_codes_kept",
}
"""Forms that somebody with a second step meets, or script sends: tests/auth/test_factors.py."""
OF_LINKS = {"auth.recover_link_post"}
"""Forms behind a link that was sent: tests/auth/test_recovering.py."""


def has_doors(endpoint: str) -> bool:
    """Whether customers and strangers find forms there; of staff's pages they see nothing."""
    return not POLICY[endpoint].staff


def forms_to_send(portal: Portal) -> set[str]:
    """The endpoints of POLICY that a form of ours posts to, without those of ways in, whose steps
    stand in no order here (tests/auth/test_ways_in_machine.py), and without what script alone posts
    while one types."""
    methods = crawl.methods_of(portal.app)
    return {
        endpoint
        for endpoint, rule in POLICY.items()
        if "POST" in methods.get(endpoint, ())
        and rule.proof is not Proof.OWN
        and rule.who is not Who.FLOW
        and not endpoint.endswith("_strength")
    } - (OF_LINKS | OF_FACTORS | WHILE_CLOSED)


def forms_at(portal: Portal, visitor: Visitor, path: str) -> dict[str, tuple[str, dict[str, str]]]:
    """The forms of the page at `path`, by the endpoint that each posts to."""
    shown = crawl.send(visitor, "GET", path)
    if shown.mimetype != "text/html" or not shown.data:
        return {}
    routes = portal.app.url_map.bind("127.0.0.1:8000")
    return {
        routes.match(urlsplit(action).path, method="POST")[0]: (action, values)
        for action, values in forms_of(shown)
    }


def send_anything(portal: Portal, who: str | None, path: str, endpoint: str) -> int:
    """Put each odd value into each field of a form, the form fetched anew once it has counted;
    how many were sent."""
    count, is_fresh = 0, False
    visitor, action, values = browser(portal, who), "", dict[str, str]()
    for place in range(100):
        for value in ANYTHING:
            if not is_fresh:
                visitor = browser(portal, who)  # signing out is one of them
                found = forms_at(portal, visitor, path).get(endpoint)
                action, values = found if found is not None else (action, values)
                if "choice" in values:
                    values |= {"choice": "other", "amount": "5.00"}
            if place >= len(values):
                return count
            fields = as_fields(values)
            fields[place] = (fields[place][0], value)
            body, content_type = encode(fields, "form")
            answer = crawl.send(visitor, "POST", action, data=body, content_type=content_type)
            assert answer.status_code < 500, (action, fields[place])
            is_fresh = answer.status_code in (403, 422, 429)
            count += 1
    return count


ANSWERED = ("asking", "failed")
IN_PARTS = f"?count=2&first_on={NOW.date() + timedelta(days=3)}&every=week"


def give_something_to_lose(session: Session, portal: Portal) -> None:
    """A second contact and a trusted device of alice: forms that take one away are shown then. And
    payments she planned that ask something of her, and an arrangement of mallory's to end; a
    bill run that staff may stop; a group for an account; a pause of mallory's that runs, and one of
    rich's that is planned."""
    customer_id, now = portal.world.customers["alice"], clock.now()
    method_id = session.scalars(
        select(PaymentMethod.id).where(PaymentMethod.customer_id == customer_id)
    ).first()
    session.add_all(
        PlannedPayment(
            public_id=f"{state}plan",
            kind="scheduled" if state == "failed" else "autopay",
            account_id=portal.world.accounts["alice"],
            customer_id=customer_id,
            method_id=method_id,
            amount_minor=5_000,
            due_on=now.date(),
            state=state,
            created_at=now,
        )
        for state in ANSWERED
    )
    session.add(
        Arrangement(
            public_id="malloryarrangement",
            account_id=portal.world.accounts["mallory"],
            customer_id=portal.world.customers["mallory"],
            state="standing",
            total_minor=5_000,
            created_at=now,
        )
    )
    session.add(crawl.pause_of(portal.world, "mallory", "rests", "running", ago=3))
    session.add(crawl.pause_of(portal.world, "rich", "rests", "planned", ago=-3))
    session.add(CustomerGroup(code="SLOW", name="Slow payers"))
    session.add(
        BillRun(
            public_id="askedrun",
            as_of_on=now.date(),
            state="asked",
            is_preview=True,
            started_at=now,
            beat_at=now,
        )
    )
    session.add(
        Contact(
            account_id=portal.world.accounts["alice"],
            kind=ContactKind.EMAIL,
            value="second@example.net",
            since_on=now.date(),
        )
    )
    session.add(
        Device(
            token_hash=bytes(32),
            customer_id=customer_id,
            first_seen_at=now,
            last_seen_at=now,
            trusted_until_at=now + timedelta(days=30),
        )
    )


def trust_again(session: Session) -> None:
    """A new password, which an earlier form may have set, ends trust; staff refuse a reset."""
    session.execute(update(Device).values(trusted_until_at=clock.now() + timedelta(days=30)))
    anew = update(FactorReset).values(approved_by_id=None, ended_at=None)
    is_proofed = FactorReset.public_id == "bobreset"  # as tests/crawl.py makes it
    session.execute(anew.where(is_proofed).values(state=ResetState.PROOFED.value))
    session.execute(anew.where(~is_proofed).values(state="asked", proofed_by_id=None))


def test_each_field_of_each_form_takes_anything(portal: Portal) -> None:
    """A form that is on no page here fails: it would not be attacked."""
    crawl.prepare(portal)
    gets = list(crawl.list_gets(portal).values())
    with portal.app.app_context():
        portal.execute("DELETE FROM memberships WHERE customer_id = 6")
        link = f"/welcome/{service.invite('3003')}"
        unit_of_work(lambda session: give_something_to_lose(session, portal))
        join = f"/staff/join/{members.add('Kim', 'kim@example.net', StaffRole.SUPPORT)}"
    more = {
        "alice": [
            portal.path(f"billing/arrangement{IN_PARTS}"),
            start_a_payment(portal),
            "/invitation/invite-mallory",
            portal.path("plans/pause?from_on=2026-09-10&until_on=2026-09-30"),
            *(portal.path(f"billing/planned/{state}plan") for state in ANSWERED),
        ],
        None: ["/sign-in?next=%2F", link, join, "/invitation/invite-alice"],
        "ada": [
            f"/staff/accounts/{portal.world.public_ids['alice']}/call?done=sent",
            "/staff/bill-runs/askedrun",
            f"/staff/accounts/{portal.world.public_ids['rich']}/phone",
        ],
        VIEWER: [portal.path()],
        "mallory": [
            portal.path("billing/arrangement", "mallory"),
            portal.path("plans/pause/malloryrests/end", "mallory"),
        ],
    }
    attacked: set[str] = set()
    count = 0

    def attack(who: str | None, paths: list[str]) -> int:
        sent = 0
        for path in paths:
            with portal.app.app_context():
                unit_of_work(trust_again)
            found = forms_at(portal, browser(portal, who), path)
            for endpoint in found.keys() - attacked:
                sent += send_anything(portal, who, path, endpoint)
                attacked.add(endpoint)
        return sent

    for who, special in more.items():
        count += attack(who, [*special, *gets])
    # Now that the links above have been used: somebody with credit and another account.
    for name in ("rich", "mallory"):
        portal.execute(
            "INSERT INTO memberships (customer_id, account_id, role) VALUES (6, :id, 'owner')",
            id=portal.world.accounts[name],
        )
    of_rich = ("billing/credit", "plans/pause/richrests", "plans/move")
    count += attack("rich", [portal.path(rest, "rich") for rest in of_rich])
    assert attacked == forms_to_send(portal)
    assert count > 500


def browser(portal: Portal, who: str | None) -> Visitor:
    visitor = sign_in(portal, who) if who else Visitor(portal.app)
    visitor.client.set_cookie("here", "1", domain="127.0.0.1")
    return visitor


def start_a_payment(portal: Portal) -> str:
    """The path of a payment under way, with the forms that continue and cancel it."""
    alice = sign_in(portal, "alice")
    page = alice.get(portal.path())
    assert alice.submit(page, "/pay").status == 303
    [(public_id,)] = portal.rows("SELECT public_id FROM payments WHERE state = 'sent'")
    return portal.path(f"billing/payments/{public_id}")


def test_no_form_breaks_anything_whatever_is_sent_in_whatever_order(
    base: Base, engine_kind: str
) -> None:
    examples = max(1, settings().max_examples // SHARE[engine_kind])
    reached: set[tuple[str, str, int]] = set()
    run_state_machine_as_test(
        type("FormsAtRandom", (Forms,), {"base": base, "reached": reached}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    # It did not only knock at closed doors.
    # Of so many forms few are those that pay: another that was taken is as good.
    is_taken = any(method == "POST" and status == 303 for method, _, status in reached)
    assert examples < 50 or is_taken or any(method == "started" for method, _, _ in reached)
