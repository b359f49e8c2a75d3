"""Answers that are lost after the portal acted: whoever presses again finds it done once.

Every form of every page, as every kind of visitor meets it, is pressed over a real connection whose
relay loses the answer, or all but its beginning, and is then pressed again. What the database and
the bank hold must be what one press with its answer leaves behind, and the second answer what the
first would have been.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import LargeBinary, select, update
from sqlalchemy.orm import Session
from werkzeug.serving import WSGIRequestHandler, make_server

from blueprints.billing.vouchers import codes
from core import clock
from core.db import reading, unit_of_work
from gateways.payments.sandbox.store import Decision
from models import Base as Tables
from models import Plan, TaxExemption, Voucher, VoucherBatch
from tests import crawl
from tests.conftest import Base, Portal
from tests.test_budgets import Answer, Wire
from tests.thin_line import Loss, Request, ThinLine, thin_line
from tests.world import NOW, PASSWORD, STAFF

CHOSEN = {"sign_in_id": "richard", "password": "amber-violin-thursday"}
VOUCHER = "23479ACDEFGHJKM" + codes.check_letter("23479ACDEFGHJKM")
FILLED = {
    "password": CHOSEN["password"],
    "value": "new@example.org",
    "address": "2 Oak St",
    "invitee": "guest@example.org",
    "voucher": VOUCHER,
    "text": "We did not order this.",
    "wifi_name": "Attic",
    "wifi_password": "amber violin thursday",
    "forward_to": "+1 541 416 6117",
    "street": "2 Oak St",
    "city": "Pinecrest",
}
"""What is typed into fields that are empty at first."""
CALLS = (
    "number,direction,other,started_at,seconds,amount\n"
    f"{crawl.PHONES['alice']},out,+442079460958,2026-06-18T10:00:00-07:00,60,1.25\n"
    "soon,out,+442079460958,2026-06-18T10:00:00-07:00,60,1.25\n"
)
RANDOM = {"public_id", "key", "result", "gateway_reference", "hosted_url", "facts", "password_hash"}
"""Columns that two equal runs fill differently; their rows are counted."""
LEAST = {"anonymous": 5, "vera": 3, "theo": 3, "mallory": 7, "alice": 9, "bob": 9}
"""Sign in, welcome, the three ways in; sign out; pay from three places, also another amount;
continue and cancel."""
ENDINGS = (
    *("/sign-in?done=not-me", "/sign-in?done=not-me-unreached"),
    "/sign-in?done=closed",
)
"""Where a form leads that ends this session too."""
PLACEHOLDER = re.compile("^staff-[0-9a-z]{16}$")
"""What stands in the place of the ID of a staff member who has not used the link yet."""
TRIES = "sign_in_attempts"
"""A row for each press of a form with a password, also of the second: limits count presses."""
SIGN_INS = {"sessions", "activity", "customers"}
"""Signing in twice opens two sessions, on a new device two of these as well: an answer that carries
a secret is never given twice (DESIGN §3). The first one, whose cookie nobody has, ends by itself;
the list of what happened shows both, and so the customer's revision rises twice."""

WAYS_IN = {"auth.register", "auth.recover", "auth.find_id"}
"""A way in is known by its cookie: whoever never got that begins another, and the first one ends by
itself. The later steps are pressed again in tests/auth/test_ways_in_machine.py."""


@dataclass(frozen=True)
class Form:
    """A form by where it stands, so that it is found again in a fresh world."""

    stage: str
    page: str
    place: int
    filled: tuple[tuple[str, str], ...] = ()


