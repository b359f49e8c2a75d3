"""The people of an account: who shares it, in which role, and who is asked to."""

from flask import Blueprint

bp = Blueprint("people", __name__)

from blueprints.dashboard.people import (
    invitation_views,
    views,
)
