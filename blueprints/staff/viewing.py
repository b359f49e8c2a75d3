"""Seeing the portal as a customer does (bar 35): a session of its own that writes nothing.

The reason is asked for and noted, the customer reads that it happened, and every page says who
looks. The staff member's own session goes on when the view ends, under a new id.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth.service import Browser
from blueprints.staff.looking import find_person_id
from core import activity, clock, data_access, revisions, sessions
from core.data_access import Reader
from core.db import unit_of_work
from core.errors import NotFound
from core.sessions import SignedIn
from models import Customer, SignInSession, StaffMember

LASTS = timedelta(hours=1)


def begin(
    account_public_id: str, public_id: str, reason: str, person: SignedIn, browser: Browser
) -> str:
    """Open a view of somebody who uses the account; the token of its cookie. Raises NotFound."""
    reader = Reader(person.customer_id, person.name)

    def work(session: Session) -> str:
        account_id, customer_id = find_person_id(session, account_public_id, public_id)
        customer = session.get_one(Customer, customer_id)
        if customer.is_disabled:
            raise NotFound
        # A press whose answer was lost has left a view that nobody holds.
        session.execute(
            update(SignInSession)
            .where(
                SignInSession.viewer_session_id == person.session_id,
                SignInSession.ended_at.is_(None),
            )
            .values(ended_at=clock.now())
        )
        token = sessions.open_view(
            session,
            customer,
            viewer_id=person.customer_id,
            viewer_session_id=person.session_id,
            address=browser.address,
            user_agent=browser.user_agent,
            lasts=LASTS,
        )
        data_access.note(
            session,
            reader,
            ("the portal as this customer sees it",),
            f"view: {reason}",
            account_id=account_id,
            customer_id=customer_id,
        )
        activity.record(
            session,
            [
                activity.Event(
                    "staff_saw_portal",
                    clock.now(),
                    customer_id=customer_id,
                    facts={"by": reader.name, "reason": reason},
                )
            ],
        )
        revisions.raise_customer(session, customer_id)
        return token

    return unit_of_work(work)


def end(person: SignedIn) -> str | None:
    """End the view that `person` is in. The token of the staff member's own session, which goes on
    under another id; None when it has run out meanwhile."""

    def work(session: Session) -> str | None:
        now = clock.now()
        view = session.scalar(
            update(SignInSession)
            .where(SignInSession.id == person.session_id, SignInSession.ended_at.is_(None))
            .values(ended_at=now)
            .returning(SignInSession.viewer_session_id)
        )
        if view is None:
            return None
        own = session.execute(
            select(SignInSession)
            .join(StaffMember, StaffMember.customer_id == SignInSession.customer_id)
            .where(
                SignInSession.id == view,
                SignInSession.customer_id == person.viewer_id,
                SignInSession.ended_at.is_(None),
                SignInSession.expires_at > now,
                StaffMember.is_disabled.is_(False),
            )
        ).scalar_one_or_none()
        if own is None:
            return None
        # The view was use of it: whoever looked for a while has not been away.
        own.last_used_at = now
        session.flush()
        return sessions.renew(session, own.id, has_password=False)

    return unit_of_work(work)
