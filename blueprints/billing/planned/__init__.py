"""Payments that are planned: scheduled, by autopay, and in arrangements."""

from flask import Blueprint

bp = Blueprint("planned", __name__)

from blueprints.billing.methods import removing
from blueprints.billing.planned import (
    arrangement_views,
    autopay_views,
    foreseeing,
    views,
)

removing.on_removed.append(foreseeing.end_uses)
