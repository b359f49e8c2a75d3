"""Second factors of the people in the world, for tests: given past the pages, and their codes."""

from __future__ import annotations

from datetime import timedelta

from pyotp import TOTP
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.auth import totp
from core import clock, ids, outbox, sealing
from core.db import db, unit_of_work
from models import Contact, Factor, FactorKind, Message, StaffMember
from tests.conftest import Portal
from tests.page import Page, Visitor

SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def give_app(portal: Portal, name: str, seed: str = SEED) -> str:
    """Let `name` have an authenticator app; returns its key."""
    sealed = sealing.seal(portal.settings.secret, totp._PURPOSE, seed)
    _give(portal, name, FactorKind.TOTP, secret=sealed)
    return seed


def give_email(portal: Portal, name: str) -> None:
    """Let `name` have codes by e-mail, to the address on file."""
    _give_contact(portal, name, FactorKind.EMAIL, "email")


def give_text(portal: Portal, name: str, number: str = "+15415550123") -> None:
    """Let `name` have codes by text message."""
    give_phone(portal, name, number)
    _give_contact(portal, name, FactorKind.TEXT, "phone")


def give_phone(portal: Portal, name: str, number: str = "+15415550123") -> None:
    """Put a phone number on file, as long as the account has been there."""
    with portal.app.app_context():
        unit_of_work(
            lambda session: session.add(
                Contact(
                    account_id=portal.world.accounts[name],
                    kind="phone",
                    value=number,
                    since_on=(clock.now() - timedelta(days=400)).date(),
                )
            )
        )


def _give_contact(portal: Portal, name: str, kind: FactorKind, of_contact: str) -> None:
    contact_id = portal.one(
        "SELECT id FROM contacts WHERE account_id = :id AND kind = :kind",
        id=portal.world.accounts[name],
        kind=of_contact,
    )
    _give(portal, name, kind, contact_id=contact_id)


def _give(portal: Portal, name: str, kind: FactorKind, **columns: object) -> None:
    now = clock.now()

    def work(session: Session) -> None:
        session.add(
            Factor(
                public_id=ids.public_id(),
                customer_id=portal.world.customers[name],
                kind=kind.value,
                created_at=now,
                confirmed_at=now,
                **columns,
            )
        )

    with portal.app.app_context():
        unit_of_work(work)
    portal.app.extensions["remembered"].forget()


def make_staff(portal: Portal, name: str, role: str = "support") -> int:
    """Let `name` be one of the ISP's own people; returns the customer's id."""
    customer_id = portal.world.customers[name]
    with portal.app.app_context():
        unit_of_work(
            lambda session: session.add(
                StaffMember(customer_id=customer_id, role=role, added_at=clock.now())
            )
        )
    return customer_id


def app_code(seed: str = SEED, steps: int = 0) -> str:
    """What the app shows now, or so many steps later."""
    return TOTP(seed).at(clock.now() + timedelta(seconds=30 * steps))


def sent_codes(portal: Portal) -> list[tuple[str, str]]:
    """Recipient and code of every code that was queued, the oldest first."""
    with portal.app.app_context():
        rows = db.session.execute(
            select(Message.recipient, Message.facts)
            .where(Message.kind == "second_step_code")
            .order_by(Message.id)
        ).all()
        return [(row.recipient, outbox.opened(row.facts)["code"]) for row in rows]


def told(portal: Portal) -> list[tuple[str, str]]:
    """Recipient and event of every security message that was queued."""
    with portal.app.app_context():
        rows = db.session.execute(
            select(Message.recipient, Message.facts)
            .where(Message.kind == "security")
            .order_by(Message.id)
        ).all()
        return [(row.recipient, row.facts["event"]) for row in rows]


def half_way(portal: Portal, name: str, **values: str) -> Visitor:
    """A browser that has given the right password of somebody with a second factor."""
    visitor = portal.visitor()
    page = visitor.sign_in(name, **values)
    assert (page.status, page.location) == (303, "/sign-in/second-step")
    assert "session" not in visitor.cookies()
    return visitor


def give_code(visitor: Visitor, code: str, by: str = "totp", **values: str) -> Page:
    """Type a code into the page of the second step."""
    page = visitor.get("/sign-in/second-step", by=by, sent="1")
    return visitor.submit(page, "/sign-in/second-step", code=code, **values)
