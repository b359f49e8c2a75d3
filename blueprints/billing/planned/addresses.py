"""Addresses of the pages of planned payments, for the account of the request."""

from __future__ import annotations

from typing import Any

from flask import url_for

from core.sessions import signed_in

_ID = "publicid"


def of_account(endpoint: str, **values: Any) -> str:
    """The path of a page of billing for this account."""
    account = signed_in().account
    public_id = account.public_id if account is not None else ""
    return url_for(endpoint, account_public_id=public_id, **values)


def of_planned(public_id: str) -> str:
    """The path of a planned payment's own page."""
    return of_account("billing.planned.planned_detail", public_id=public_id)


def to_fill(endpoint: str) -> str:
    """The path of something that is not there yet, with `{id}` for its public id."""
    return of_account(endpoint, public_id=_ID).replace(_ID, "{id}")
