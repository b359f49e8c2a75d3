"""Which gateway keeps a saved method, and whether the portal still pays through it."""

from __future__ import annotations

from flask import current_app
from sqlalchemy import ColumnElement, true

from gateways.payments.base import PaymentGateway
from models import PaymentMethod


def current_name() -> str | None:
    """The name of the gateway that the portal pays through; None while it has none."""
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    return None if gateway is None else gateway.name


def is_moved(gateway_name: str) -> bool:
    """Whether a method that this gateway keeps is of no use, as the ISP pays through another now.

    While there is no gateway at all it may be the same again tomorrow, and nothing has moved.
    """
    return current_name() not in (None, gateway_name)


def is_kept() -> ColumnElement[bool]:
    """The same the other way round, as a condition of a query."""
    name = current_name()
    return true() if name is None else PaymentMethod.gateway == name
