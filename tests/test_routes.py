"""The gate: who may use which route, and what a request must prove (bars 30-34, 39, 40)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import create_app
from core import policy
from core.policy import POLICY, SAFE_METHODS, Proof, Who
from gateways.payments.sandbox.store import Decision
from models import Base, FlowKind, Role
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE, BOOSTED, FRAGMENT, Page, Visitor
from tests.world import PASSWORD, STAFF

ROLE_OF = {"alice": Role.OWNER, "bob": Role.PAYER, "vera": Role.VIEWER, "theo": Role.TECHNICAL}
OWN_PROOF = {
    "billing.payment_return",
    "billing.method_return",
    "api.payment_notice",
    "api.accounting",
}
RETURNS = ("billing.payment_return", "billing.method_return")
NOWHERE = "0000000000000000"
SIGN_IN = {"sign_in_id": "alice", "password": PASSWORD}


# The table ------------------------------------------------------------------------------------


def test_policy_names_every_route_and_no_other(portal: Portal) -> None:
    assert set(crawl.methods_of(portal.app)) == set(POLICY)


def test_every_rule_says_what_its_kind_of_visitor_needs() -> None:
    for endpoint, rule in POLICY.items():
        assert bool(rule.roles) == (rule.who is Who.ACCOUNT), endpoint
        assert bool(rule.staff) == (rule.who is Who.STAFF), endpoint
        assert bool(rule.flow) == (rule.who is Who.FLOW), endpoint


def test_crawl_knows_an_address_for_every_route(portal: Portal) -> None:
    adapter = portal.app.url_map.bind("127.0.0.1:8000")
    for endpoint, path in crawl.addresses(portal).items():
        methods = crawl.methods_of(portal.app)[endpoint]
        method = "GET" if "GET" in methods else "POST"
        assert adapter.match(path, method=method)[0] == endpoint
    assert set(crawl.addresses(portal)) == set(POLICY)


def test_unlisted_route_fails_the_start(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(POLICY, "support.help")
    with pytest.raises(policy.UnlistedRoute, match=r"support\.help"):
        create_app(portal.settings)


def test_demo_pages_are_absent_outside_the_demo(portal: Portal) -> None:
    with crawl.another_app(portal, is_demo=False) as app:
        assert not [name for name in crawl.methods_of(app) if name.startswith("demo.")]
        assert app.test_client().get("/demo/mailbox", base_url=BASE).status_code == 404


def test_paths_are_kebab_case_and_open_ended_only_for_files(portal: Portal) -> None:
    for rule in portal.app.url_map.iter_rules():
        for part in rule.rule.split("/"):
            assert re.fullmatch(r"[a-z0-9-]*|<[a-z_]+>|<path:name>", part), rule.rule
        assert "<path:" not in rule.rule or rule.endpoint == "static"


def expected(endpoint: str, method: str, who: str, methods: set[str]) -> set[str]:
    if method not in methods:
        return {"no such method"}
    rule = POLICY[endpoint]
    if rule.who is Who.EVERYONE:
        # Somebody unknown is led from the start page and from signing out to the sign-in page.
        return {"sign in", "allowed"} if endpoint in LEAD_ON else {"allowed"}
    if rule.who is Who.FLOW:
        begins_at_sign_in = rule.flow in (FlowKind.SIGN_IN, FlowKind.LOST_FACTORS)
        return {"sign in"} if begins_at_sign_in else {"begin anew"}
    if who == "anonymous" and rule.who is not Who.OPERATOR:
        return {"sign in"}
    if rule.who is Who.CUSTOMER:
        return _of_a_customer(endpoint, method, who)
    owned = crawl.OWN_METHODS | crawl.OWN_PLANS
    is_hers = endpoint in owned and who == "bob" and method != "OPTIONS"
    return {"absent" if is_hers else _by_role(rule, who)}


def _of_a_customer(endpoint: str, method: str, who: str) -> set[str]:
    is_leaving = endpoint.startswith("people.leave")
    theirs = {"alice", "bob", "vera", "theo"} if is_leaving else {"alice"}
    is_owned = is_leaving or endpoint in crawl.OWN_THINGS
    if is_owned and who not in theirs and method != "OPTIONS":
        return {"absent"}
    return {"sign in", "allowed"} if endpoint in LEAD_ON else {"allowed"}


def _by_role(rule: policy.Rule, who: str) -> str:
    is_staff = rule.who is Who.STAFF
    if who not in (STAFF if is_staff else ROLE_OF) or rule.who is Who.OPERATOR:
        return "absent"
    may = STAFF[who] in rule.staff if is_staff else ROLE_OF[who] in rule.roles
    return "allowed" if may else "forbidden"


ENDS_SESSION = ("activity.not_me_post", "settings.close_post", "auth.sign_out")
"""They come last, as the crawl goes on with its session; in this order."""
LEAD_ON = {
    *("dashboard.index", "auth.sign_out", "activity.not_me_post", "settings.close_post"),
    "auth.staff_sign_in",  # it is needed only while the portal is closed
}


@pytest.mark.parametrize("who", crawl.WHO)
def test_every_route_decides_as_the_table_says(portal: Portal, who: str) -> None:
    crawl.prepare(portal)
    visitor = portal.visitor(None if who == "anonymous" else who)
    visitor.get("/sign-in")
    guard = crawl.token_of(visitor) if who != "anonymous" else {}
    methods = crawl.methods_of(portal.app)
    of_path: dict[str, set[str]] = {}
    paths = crawl.addresses(portal)
    for endpoint, path in paths.items():
        of_path.setdefault(path, set()).update(methods[endpoint])
    middle = [name for name in paths if name not in ENDS_SESSION]
    for endpoint in (*middle, *ENDS_SESSION):
        path = paths[endpoint]
        for method in crawl.METHODS:
            if method in of_path[path] - methods[endpoint]:
                continue  # another endpoint of the same path
            data = guard if method not in SAFE_METHODS else None
            response = crawl.send(visitor, method, path, data=data)
            found = crawl.decision(response)
            assert found in expected(endpoint, method, who, methods[endpoint]), (
                f"{who} {method} {path}: {response.status_code} {found}"
            )
            assert response.status_code < 500


CLAIMS: tuple[dict[str, str], ...] = (
    FRAGMENT,
    BOOSTED,
    {"HX-Request": "true"},
    {"HX-Request": "true", "HX-History-Restore-Request": "true"},
    FRAGMENT
    | {
        "HX-Target": "payment",
        "HX-Trigger": "invoice-rows",
        "HX-Current-URL": "https://elsewhere.example/",
        "HX-Source": "main",
    },
)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("who", crawl.WHO)
def test_htmx_headers_change_no_decision(portal: Portal, who: str) -> None:
    """The same for every route and method, with the page's token and without it."""
    crawl.prepare(portal)
    visitor = portal.visitor(None if who == "anonymous" else who)
    visitor.get("/sign-in")
    guard = crawl.token_of(visitor) if who != "anonymous" else {}
    count = 0
    for endpoint, path in crawl.addresses(portal).items():
        for method in ("GET", "HEAD", "POST", "PUT"):
            for data in [None] if method in SAFE_METHODS else [None, guard]:
                if endpoint == "auth.sign_out" and data:
                    continue  # it would end the session that the crawl uses
                plain = crawl.send(visitor, method, path, data=data)
                for headers in CLAIMS if method == "GET" else CLAIMS[-1:]:
                    claimed = crawl.send(visitor, method, path, data=data, headers=headers)
                    assert crawl.decision(claimed) == crawl.decision(plain), (
                        f"{who} {method} {path} {headers}: {claimed.status_code}"
                    )
                    assert claimed.status_code < 500
                    count += 1
    assert count > 200


