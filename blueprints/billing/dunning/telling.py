"""Telling people of a step: one message by each of its channels, in the account's language.

Reminders go by the channels of the policy, unless the customer wants none of them; what is done to
an account is owed to its people and goes out in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from blueprints.billing.dunning.reading import Frame, Known
from blueprints.billing.dunning.steps import Step, StepKind, coming
from core import addressees, outbox
from core.topics import Topic
from models import Channel, Plan, PlanKind, Subscription

KINDS = {
    StepKind.REMIND: "bill_reminder",
    StepKind.FEE: "late_fee",
    StepKind.HOLD: "line_held",
    StepKind.CLOSE: "closed_unpaid",
}
_CHANNELS = {
    StepKind.FEE: (Channel.EMAIL,),
    StepKind.HOLD: (Channel.EMAIL, Channel.TEXT),
    StepKind.CLOSE: (Channel.EMAIL, Channel.TEXT),
}


def tell(session: Session, told: Sequence[tuple[Known, Step]], frame: Frame) -> None:
    """Queue the messages about `told`, each account with the step that is said, within the running
    unit of work."""
    by_account = {known.debtor.account_id: (known, step) for known, step in told}
    groups: dict[tuple[StepKind, tuple[Channel, ...]], list[int]] = {}
    for account_id, (_known, step) in by_account.items():
        channels = step.reminder.channels if step.reminder else _CHANNELS[step.kind]
        groups.setdefault((step.kind, channels), []).append(account_id)
    phones = with_phone(
        session,
        [id_ for id_, (_known, step) in by_account.items() if step.kind is StepKind.HOLD],
        frame,
    )
    letters = []
    for (kind, channels), account_ids in groups.items():
        for each in addressees.find(
            session, account_ids, Topic.BILLS, channels, is_owed=kind is not StepKind.REMIND
        ):
            known, step = by_account[each.account_id]
            facts = _facts(known, step, frame) | {
                "account_number": each.account_number,
                "account": each.account_public_id,
                "has_phone": each.account_id in phones,
            }
            letters.append(
                outbox.Letter(
                    KINDS[kind],
                    each.recipient,
                    each.language,
                    account_id=each.account_id,
                    customer_id=each.customer_id,
                    channel=each.channel.value,
                    facts=facts,
                )
            )
    outbox.queue(session, letters)


def _facts(known: Known, step: Step, frame: Frame) -> dict[str, Any]:
    next_step = next(iter(coming(known.debtor, known.policy, frame.rules, frame.today)), None)
    return {
        "amount_minor": step.amount_minor,
        "currency": frame.currency,
        "number": step.invoice.number,
        "due_on": step.invoice.due_on.isoformat(),
        "is_overdue": step.invoice.due_on < frame.today,
        "next_step": next_step.kind.value if next_step else "",
        "next_on": next_step.on.isoformat() if next_step else "",
    }


def with_phone(session: Session, account_ids: Sequence[int], frame: Frame) -> set[int]:
    """Those of the accounts with a phone plan, whose emergency calls stay possible."""
    if not account_ids:
        return set()
    return set(
        session.scalars(
            select(Subscription.account_id)
            .join(Plan, Plan.id == Subscription.plan_id)
            .where(
                Subscription.account_id.in_(account_ids),
                Plan.kind == PlanKind.PHONE.value,
                or_(Subscription.ended_on.is_(None), Subscription.ended_on > frame.today),
            )
        )
    )
