"""What follows when a customer says that something was not them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach, recovering
from blueprints.dashboard.activity.service import EventRow
from core import activity, clock, form_keys, outbox, revisions, sessions
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.outbox import Letter
from core.sessions import SignedIn
from models import Customer, Factor

DONE = "/sign-in?done=not-me"


def report(person: SignedIn, event: EventRow, key: ArrivedKey) -> str:
    """End all sessions, this one too; let the password and the factor that was confirmed last since
    the event count no more; open a recovery; tell the ISP. Where to go on.

    A factor from before the event is no stranger's: without it whoever knows the password would
    be let in by that alone.
    """
    customer_id = person.customer_id

    def work(session: Session) -> str:
        now = clock.now()
        sessions.end_all_of(session, customer_id)
        recovering.end_ways_in(session, customer_id)
        session.execute(
            update(Customer).where(Customer.id == customer_id).values(password_disabled_at=now)
        )
        _disable_newest_factor(session, customer_id, event.happened_at)
        happened = {"event": event.kind, "event_at": event.happened_at.isoformat()}
        activity.record(
            session,
            [activity.Event("not_me_reported", now, customer_id=customer_id, facts=happened)],
        )
        revisions.raise_customer(session, customer_id)
        reach.announce(session, customer_id, "not_me_reported")
        recovering.start_recovery(session, customer_id, after_report=True)
        _tell_isp(session, person, event)
        return DONE

    return form_keys.once(key, work)


def _disable_newest_factor(session: Session, customer_id: int, since: datetime) -> None:
    newest = session.scalar(
        select(Factor.id)
        .where(Factor.customer_id == customer_id, Factor.confirmed_at >= since)
        .order_by(Factor.confirmed_at.desc(), Factor.id.desc())
        .limit(1)
    )
    if newest is not None:
        session.execute(update(Factor).where(Factor.id == newest).values(confirmed_at=None))


def _tell_isp(session: Session, person: SignedIn, event: EventRow) -> None:
    isp = current_isp()
    if not isp.support_email:
        return
    facts = {
        "sign_in_id": person.sign_in_id,
        "happened_at": event.happened_at.isoformat(),
        "event": event.kind,
    }
    letter = Letter(
        "not_me", isp.support_email, isp.language, customer_id=person.customer_id, facts=facts
    )
    outbox.queue(session, [letter])
