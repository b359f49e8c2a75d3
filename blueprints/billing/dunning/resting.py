"""Leaving an account alone for a while, as staff decide, and which policy counts for it."""

from __future__ import annotations

from datetime import date, timedelta

from flask_babel import gettext as _
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing.dunning import releasing
from core import activity, clock, form_keys, ids, revisions
from core.errors import NotFound, Refusal
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import Account, CustomerGroup, DunningRest

MOST_DAYS = 90
"""So long may an account be left alone at once."""


class RestDayUnfit(Refusal):
    """The last day of the rest is past, or too far away."""

    @property
    def customer_message(self) -> str:
        return _("Choose a day from today on, %(days)s days ahead at most.", days=MOST_DAYS)


class GroupUnknown(Refusal):
    """There is no such customer group."""

    @property
    def customer_message(self) -> str:
        return _("Choose one of the groups.")


def rest(
    account_id: int, until_on: date, reason: str, made_by_id: int, key: ArrivedKey, path: str
) -> str:
    """Leave the account alone until and with `until_on`: no step is taken, and a line that is held
    for what is unpaid is opened. Returns `path`. Raises RestDayUnfit."""
    today = clock.today(current_isp().timezone)
    if not today <= until_on <= today + timedelta(days=MOST_DAYS):
        raise RestDayUnfit

    def work(session: Session) -> str:
        now = clock.now()
        session.add(
            DunningRest(
                public_id=ids.public_id(),
                account_id=account_id,
                until_on=until_on,
                reason=reason,
                made_by_id=made_by_id,
                made_at=now,
            )
        )
        session.flush()
        releasing.lift_unpaid(session, [account_id], today)
        revisions.raise_account(session, account_id)
        activity.record(session, [activity.Event("rest_made", now, account_id=account_id)])
        return path

    return form_keys.once(key, work, account_id)


def end_rest(account_id: int, public_id: str, key: ArrivedKey, path: str) -> str:
    """End a rest before its day; one that is over stays over. Raises NotFound."""

    def work(session: Session) -> str:
        found = session.scalar(
            select(DunningRest.id).where(
                DunningRest.account_id == account_id, DunningRest.public_id == public_id
            )
        )
        if found is None:
            raise NotFound
        session.execute(
            update(DunningRest)
            .where(DunningRest.id == found, DunningRest.ended_at.is_(None))
            .values(ended_at=clock.now())
        )
        revisions.raise_account(session, account_id)
        return path

    return form_keys.once(key, work, account_id)


def choose_group(account_id: int, code: str, key: ArrivedKey, path: str) -> str:
    """Put the account into a group, or with an empty `code` into none. Raises GroupUnknown."""

    def work(session: Session) -> str:
        if code and session.get(CustomerGroup, code) is None:
            raise GroupUnknown
        session.execute(
            update(Account)
            .where(Account.id == account_id)
            .values(group_code=code or None, revision=Account.revision + 1)
        )
        return path

    return form_keys.once(key, work, account_id)