@dataclass
class Street:
    """The portal on a port of its own, and the lossy line to it."""

    portal: Portal
    base: Base
    line: ThinLine
    entrance: int

    def fresh(self, name: str, stage: str) -> Wire:
        """A new world at `stage`, and the browser of `name` in it."""
        self.line.lose = None
        self.base.reset()
        self.portal.execute(
            "DELETE FROM memberships WHERE account_id = :id", id=self.portal.world.accounts["rich"]
        )
        with self.portal.app.app_context():
            unit_of_work(self._sell_voucher)
            unit_of_work(lambda session: session.execute(update(Plan).values(crawl.SELLS_DATA)))
            unit_of_work(lambda session: crawl.add_phones(session, self.portal.world))
        wire = Wire(self.entrance)
        if name in STAFF:
            wire.cookies["session"] = self.portal.visitor(name).cookies()["session"]
            with self.portal.app.app_context():
                crawl.ask_for_letter(self.portal, "alice")
                unit_of_work(self._exempt)
        elif name != "anonymous":
            wire.sign_in(name)
        if stage == "under way":
            payer = Wire(self.entrance)
            payer.sign_in("alice")
            [form] = _forms(payer.get(self.portal.path()), "/billing/pay")
            assert payer.post(form.get("action"), values_of(form)).status == 303
        return wire

    def _exempt(self, session: Session) -> None:
        exemption = TaxExemption(
            account_id=self.portal.world.accounts["alice"],
            tax_code="STATE",
            from_on=NOW.date() - timedelta(days=30),
            reason="C-77",
        )
        session.add(exemption)

    def _sell_voucher(self, session: Session) -> None:
        batch = VoucherBatch(
            public_id="sold",
            name="Mill Street",
            amount_minor=2_000,
            currency="USD",
            voucher_count=1,
            made_at=clock.now(),
        )
        session.add(batch)
        session.flush()
        code_hash = codes.hash_of(self.portal.settings.secret, VOUCHER)
        session.add(Voucher(batch_id=batch.id, serial=1, code_hash=code_hash))

    def pages(self, name: str) -> dict[str, str]:
        """The pages that `name` may try to open. Of payments and invoices, the newest ones."""
        account = "mallory" if name == "mallory" else "alice"
        newest = {
            kind: self.portal.rows(
                f"SELECT public_id FROM {kind}s WHERE account_id = :id ORDER BY id DESC LIMIT 1",
                id=self.portal.world.accounts[account],
            )
            for kind in ("payment", "invoice")
        }
        known = {kind: rows[0][0] for kind, rows in newest.items() if rows}
        paths = crawl.addresses(self.portal, account, **known)
        paths["auth.welcome"] = self._welcome()
        readable = crawl.list_gets(self.portal)
        found = {page: path for page, path in paths.items() if page in readable}
        return found | {"one invoice": f"{paths['billing.pay']}?invoice={known['invoice']}"}

    def _welcome(self) -> str:
        result = self.portal.app.test_cli_runner().invoke(args=["customers", "add", "3003"])
        return re.sub(r"^https?://[^/]+", "", result.stdout.strip())

    def holds(self) -> dict[str, Counter[tuple[Any, ...]]]:
        """Every row of every table without what is random."""
        with self.portal.app.app_context(), reading() as session:
            return {
                table.name: Counter(
                    tuple(PLACEHOLDER.sub("staff-…", str(value)) for value in row)
                    for row in session.execute(
                        select(
                            *(
                                column
                                for column in table.columns
                                if not isinstance(column.type, LargeBinary)
                                and column.name not in RANDOM
                            )
                        )
                    )
                )
                for table in Tables.metadata.sorted_tables
                if table.name != TRIES
            }

    def charged(self) -> int:
        """How many payments the bank knows of, in all worlds so far."""
        return len(self.portal.bank.list_latest(10_000))


def values_of(form: Any) -> dict[str, str]:
    return {name: value or "" for name, value in form.form_values()}


def _forms(answer: Answer, action_ends: str = "") -> list[Any]:
    if "html" not in answer.header("Content-Type") or not answer.body:
        return []
    forms = answer.page.cssselect("form[method=post]")
    return [form for form in forms if form.get("action").endswith(action_ends)]


@pytest.fixture
def street(portal: Portal, base: Base) -> Iterator[Street]:
    here = contextvars.copy_context()  # with this test's clock

    def application(environ: Any, start_response: Any) -> Any:
        return here.copy().run(portal.app, environ, start_response)

    class Silent(WSGIRequestHandler):
        def log(self, *_about: Any) -> None:
            """Nothing."""

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with thin_line(None, 0) as line:
        yield Street(portal, base, line, line.listen(server.port))
    server.shutdown()
    server.server_close()