# Somebody else's ids ---------------------------------------------------------------------------


def same_absence(visitor: Visitor, method: str, theirs: str, nobodys: str, **more: Any) -> None:
    """Both answers are the same 404, byte for byte and header for header."""
    answers = [crawl.send(visitor, method, path, **more) for path in (theirs, nobodys)]
    assert [answer.status_code for answer in answers] == [404, 404], (method, theirs)
    assert unmasked(answers[0].data) == unmasked(answers[1].data)
    assert list(answers[0].headers) == list(answers[1].headers)


def unmasked(body: bytes) -> bytes:
    """A page without token and key of its sign-out form, which differ in each answer."""
    return re.sub(rb'(name="(?:csrf_token|form_key)" value=")[^"]*', rb"\1", body)


def test_others_ids_in_the_path_look_like_ids_that_do_not_exist(portal: Portal) -> None:
    crawl.prepare(portal)
    alice = portal.visitor("alice")
    guard = crawl.token_of(alice)
    mallorys = crawl.ids(portal, "mallory")
    methods = crawl.methods_of(portal.app)
    differs = crawl.watch(portal.app)
    count = 0
    for kind in mallorys:
        # An id of hers in the place of one of ours; for the account, all three of hers.
        theirs = crawl.addresses(
            portal, "alice", **(mallorys if kind == "account" else {kind: mallorys[kind]})
        )
        nobodys = crawl.addresses(
            portal,
            "alice",
            **(mallorys | {kind: NOWHERE} if kind == "account" else {kind: NOWHERE}),
        )
        for endpoint in theirs:
            if theirs[endpoint] == nobodys[endpoint] or endpoint in RETURNS:
                continue
            for method in methods[endpoint] - {"OPTIONS"}:
                data = guard if method == "POST" else None
                same_absence(alice, method, theirs[endpoint], nobodys[endpoint], data=data)
                count += 1
    assert count > 20
    assert differs() == set()


