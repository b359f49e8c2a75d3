"""Buying data beside what is included: the only writer of top-ups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from flask_babel import force_locale
from flask_babel import gettext as _
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from blueprints.lines.allowances import deciding
from blueprints.lines.allowances.errors import (
    BoughtMeanwhile,
    NoTopUp,
    OfferChanged,
    PayFirst,
)
from blueprints.lines.allowances.rules import TOP_UP_DAYS
from blueprints.lines.allowances.standing import is_in_use
from core import clock, form_keys, ids
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.units import format_data
from models import (
    Account,
    AccountStatus,
    HoldReason,
    Line,
    LineHold,
    Plan,
    Subscription,
    TopUp,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """So much data for so much money before taxes, usable until and with `expires_on`.
    `bought_count`: how often it was bought for this line. It is not sold while the line
    `is_held_unpaid`."""

    amount_bytes: int
    price_minor: int
    expires_on: date
    bought_count: int
    is_held_unpaid: bool
    language: str

    @property
    def stamp(self) -> str:
        """What the page showed: another stamp, another offer."""
        return f"{self.bought_count}-{self.amount_bytes}-{self.price_minor}"


def find_offer(session: Session, account_id: int, line_id: int, today: date) -> Offer | None:
    """What can be bought for the line; None where its plan offers nothing."""
    bought = select(func.count(TopUp.id)).where(TopUp.line_id == line_id).scalar_subquery()
    is_held_unpaid = exists().where(
        LineHold.line_id == line_id,
        LineHold.reason == HoldReason.UNPAID.value,
        LineHold.released_at.is_(None),
    )
    row = session.execute(
        select(
            Plan.top_up_bytes,
            Plan.top_up_minor,
            Plan.top_up_days,
            Account.language,
            bought.label("bought_count"),
            is_held_unpaid.label("is_held_unpaid"),
        )
        .select_from(Line)
        .join(Account, Account.id == Line.account_id)
        .join(Subscription, is_in_use(line_id, account_id, today))
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(
            Line.id == line_id,
            Line.account_id == account_id,
            Line.is_closed.is_(False),
            Account.status == AccountStatus.ACTIVE.value,
        )
        .order_by(Subscription.line_id.is_(None), Subscription.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None or not row.top_up_bytes or not row.top_up_minor:
        return None
    return Offer(
        row.top_up_bytes,
        row.top_up_minor,
        today + timedelta(days=row.top_up_days or TOP_UP_DAYS),
        row.bought_count,
        bool(row.is_held_unpaid),
        row.language,
    )


def buy(
    account_id: int, line_id: int, customer_id: int, stamp: str, path: str, key: ArrivedKey
) -> str:
    """Buy what the page with this `stamp` showed; `path`, where that is seen.

    It joins the next bill, counts at once, and opens or speeds up a line that was limited. Raises
    NoTopUp, PayFirst, OfferChanged, BoughtMeanwhile.
    """
    today = clock.today(current_isp().timezone)  # read now: within the unit it takes a connection

    def work(session: Session) -> str:
        offer = find_offer(session, account_id, line_id, today)
        if offer is None:
            raise NoTopUp
        if offer.is_held_unpaid:
            raise PayFirst
        if offer.stamp != stamp:
            is_bought = stamp.partition("-")[0] != str(offer.bought_count)
            raise BoughtMeanwhile if is_bought else OfferChanged
        deciding.speed_up(session, line_id, today)
        charge_id = deciding.add_charge(
            session, account_id, offer.price_minor, _description(offer), "top-up"
        )
        session.add(
            TopUp(
                public_id=ids.public_id(),
                key=key.intent,
                line_id=line_id,
                customer_id=customer_id,
                amount_bytes=offer.amount_bytes,
                bought_at=clock.now(),
                expires_on=offer.expires_on,
                charge_id=charge_id,
            )
        )
        session.flush()
        deciding.decide(session, line_id, today, is_told=False)
        return path

    return form_keys.once(key, work, account_id)


def _description(offer: Offer) -> str:
    with force_locale(offer.language.replace("-", "_")):
        return _("%(data)s more data", data=format_data(offer.amount_bytes, offer.language))
