"""Signing in and out, second steps, and the link with which one chooses ID and password."""

from flask import Blueprint

bp = Blueprint("auth", __name__)

from blueprints.auth import (  # noqa: E402 - the views need `bp`
    confirm,  # noqa: F401
    factor_views,  # noqa: F401
    find_id_views,  # noqa: F401
    lost_views,  # noqa: F401
    recover_views,  # noqa: F401
    register_views,  # noqa: F401
    second_step_views,  # noqa: F401
    views,  # noqa: F401
)
