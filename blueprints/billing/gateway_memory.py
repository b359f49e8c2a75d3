"""What a gateway that finds nothing by our keys keeps of them: its own ids, in the rows of the
payments and methods themselves."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.db import DatabaseBusy, db, unit_of_work
from gateways.payments.errors import GatewayTimeout
from models import Payment, PaymentMethod


class GatewayMemory:
    """The gateway's id for each of our keys."""

    def find(self, key: str) -> str | None:
        """The gateway's id for the payment or the method with this key, if one was kept."""
        for model in (Payment, PaymentMethod):
            reference = db.session.scalar(select(model.gateway_reference).where(model.key == key))
            if reference is not None:
                return reference
        return None

    def keep(self, key: str, reference: str) -> None:
        """Keep the gateway's id; it is committed when this returns. Raises GatewayTimeout."""
        account_id = db.session.scalar(
            select(Payment.account_id).where(Payment.key == key)
        ) or db.session.scalar(select(PaymentMethod.account_id).where(PaymentMethod.key == key))
        if account_id is None:
            raise GatewayTimeout("there is no payment or method with this key")

        def work(session: Session) -> None:
            for model in (Payment, PaymentMethod):
                session.execute(
                    update(model).where(model.key == key).values(gateway_reference=reference)
                )

        try:
            unit_of_work(work, account_id)
        except DatabaseBusy as busy:
            raise GatewayTimeout("the gateway's id could not be kept") from busy
