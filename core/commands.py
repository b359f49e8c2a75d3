"""Groups of `flask` commands that end with one line when the database cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.cli import AppGroup
from sqlalchemy.exc import DBAPIError

from core.db import DatabaseBusy


@contextmanager
def in_words() -> Iterator[None]:
    """Turn what the database raises into a click exception that says what to do."""
    try:
        yield
    except DatabaseBusy:
        raise click.ClickException(
            "others were writing to the database for too long; run the command again"
        ) from None
    except DBAPIError as error:
        reason = (str(error.orig).splitlines() or ["no reason given"])[0]
        raise click.ClickException(
            f"the database cannot be used: {reason}. What was not finished is not stored; when it "
            "is mended, run the command again"
        ) from None


class Commands(AppGroup):
    """A group whose commands run under `in_words`."""

    def invoke(self, ctx: click.Context) -> Any:
        with in_words():
            return super().invoke(ctx)
