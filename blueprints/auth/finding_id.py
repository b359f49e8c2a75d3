"""Finding out one's own sign-in ID: it goes to a contact on file, and never to the screen."""

from __future__ import annotations

from sqlalchemy.orm import Session

from blueprints.auth import proving, recovering, whose
from blueprints.auth.proving import Step
from blueprints.auth.service import Browser, SignInRules
from core import clock, codes, flows, outbox
from core.flows import FlowInHand
from core.form_keys import ArrivedKey
from core.outbox import Letter
from models import Channel, FlowKind

PATHS = {
    Step.WAY: "/forgot-id/way",
    Step.SENT: "/forgot-id/sent",
    "ended": "/forgot-id?done=ended",
}
"""Where each step is shown."""


def begin(
    typed: str, browser: Browser, rules: SignInRules, held: FlowInHand | None
) -> tuple[str | None, str]:
    """See `proving.begin`."""
    meant = whose.read(typed)
    return proving.begin(
        FlowKind.FIND_ID,
        meant,
        lambda session: whose.find_customers(session, meant),
        browser,
        rules,
        held,
    )


def send(flow: FlowInHand, key: ArrivedKey, channel: Channel, rules: SignInRules) -> str:
    """Send the IDs of those who are meant to a contact that is theirs; the path that goes on.

    Raises TooManyAttempts by what was typed.
    """

    def work(session: Session, held: FlowInHand) -> str:
        customers = recovering.list_customers(session, held.facts["whose"])
        people = [codes.sendings_to(rules.secret, customer_id=row.id) for row in customers]
        may_send = proving.may_send(session, held, people, rules)
        whom = [row.id for row in customers]
        target = proving.target_of(
            whom, recovering.reach_of(session, whom), channel, held.facts["contacts"]
        )
        named = [row for row in customers if row.id in target.proven]
        outbox.queue(
            session,
            [
                Letter(
                    "your_id",
                    each.value,
                    named[0].language,
                    customer_id=named[0].id,
                    channel=channel.value,
                    secrets={"sign_in_ids": ", ".join(row.sign_in_id for row in named)},
                )
                for each in (target.recipients if named and may_send else ())
            ],
        )
        if not held.facts["whose"] and may_send:
            recovering.hint(session, held.facts["accounts"], channel)
        facts = dict(held.facts) | {"channel": channel.value}
        flows.move(session, held, Step.SENT, facts=facts, expires_at=clock.now() + proving.LASTS)
        return Step.SENT

    return proving.advance(flow, key, PATHS, proving.SENDING, work)
