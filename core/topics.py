"""What messages are about, by which channel each is usual, and what a customer chose instead."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, literal, select
from sqlalchemy.orm import Session

from models import Channel, MessageChoice


class Topic(StrEnum):
    BILLS = "bills"
    PAYMENTS = "payments"
    USAGE = "usage"
    SERVICE = "service"
    APPOINTMENTS = "appointments"
    SECURITY = "security"


CHANNELS = (Channel.EMAIL, Channel.TEXT)
Choices = Mapping[tuple[Topic, Channel], bool]
USUAL: Choices = {
    (Topic.BILLS, Channel.EMAIL): True,
    (Topic.BILLS, Channel.TEXT): False,
    (Topic.PAYMENTS, Channel.EMAIL): True,
    (Topic.PAYMENTS, Channel.TEXT): False,
    (Topic.USAGE, Channel.EMAIL): True,
    (Topic.USAGE, Channel.TEXT): False,
    (Topic.SERVICE, Channel.EMAIL): True,
    (Topic.SERVICE, Channel.TEXT): True,
    (Topic.APPOINTMENTS, Channel.EMAIL): True,
    (Topic.APPOINTMENTS, Channel.TEXT): True,
    (Topic.SECURITY, Channel.EMAIL): True,
    (Topic.SECURITY, Channel.TEXT): False,
}
"""What counts until a customer chooses otherwise. A text costs the ISP, an e-mail does not."""


def wants(customer_id: Any, topic: Topic, channel: Channel) -> ColumnElement[bool]:
    """Whether a customer (an id, or a column of ids) wants messages of `topic` by `channel`."""
    chosen = (
        select(MessageChoice.is_on)
        .where(
            MessageChoice.customer_id == customer_id,
            MessageChoice.topic == topic.value,
            MessageChoice.channel == channel.value,
        )
        .scalar_subquery()
    )
    return func.coalesce(chosen, literal(USUAL[topic, channel]))


def choices_of(session: Session, customer_id: int) -> dict[tuple[Topic, Channel], bool]:
    """Every topic and channel, and whether the customer wants it."""
    rows = session.execute(
        select(MessageChoice.topic, MessageChoice.channel, MessageChoice.is_on).where(
            MessageChoice.customer_id == customer_id
        )
    )
    chosen = {(row.topic, row.channel): row.is_on for row in rows}
    return {
        (topic, channel): chosen.get((topic.value, channel.value), usual)
        for (topic, channel), usual in USUAL.items()
    }


def choose(session: Session, customer_id: int, wanted: Choices) -> None:
    """Keep what differs from the usual, within the running unit of work."""
    session.execute(delete(MessageChoice).where(MessageChoice.customer_id == customer_id))
    rows = [
        {
            "customer_id": customer_id,
            "topic": topic.value,
            "channel": channel.value,
            "is_on": is_on,
        }
        for (topic, channel), is_on in wanted.items()
        if is_on is not USUAL[topic, channel]
    ]
    if rows:
        session.execute(insert(MessageChoice), rows)
