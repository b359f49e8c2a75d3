"""The cards and bank accounts that a customer has saved, kept at the gateway."""

from flask import Blueprint

bp = Blueprint("methods", __name__)

from blueprints.billing.methods import views
