"""What `flask` commands share: a group that imports each when it is called, groups that end with
one line when the database cannot be used, and days as options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo

import click
from flask.cli import AppGroup
from sqlalchemy.exc import DBAPIError

from core.db import DatabaseBusy
from core.isp import current_isp


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


class CommandsByPlace(AppGroup):
    """A group that imports a command when it is asked for. `places` are by the command's name, like
    `package.module:attribute`."""

    def __init__(self, places: Mapping[str, str], *, name: str) -> None:
        super().__init__(name)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._places, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._places and cmd_name not in self.commands:
            module, _, attribute = self._places[cmd_name].partition(":")
            self.add_command(getattr(import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)


class Commands(AppGroup):
    """A group whose commands run under `in_words`."""

    def invoke(self, ctx: click.Context) -> Any:
        with in_words():
            return super().invoke(ctx)


class Day(click.ParamType[datetime | date]):
    """A day, from its beginning at the ISP, or an instant with its zone."""

    name = "DATE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | date:
        text = str(value)
        try:
            found = datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
        except ValueError:
            found = None
        if found is None or (isinstance(found, datetime) and found.tzinfo is None):
            self.fail("write 2026-03-31, or 2026-03-31T02:00Z with its time zone", param, ctx)
        return found


def beginning(day: datetime | date) -> datetime:
    """The instant that is meant: of a day, its beginning at the ISP."""
    if isinstance(day, datetime):
        return day
    zone = ZoneInfo(current_isp().timezone)
    return datetime.combine(day, time(), zone).astimezone(UTC)
