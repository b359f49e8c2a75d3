"""What has been erased since a backup, so that restoring it does not bring it back (bar 73).

A list beside the backups, which are older than what it tells: `begun` is on the disk before the
erasure is committed, so none is ever missing, and `done` comes after it. What was begun and never
done was rolled back, or its process died in between: it is erased again only where the database
that is replaced shows that it happened. A line names nobody: it is a moment and the id that the
customer's row keeps. Ids of rows would not do, they are given out again after a restore.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, literal
from sqlalchemy.orm import Session

from core import backup_file, clock
from core.errors import Refusal
from core.settings import Settings
from models import Customer

log = logging.getLogger("lastmile.erasures")

NAME = "erased.list"
_PATTERN = "erased*.list"
"""Those of other nodes may be laid beside ours under names of their own."""
# Found wherever it stands in a line: power may have been lost in the middle of the one before.
_ENTRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (begun|done) ([0-9A-Za-z_-]+)$", re.MULTILINE)

Erase = Callable[[Session, Sequence[str]], int]
"""Erases the customers of these public ids who are not erased yet, and says how many those were; a
blueprint knows how."""


class ErasureNotNoted(Refusal):
    """The list cannot be written, so nothing is erased: a restore would bring it back."""

    @property
    def customer_message(self) -> str:
        return _("Your online account cannot be closed at the moment. Please try again later.")


def pseudonym(public_id: str) -> str:
    """What an erased customer is called, in every database that knows of the erasure."""
    return f"closed-{public_id}"


def is_erased() -> ColumnElement[bool]:
    """Whether a row of `customers` is that of one who is erased."""
    return Customer.sign_in_id == literal("closed-") + Customer.public_id


SEEN = "SELECT public_id, sign_in_id = 'closed-' || public_id FROM customers"
"""Every customer of a database, and whether they are erased in it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Public ids of customers: who was erased, and of whom it was only begun."""

    done: frozenset[str]
    doubtful: frozenset[str]


def folders(settings: Settings) -> list[Path]:
    """Where the list may be: with the backups, or with the data where those cannot be written."""
    return [folder for folder in (settings.backups, settings.data) if folder is not None]


@contextmanager
def noted(places: Sequence[Path], public_id: str) -> Iterator[None]:
    """Around the unit of work that erases. Raises ErasureNotNoted."""
    try:
        folder = _add(places, "begun", public_id)
    except OSError as error:
        log.exception("the list of erasures cannot be written")
        raise ErasureNotNoted from error
    yield
    try:
        _add([folder], "done", public_id)
    except OSError:
        log.exception("an erasure is not listed as done")


def _add(places: Sequence[Path], word: str, public_id: str) -> Path:
    """Put a line on the disk in the first of `places` that takes it, and say in which."""
    for folder in places:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _append(folder, f"\n{clock.now():%Y-%m-%dT%H:%M:%SZ} {word} {public_id}\n")
        except OSError:
            if folder == places[-1]:
                raise
            log.warning("the list of erasures is kept elsewhere", exc_info=True)
        else:
            return folder
    raise FileNotFoundError(NAME)


def _append(folder: Path, line: str) -> None:
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    backup_file.sync_folder(folder)


def try_folder(folder: Path) -> None:
    """Whether the list can be written in `folder`, leaving nothing behind. Raises OSError."""
    path = folder / NAME
    if path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        return
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=there):
        pass


def read(places: Sequence[Path]) -> Listed:
    """What all lists in `places` tell. Raises OSError."""
    paths = {path.resolve() for folder in places for path in folder.glob(_PATTERN)}
    found = [
        match.groups()
        for path in sorted(paths)
        for match in _ENTRY.finditer(path.read_text(errors="replace"))
    ]
    done = frozenset(public_id for word, public_id in found if word == "done")
    return Listed(done, frozenset(public_id for _word, public_id in found) - done)
