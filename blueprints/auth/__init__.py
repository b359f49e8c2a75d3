"""Signing in and out, second steps, and the link with which one chooses ID and password."""

from flask import Blueprint

bp = Blueprint("auth", __name__)

from blueprints.auth import (
    confirm,
    factor_views,
    find_id_views,
    lost_views,
    recover_views,
    register_views,
    second_step_views,
    views,
)
