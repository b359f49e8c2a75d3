"""What follows when a customer says that something was not them."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from blueprints.auth import disabling, factors, reach, recovering
from blueprints.dashboard.activity.service import EventRow
from core import activity, form_keys, outbox, revisions, sessions
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.outbox import Letter
from core.sessions import SignedIn

DONE = "/sign-in?done=not-me"
DONE_UNREACHED = "/sign-in?done=not-me-unreached"


def report(person: SignedIn, event: EventRow, key: ArrivedKey) -> str:
    """Let neither password nor passkey open anything, and end all sessions, this one too; take the
    second steps away that a stranger may have; open a recovery; tell the ISP. Where to go on.

    Second steps from long before the event stay: without them whoever reads the customer's mail
    would be let in by that alone.
    """
    customer_id = person.customer_id

    def work(session: Session) -> str:
        # First, so that nobody is let in meanwhile: whoever signs in waits for this.
        now = disabling.close(session, customer_id)
        sessions.end_all_of(session, customer_id)
        recovering.end_ways_in(session, customer_id)
        since = event.happened_at - timedelta(days=current_isp().contact_rest_days)
        factors.distrust(session, customer_id, since, _given(event))
        happened = {"event": event.kind, "event_at": event.happened_at.isoformat()}
        activity.record(
            session,
            [activity.Event(disabling.REPORTED, now, customer_id=customer_id, facts=happened)],
        )
        revisions.raise_customer(session, customer_id)
        reach.announce(session, customer_id, disabling.REPORTED)
        channel = recovering.start_recovery(session, customer_id, after_report=True)
        _tell_isp(session, person, event)
        return DONE_UNREACHED if channel is None else DONE

    return form_keys.once(key, work)


def _given(event: EventRow) -> str:
    """The second step that was given with what is reported (`factors.name_of`)."""
    if event.kind == "recovery_code_used":
        return factors.RECOVERY
    return str(event.facts.get("second_step", ""))


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
