"""The base of all forms. The gate in `core/access.py` checks where a form came from before any
view runs, so a form only checks the shape of its fields."""

from __future__ import annotations

from typing import Any

from flask import request
from flask_wtf import FlaskForm
from flask_wtf.form import _Auto


class PortalForm(FlaskForm):
    """A form whose proof of origin was checked by the gate for every unsafe route at once."""

    class Meta:
        csrf = False

        def wrap_formdata(self, _form: Any, formdata: Any) -> Any:
            """Only the fields of a form: a file or JSON in their place would be no text."""
            return request.form if formdata is _Auto else formdata