def test_others_invoice_in_query_or_body_looks_like_one_that_does_not_exist(portal: Portal) -> None:
    alice = portal.visitor("alice")
    hers = crawl.ids(portal, "mallory")["invoice"]
    path = portal.path("billing/pay")
    differs = crawl.watch(portal.app)
    same_absence(alice, "GET", f"{path}?invoice={hers}", f"{path}?invoice={NOWHERE}")
    answers = [
        alice.post(path, crawl.token_of(alice) | {"choice": "invoice", "invoice": public_id})
        for public_id in (hers, NOWHERE)
    ]
    assert [answer.status for answer in answers] == [404, 404]
    assert unmasked(answers[0].response.data) == unmasked(answers[1].response.data)
    assert differs() == set()


def test_strangers_return_page_shows_only_amount_and_state(portal: Portal) -> None:
    crawl.prepare(portal)
    public_id = crawl.ids(portal)["payment"]
    for visitor in (portal.visitor(), portal.visitor("mallory")):
        page = visitor.get(f"/pay/{public_id}/return")
        assert page.status == 200
        assert "$105.56" in page.text
        assert "1001" not in page.text
        assert "Alice" not in page.text
        assert "aliceaccount00" not in page.response.text


# Fields that nobody asked for ------------------------------------------------------------------

