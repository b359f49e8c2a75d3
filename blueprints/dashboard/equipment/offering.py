"""Whether the pages about the router are offered, for the pages that lead to them."""

from __future__ import annotations

from flask import current_app

from core.policy import RUNS_LINE
from core.sessions import signed_in
from models import Role


def is_offered() -> bool:
    """Whether whoever asks may use them, and something reaches routers."""
    account = signed_in().account
    may = account is not None and Role(account.role) in RUNS_LINE
    return may and current_app.extensions["equipment_gateway"] is not None
