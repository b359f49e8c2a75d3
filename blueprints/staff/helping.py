"""What staff do for somebody who cannot get in: unlock, end sessions, start a reset.

None of it shows or chooses a password, code or seed (bar 23), and the customer reads each in their
activity and, as it concerns security, hears of it at once.
"""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from blueprints.auth import factors, reach, recovering
from blueprints.staff.errors import NoWayToReset
from blueprints.staff.looking import find_person_id
from core import activity, clock, codes, revisions, sessions, throttle
from core.data_access import Reader
from core.form_keys import ArrivedKey, once
from models import Customer, SignInAttempt


def unlock(
    account_public_id: str, public_id: str, reader: Reader, secret: bytes, key: ArrivedKey
) -> str:
    """Forget the failed tries of somebody who uses the account, so that they need not wait.

    A password that a hundred failures have disabled stays so: recovery lifts that (bar 5). Raises
    NotFound.
    """

    def work(session: Session) -> str:
        account_id, customer_id = find_person_id(session, account_public_id, public_id)
        names = session.execute(
            select(Customer.sign_in_key, Customer.email_key).where(Customer.id == customer_id)
        ).one()
        subjects = [throttle.subject_of(secret, name) for name in names if name]
        subjects.append(codes.guesses_at(secret, customer_id=customer_id))
        subjects.append(factors.code_subject(secret, customer_id))
        session.execute(delete(SignInAttempt).where(SignInAttempt.subject.in_(subjects)))
        session.execute(
            update(Customer)
            .where(Customer.id == customer_id, Customer.password_disabled_at.is_(None))
            .values(failed_in_a_row=0)
        )
        _tell(session, "staff_unlocked", account_id, customer_id, reader)
        return _page(account_public_id, public_id, "unlocked")

    return once(key, work)


def start_reset(
    account_public_id: str, public_id: str, reader: Reader, secret: bytes, key: ArrivedKey
) -> str:
    """Send somebody who uses the account a link for a new password, to the contacts on file. Nobody
    of staff sees it, and it skips no second factor. Raises NotFound, NoWayToReset, TooManyAttempts.
    """

    def work(session: Session) -> str:
        _account_id, customer_id = find_person_id(session, account_public_id, public_id)
        to = codes.sendings_to(secret, customer_id=customer_id)
        throttle.count_within(session, to, throttle.SENDINGS)
        if recovering.start_recovery(session, customer_id, by=reader.name) is None:
            raise NoWayToReset
        return _page(account_public_id, public_id, "reset")

    return once(key, work)


def end_sessions(account_public_id: str, public_id: str, reader: Reader, key: ArrivedKey) -> str:
    """Sign somebody who uses the account out everywhere. Raises NotFound."""

    def work(session: Session) -> str:
        account_id, customer_id = find_person_id(session, account_public_id, public_id)
        sessions.end_all_of(session, customer_id)
        _tell(session, "staff_ended_sessions", account_id, customer_id, reader)
        return _page(account_public_id, public_id, "ended")

    return once(key, work)


def _page(account_public_id: str, public_id: str, done: str) -> str:
    return f"/staff/accounts/{account_public_id}/people/{public_id}?done={done}"


def _tell(session: Session, kind: str, account_id: int, customer_id: int, reader: Reader) -> None:
    """The person reads it; who else uses the account does not: it concerns their sign-in alone."""
    del account_id
    activity.record(
        session,
        [activity.Event(kind, clock.now(), customer_id=customer_id, facts={"by": reader.name})],
    )
    revisions.raise_customer(session, customer_id)
    reach.announce(session, customer_id, kind)