COLUMNS = sorted({column.name for table in Base.metadata.sorted_tables for column in table.columns})
NOT_FIELDS = [
    name
    for name in [*COLUMNS, "amount_minor", "account", "is_staff", "is_admin", "price", "intent"]
    if name not in ("sign_in_id", "password", "choice", "amount", "invoice", "method", "form_key")
]
extra_fields = st.dictionaries(
    st.sampled_from(NOT_FIELDS),
    st.sampled_from(["0", "1", "2", "-1", "owner", "succeeded", "true", "malloryaccount00"]),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(extra=extra_fields)
def test_extra_fields_change_no_column(portal: Portal, extra: dict[str, str]) -> None:
    alice = Visitor(portal.app)
    alice.get("/sign-in")
    assert alice.post("/sign-in", SIGN_IN | extra).status == 303
    session = portal.rows(
        "SELECT customer_id, is_own_device, generation, ended_at IS NULL FROM sessions"
        " ORDER BY id DESC LIMIT 1"
    )
    assert session == [(portal.world.customers["alice"], False, 1, True)]
    before = crawl.dump(portal.app, without=("accounts.revision",))
    guard = crawl.token_of(alice)
    out = alice.post(
        portal.path("billing/pay"), extra | guard | {"choice": "other", "amount": "5.00"}
    )
    assert out.status == 303
    [payment] = portal.rows(
        "SELECT account_id, customer_id, invoice_id, amount_minor, currency, state, gateway,"
        " entry_id, revision FROM payments WHERE state = 'sent'"
    )
    world = portal.world
    assert payment == (
        world.accounts["alice"], world.customers["alice"], None, 500, "USD", "sent", "sandbox",
        None, payment[-1],
    )  # fmt: skip
    after = crawl.dump(portal.app, without=("accounts.revision",))
    assert crawl.changes(before, after) == {"payments", "form_keys"}
    [(public_id,)] = portal.rows("SELECT public_id FROM payments WHERE state = 'sent'")
    cancel = portal.path(f"billing/payments/{public_id}/cancel")
    assert alice.post(cancel, crawl.token_of(alice) | extra).status == 303
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 0


# Changes take effect at once -------------------------------------------------------------------


def test_removed_membership_counts_from_the_next_request(portal: Portal) -> None:
    bob = portal.visitor("bob", own_device="y")
    kept = bob.get(portal.path()).response.headers["ETag"]
    portal.execute(
        "DELETE FROM memberships WHERE customer_id = :id", id=portal.world.customers["bob"]
    )
    assert bob.get(portal.path()).status == 404
    assert bob.get(portal.path(), headers={"If-None-Match": kept}).status == 404
    assert "No account belongs to you yet" in bob.get("/accounts").text


def test_changed_role_counts_from_the_next_request(portal: Portal) -> None:
    bob = portal.visitor("bob", own_device="y")
    guard = crawl.token_of(bob)
    kept = bob.get(portal.path("billing/")).response.headers["ETag"]
    portal.execute(
        "UPDATE memberships SET role = 'technical' WHERE customer_id = :id",
        id=portal.world.customers["bob"],
    )
    differs = crawl.watch(portal.app)
    assert bob.get(portal.path("billing/"), headers={"If-None-Match": kept}).status == 403
    assert bob.post(portal.path("billing/pay"), guard | {"choice": "balance"}).status == 403
    assert "$" not in bob.get(portal.path()).text
    assert differs() == set()


def test_disabled_customer_is_signed_out_with_the_next_request(portal: Portal) -> None:
    bob = portal.visitor("bob")
    portal.execute(
        "UPDATE customers SET is_disabled = :yes WHERE id = :id",
        id=portal.world.customers["bob"],
        yes=True,
    )
    assert bob.get(portal.path()).location.startswith("/sign-in")


def take_the_membership(portal: Portal) -> None:
    portal.execute(
        "DELETE FROM memberships WHERE customer_id = :id", id=portal.world.customers["bob"]
    )


def make_technical(portal: Portal) -> None:
    portal.execute(
        "UPDATE memberships SET role = 'technical' WHERE customer_id = :id",
        id=portal.world.customers["bob"],
    )


def disable(portal: Portal) -> None:
    portal.execute(
        "UPDATE customers SET is_disabled = :yes WHERE id = :id",
        id=portal.world.customers["bob"],
        yes=True,
    )


def end_all_sessions(portal: Portal) -> None:
    portal.execute(
        "UPDATE customers SET session_generation = session_generation + 1 WHERE id = :id",
        id=portal.world.customers["bob"],
    )


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("change", "decided"),
    [
        (take_the_membership, "absent"),
        (make_technical, "forbidden"),
        (disable, "sign in"),
        (end_all_sessions, "sign in"),
    ],
)
def test_change_counts_from_the_next_request_for_kept_pages_fragments_and_forms(
    portal: Portal, change: Any, decided: str
) -> None:
    """Also when the device still holds the page, or only a part of it is asked for."""
    bob = portal.visitor("bob", own_device="y")
    guard = crawl.token_of(bob)
    money = [
        path
        for endpoint, path in crawl.list_gets(portal).items()
        if endpoint.startswith("billing.")
        and POLICY[endpoint].who is Who.ACCOUNT
        and endpoint not in crawl.OWN_METHODS | crawl.PLANS | crawl.THREADS
    ]
    asked: list[tuple[str, dict[str, str]]] = []
    for path in money:
        for headers in ({}, FRAGMENT, BOOSTED):
            first = crawl.send(bob, "GET", path, headers=headers)
            assert first.status_code == 200
            asked.append((path, headers))
            if "ETag" in first.headers:
                held = headers | {"If-None-Match": first.headers["ETag"]}
                assert crawl.send(bob, "GET", path, headers=held).status_code == 304
                asked.append((path, held))
    assert len(asked) > 20
    change(portal)
    for path, headers in asked:
        answer = crawl.send(bob, "GET", path, headers=headers)
        assert crawl.decision(answer) == decided, (path, headers, answer.status_code)
        assert b"$" not in answer.data
    for endpoint, path in crawl.list_posts(portal).items():
        rule = POLICY[endpoint]
        stays = decided == "forbidden" and Role.TECHNICAL in rule.roles
        if rule.who is Who.ACCOUNT:
            for headers in ({}, FRAGMENT):
                answer = crawl.send(bob, "POST", path, data=guard, headers=headers)
                wanted = "allowed" if stays else decided
                assert crawl.decision(answer) == wanted, (path, headers)