def find_forms(street: Street, name: str) -> list[Form]:
    """The forms that `name` meets; one that stands on several pages with the same content once."""
    found: dict[tuple[Any, ...], Form] = {}
    for stage in ("quiet", "under way"):
        wire = street.fresh(name, stage)
        for page, path in street.pages(name).items():
            for place, form in enumerate(_forms(wire.get(path))):
                if not form.cssselect("button"):
                    continue  # a passkey's, which only its script sends
                values = values_of(form)
                shown = {k: v for k, v in values.items() if k not in ("csrf_token", "form_key")}
                variants: list[dict[str, str]] = [{}]
                if "amount" in values:
                    variants.append({"choice": "other", "amount": "5.00"})
                elif "who" in values:
                    variants = [{"who": "3003"}]
                elif "sign_in_id" in values:
                    typed = {"sign_in_id": "alice", "password": PASSWORD}
                    variants = [CHOSEN if page == "auth.welcome" else typed]
                elif page == "auth.confirm" and "password" in values:
                    variants = [{"password": PASSWORD}]
                elif filled := FILLED.keys() & values.keys():
                    variants = [{name: FILLED[name] for name in filled}]
                    variants[0] |= _also_typed(page, form)
                for typed in variants:
                    about = (_without_ids(form.get("action")), *sorted((shown | typed).items()))
                    found.setdefault(about, Form(stage, page, place, tuple(typed.items())))
    return list(found.values())


def _also_typed(page: str, form: Any) -> dict[str, str]:
    """What is chosen on this page alone."""
    if page == "billing.disputes.dispute_new":
        return {"line": form.cssselect("[name=line]")[0].get("value")}
    return {"on": f"{NOW.date() + timedelta(days=20)}"} if page == "plans.move" else {}


def press(street: Street, name: str, form: Form, loss: Loss | None) -> tuple[Answer, int]:
    """Press it in a fresh world, twice when the first answer is lost; the answer that came, and how
    many payments the bank has got by it."""
    wire = street.fresh(name, form.stage)
    path = street.pages(name)[form.page]
    found = _forms(wire.get(path))[form.place]
    values = values_of(found) | dict(form.filled)
    before = street.charged()
    if loss is not None:
        street.line.lose = lambda request: loss if request.method == "POST" else None
        with pytest.raises((AssertionError, ConnectionResetError)):
            wire.post(found.get("action"), values)
        assert street.line.requests[-1].loss is loss
        street.line.lose = None
    return wire.post(found.get("action"), values), street.charged() - before


def leads_to(answer: Answer) -> tuple[int, str]:
    """Status and target, with random ids made equal."""
    return answer.status, _without_ids(answer.header("Location"))


def _without_ids(path: str) -> str:
    return re.sub(r"[0-9A-Za-z_-]{16,}", "…", path)


def extra(after: dict[str, Counter[Any]], wanted: dict[str, Counter[Any]]) -> dict[str, Any]:
    return {
        name: (after[name] - wanted[name], wanted[name] - after[name])
        for name in wanted
        if after[name] != wanted[name]
    }


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("name", ["anonymous", *crawl.CUSTOMERS])
def test_every_form_pressed_again_counts_once(street: Street, name: str) -> None:
    forms = find_forms(street, name)
    assert len(forms) >= LEAST[name]
    for number, form in enumerate(forms):
        once, charged_once = press(street, name, form, None)
        wanted = street.holds()
        assert once.status == 303, (form, once.status)
        again, charged = press(street, name, form, Loss((0, 1, 60)[number % 3]))
        differs = extra(street.holds(), wanted)
        if form.page == "auth.confirm" and "password" in dict(form.filled):
            # Its answer holds the session's new id, which is lost with it: sign in again.
            assert leads_to(again) == (303, "/sign-in"), form
            continue
        if form.page == "auth.sign_in":
            assert set(differs) - {"devices"} == SIGN_INS
            assert all(more.total() == 1 for more, _fewer in differs.values())
            differs = {}
        if form.page in WAYS_IN:
            assert {name: more.total() for name, (more, _fewer) in differs.items()} == {"flows": 1}
            differs = {}
        assert differs == {}, form
        if once.header("Location") in ENDINGS:
            assert (again.status, leads_to(again)[1].split("?")[0]) == (303, "/sign-in"), form
            continue
        assert leads_to(again) == leads_to(once), form
        assert charged == charged_once, form


