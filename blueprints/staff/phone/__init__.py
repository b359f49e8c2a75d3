"""The telephone numbers of subscribers: giving them out, and what waits at the switch."""

from flask import Blueprint

bp = Blueprint("phone", __name__)

from blueprints.staff.phone import call_views, views
