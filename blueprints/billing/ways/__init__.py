"""Paying without a card: how, with which reference; and credit moved between one's own accounts."""

from flask import Blueprint

bp = Blueprint("ways", __name__)

from blueprints.billing.ways import views
