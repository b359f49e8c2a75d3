"""Balance, invoices, payments. Every page lies under an account's address."""

from flask import Blueprint

bp = Blueprint("billing", __name__)

from blueprints.billing import (
    disputes,
    gateway_words,
    methods,
    planned,
    statement_views,
    views,
    vouchers,
    ways,
)

bp.add_app_template_filter(gateway_words.translate, "gateway_words")
bp.register_blueprint(methods.bp, url_prefix="/methods")
bp.register_blueprint(planned.bp)
bp.register_blueprint(disputes.bp)
bp.register_blueprint(vouchers.bp)
bp.register_blueprint(ways.bp)
