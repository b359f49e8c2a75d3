"""The demo's mailbox: every message the portal sent, to read in the browser. Demo mode only."""

from flask import Blueprint

bp = Blueprint("demo", __name__)

from blueprints.demo import views