# When a check itself fails ---------------------------------------------------------------------

CHECKS = (
    "core.access._check_size",
    "core.access._check_form",
    "core.access._check_values",
    "core.access._check_role",
    "core.access._check_proof",
    "core.access.find_signed_in",
    "core.access.csrf.check_origin",
    "core.access.csrf.is_token_of",
    "core.sessions.find_session",
    "core.form_keys.check",
    "core.throttle.begin",
    "core.throttle.end",
    "core.passwords.verify",
)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("check", CHECKS)
def test_check_that_fails_means_no(
    portal: Portal, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception inside any check lets nobody in and changes nothing (bar 80)."""
    alice, nobody = portal.visitor("alice"), portal.visitor()
    nobody.get("/sign-in")
    action, values = alice.get(portal.path()).form("/pay")
    hits = 0

    def fails(*_values: object, **_more: object) -> None:
        nonlocal hits
        hits += 1
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(check, fails)
    kept = ("sessions.last_used_at",)
    total = 0
    for visitor, method, path, data in (
        (alice, "GET", portal.path("billing/?x=1"), None),
        (nobody, "POST", "/sign-in", SIGN_IN),
        (alice, "POST", action, values),
    ):
        before, hits = crawl.dump(portal.app, without=kept), 0
        answer = crawl.send(visitor, method, path, data=data)
        total += hits
        if not hits:
            continue
        assert answer.status_code == 500
        assert b"secret" not in answer.data
        assert b"ZeroDivision" not in answer.data
        assert b"$" not in answer.data
        assert "Location" not in answer.headers
        assert not [each for each in answer.headers.getlist("Set-Cookie") if "session=" in each]
        # What was tried is counted; a session whose cookie nobody gets is nobody's.
        changed = crawl.changes(before, crawl.dump(portal.app, without=kept))
        if check != "core.sessions.find_session":
            assert changed <= {"sign_in_attempts"}
    assert total


# Where a form comes from -----------------------------------------------------------------------


def payment_under_way(portal: Portal, visitor: Visitor) -> str:
    """The public id of a payment that the visitor has just started."""
    assert visitor.submit(visitor.get(portal.path()), "/pay").status == 303
    [(public_id,)] = portal.rows("SELECT public_id FROM payments WHERE state = 'sent'")
    return str(public_id)


FOREIGN = [
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://127.0.0.1:8001"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://127.0.0.1:8000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
]


def test_only_named_routes_bring_a_proof_of_their_own() -> None:
    assert {name for name, rule in POLICY.items() if rule.proof is Proof.OWN} == OWN_PROOF


def test_every_unsafe_route_refuses_what_our_own_page_did_not_send(portal: Portal) -> None:
    crawl.prepare(portal)
    alice, bob = portal.visitor("alice"), portal.visitor("bob")
    started = payment_under_way(portal, alice)
    guard, bobs = crawl.token_of(alice), crawl.token_of(bob)
    paths = {
        endpoint: path.replace(crawl.ids(portal)["payment"], started)
        for endpoint, path in crawl.list_posts(portal).items()
        if endpoint not in OWN_PROOF
    }
    assert len(paths) >= 6
    differs = crawl.watch(portal.app)
    fields = {"choice": "balance"} | SIGN_IN
    for endpoint, path in paths.items():
        for headers in FOREIGN:
            answer = alice.post(path, fields | guard, headers=headers)
            assert answer.status == 403, (path, headers)
            assert "too old" in answer.text
        if POLICY[endpoint].who is Who.FLOW:
            continue  # held against the flow's own token: tests/auth/test_second_step.py
        if POLICY[endpoint].proof is Proof.STRICT_COOKIE:
            assert Visitor(portal.app).post(path, fields).status == 403
            continue
        if POLICY[endpoint].who is Who.FLOW:
            continue  # held against the flow: tests/auth/test_ways_in.py
        for token in (None, "", "x", "é" * 20, "A" * 43, bobs["csrf_token"]):
            forged = fields | {"form_key": guard["form_key"]}
            if token is not None:
                forged["csrf_token"] = token
            assert alice.post(path, forged).status == 403, (path, token)
        gone = Visitor(portal.app).post(path, fields | guard)
        assert crawl.decision(gone.response) == "sign in"
    assert differs() == set()


def test_routes_with_their_own_proof_write_nothing_without_it(portal: Portal) -> None:
    crawl.prepare(portal)
    differs = crawl.watch(portal.app)
    nobody = Visitor(portal.app)
    assert nobody.post("/webhooks/payments/sandbox", {"id": "1"}).status == 400
    assert nobody.post(f"/pay/{crawl.ids(portal)['payment']}/return").status == 200
    assert differs() == set()


def test_browser_without_origin_headers_can_post(portal: Portal) -> None:
    payment_under_way(portal, portal.visitor("alice"))


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_browser_with_our_own_origin_can_post(portal: Portal, site: str) -> None:
    headers = {"Origin": BASE, "Sec-Fetch-Site": site}
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    assert alice.post(action, values, headers=headers).location.startswith(portal.gateway.origin)


def test_boosted_page_can_post(portal: Portal) -> None:
    alice = portal.visitor("alice")
    out = alice.submit(alice.get(portal.path(), headers=BOOSTED), "/pay")
    assert out.location.startswith(portal.gateway.origin)


def test_swapped_fragment_can_post(portal: Portal) -> None:
    alice = portal.visitor("alice")
    started = payment_under_way(portal, alice)
    fragment = alice.get(portal.path(f"billing/payments/{started}"), headers=FRAGMENT)
    assert not fragment.select("h1")
    assert alice.submit(fragment, "/cancel").status == 303
    assert portal.one("SELECT state FROM payments WHERE public_id = :id", id=started) == "cancelled"


def test_page_open_for_eight_hours_on_an_own_device_can_post(portal: Portal, tick: Any) -> None:
    alice = portal.visitor("alice", own_device="y")
    page = alice.get(portal.path())
    tick(hours=8)
    assert alice.submit(page, "/pay").location.startswith(portal.gateway.origin)


def test_elsewhere_the_form_waits_for_the_same_customer(portal: Portal, tick: Any) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/pay"))
    tick(hours=2)
    late = alice.submit(page, "/pay", choice="other", amount="12.34")
    assert late.status == 303
    assert late.location.startswith("/sign-in?next=")
    assert portal.one("SELECT count(*) FROM payments WHERE amount_minor = 1234") == 0
    again = alice.submit(alice.get(late.location), "/sign-in", **SIGN_IN)
    form = alice.get(again.location).form("/pay")[1]
    assert (form["choice"], form["amount"]) == ("other", "12.34")
    assert portal.one("SELECT count(*) FROM payments WHERE amount_minor = 1234") == 0


def test_form_of_an_expired_session_with_a_foreign_token_is_not_kept(
    portal: Portal, tick: Any
) -> None:
    alice, bob = portal.visitor("alice"), portal.visitor("bob")
    page, foreign = alice.get(portal.path("billing/pay")), crawl.token_of(bob)
    tick(hours=2)
    alice.submit(page, "/pay", choice="other", amount="12.34", csrf_token=foreign["csrf_token"])
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_token_is_masked_anew_for_each_answer(portal: Portal) -> None:
    alice = portal.visitor("alice")
    tokens = [crawl.token_of(alice)["csrf_token"] for _ in range(5)]
    assert len(set(tokens)) == 5
    page: Page = alice.get(portal.path())
    assert len({field.get("value") for field in page.select("input[name=csrf_token]")}) == 1
    secret = portal.one(
        "SELECT csrf_secret FROM sessions WHERE customer_id = :id",
        id=portal.world.customers["alice"],
    )
    assert bytes(secret).hex() not in page.response.text


# Reading changes nothing -----------------------------------------------------------------------


def test_reading_everything_changes_only_the_time_of_last_use(portal: Portal, tick: Any) -> None:
    crawl.prepare(portal)
    known = {name: portal.visitor(name) for name in (None, "alice", "theo", "mallory")}
    portal_paths = crawl.list_gets(portal)
    before = crawl.dump(portal.app)
    differs = crawl.watch(portal.app)
    tick(minutes=6)
    for visitor in known.values():
        for path in portal_paths.values():
            for method in ("GET", "HEAD"):
                crawl.send(visitor, method, path)
            crawl.send(visitor, "GET", path, headers=FRAGMENT)
    assert differs() == set()
    assert crawl.changes(before, crawl.dump(portal.app)) == {"sessions"}
    assert policy.EVERY_GET_WRITES == "sessions.last_used_at"


def test_staffs_reading_is_noted_and_changes_nothing_else(portal: Portal, tick: Any) -> None:
    crawl.prepare(portal)
    ada = portal.visitor("ada")
    noted = {name: path for name, path in crawl.list_gets(portal).items() if POLICY[name].staff}
    before = crawl.dump(portal.app, without=("accounts.revision",))
    tick(minutes=6)
    for path in noted.values():
        for method in ("GET", "HEAD"):
            crawl.send(ada, method, path)
        crawl.send(ada, "GET", path, headers=FRAGMENT)
    after = crawl.dump(portal.app, without=("accounts.revision",))
    assert crawl.changes(before, after) == {"sessions", "data_accesses", "activity"}
    # These show nobody's data but that of staff, and what the books say of all accounts together.
    assert {name for name in noted if not POLICY[name].get_writes} == {
        "staff.members", "staff.member", "staff.bill_runs.list", "staff.reports.list",
        "staff.reports.journal", "staff.reports.report", "staff.reports.report_csv",
        "staff.money.vouchers", "staff.money.voucher_batch", "staff.phone.calls",
        "staff.prices.list", "staff.prices.plan", "staff.prices.withdraw",
        "staff.prices.offering",
    }  # fmt: skip


def test_only_returns_and_staffs_notes_are_written_on_get(portal: Portal) -> None:
    writing = {name for name, rule in POLICY.items() if rule.get_writes and not rule.staff}
    assert writing == set(RETURNS)
    started = payment_under_way(portal, portal.visitor("alice"))
    [(key,)] = portal.rows("SELECT key FROM payments WHERE public_id = :id", id=started)
    portal.bank.decide(key, Decision.PAY)
    portal.visitor().get(f"/pay/{started}/return")
    assert portal.one("SELECT state FROM payments WHERE public_id = :id", id=started) == "succeeded"
