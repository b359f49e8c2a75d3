"""Balance, invoices, payments. Every page lies under an account's address."""

from flask import Blueprint

bp = Blueprint("billing", __name__)

from blueprints.billing import methods, planned, statement_views, views

bp.register_blueprint(methods.bp, url_prefix="/methods")
bp.register_blueprint(planned.bp)
