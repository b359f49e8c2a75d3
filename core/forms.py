"""The base of all forms. The gate in `core/access.py` checks where a form came from before any
view runs, so a form only checks the shape of its fields."""

from __future__ import annotations

from flask_wtf import FlaskForm


class PortalForm(FlaskForm):
    """A form whose proof of origin was checked by the gate for every unsafe route at once."""

    class Meta:
        csrf = False
