"""Prices of the catalog: what plans cost, and from which day another price counts for whom."""

from flask import Blueprint

bp = Blueprint("prices", __name__, url_prefix="/prices")

from blueprints.staff.prices import views