SECRETS = {
    "staff.letters": {"one_time_codes", "activity", "data_accesses"},
    "staff.view": {"sessions", "activity", "data_accesses"},
}
"""Pages of staff whose form is answered with a secret, a printed code or a session: pressed again
it makes another one, and the first is dead."""
SHOWN_ONCE = {"staff.money.vouchers"}
"""What is made there is shown once: pressed again, the form leads to it without its secrets."""


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_every_form_of_staff_pressed_again_counts_once(street: Street) -> None:
    reason = {"reason": "as agreed on the phone"}
    typed = {
        "staff.unpaid": reason | {"until": f"{NOW.date() + timedelta(days=7)}"},
        "staff.money.take": {"amount": "5.00", "kind": "cash"},
        "staff.money.payment": reason | {"amount": "5.00"},
        "staff.money.credit": reason | {"amount": "5.00"},
        "staff.money.charge": reason | {"amount": "5.00", "description": "Visit"},
        "staff.money.exemption_list": reason | {"tax": "E911"},
        "staff.money.invoice": reason | {"what": "all"},
        "staff.money.vouchers": {"name": "Shop", "amount": "5.00", "count": "3", "form": "page"},
        "staff.phone.calls": {"rows": CALLS},
        "staff.bill_runs.list": {"as_of_on": f"{NOW.date()}"},
        "staff.prices.plan": {"price": "21.00", "existing": "keep"}
        | {"from_on": f"{NOW.date() + timedelta(days=40)}"},
        "staff.members": {"name": "Kim", "email": "kim@example.net"},
        "staff.view": {"reason": "a call about a bill"},
        "staff.call": {
            "contact": street.portal.one(
                "SELECT id FROM contacts WHERE account_id = 1 AND kind = 'email'"
            )
        },
    }
    wire = street.fresh("ada", "quiet")
    pages = {page: path for page, path in street.pages("ada").items() if page.startswith("staff.")}
    forms = [
        (form.get("action"), Form("quiet", page, place, tuple(typed.get(page, {}).items())))
        for page, path in pages.items()
        for place, form in enumerate(_forms(wire.get(path)))
        if form.get("action") != "/sign-out"
    ]
    for number, (_action, form) in enumerate(forms):
        once, _ = press(street, "ada", form, None)
        wanted = street.holds()
        assert once.status in (200, 303), (form, once.status)
        again, _ = press(street, "ada", form, Loss((0, 1, 60)[number % 3]))
        differs = extra(street.holds(), wanted)
        if form.page in SECRETS:
            assert differs.keys() <= SECRETS[form.page] | {"customers", "accounts"}, differs
            assert all(more.total() <= 2 for more, _fewer in differs.values()), differs
            differs = {}
        assert differs == {}, form
        if form.page in SHOWN_ONCE:
            assert (once.status, again.status) == (200, 303), form
            continue
        assert leads_to(again) == leads_to(once), form
    assert len({action for action, _form in forms}) >= 7


@pytest.mark.parametrize("kept", [0, 60])
def test_paying_over_a_lossy_line_counts_once(street: Street, kept: int) -> None:
    """On both engines, and to the receipt: the first answer to each press is lost."""
    wire = street.fresh("alice", "quiet")
    [form] = _forms(wire.get(street.portal.path()), "/billing/pay")
    street.line.lose = lose_first(Loss(kept))
    for _ in range(2):
        out = until_it_comes(lambda: wire.post(form.get("action"), values_of(form)))
    assert out.header("Location").startswith("http://localhost:8001/pay/")
    [(key, public_id)] = street.portal.rows(
        "SELECT key, public_id FROM payments WHERE state = 'sent'"
    )
    street.portal.bank.decide(key, Decision.PAY)
    back = until_it_comes(lambda: wire.get(f"/pay/{public_id}/return"))
    receipt = until_it_comes(lambda: wire.get(back.header("Location"))).page
    assert "Paid. Thank you." in receipt.text_content()
    entries = "SELECT count(*) FROM journal_entries WHERE key = :key"
    assert street.portal.one(entries, key=f"payment:{public_id}") == 1
    assert sum(request.loss is not None for request in street.line.requests) == 3


def lose_first(loss: Loss) -> Callable[[Request], Loss | None]:
    """A plan that loses the first answer to each request."""
    seen: set[str] = set()

    def plan(request: Request) -> Loss | None:
        about = f"{request.method} {request.path}"
        is_first = about not in seen
        seen.add(about)
        return loss if is_first else None

    return plan


def until_it_comes(press: Callable[[], Answer]) -> Answer:
    with contextlib.suppress(AssertionError, ConnectionResetError):
        return press()
    return press()
