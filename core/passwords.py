"""Passwords: Argon2id hashes, at most two computed at once on the machine, and what is refused.

Cost follows OWASP's password storage cheat sheet (19 MiB, t=2, p=1). At most two hashes run at
once over all processes, because each takes memory and a core. One of the two slots is kept for
devices that have signed in before, so that somebody guessing elsewhere cannot keep their owner
waiting (bar 5); the other is for everyone.
"""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from flask_babel import gettext as _

from core import metrics
from core.db import refuse_inside_unit

log = logging.getLogger("lastmile.passwords")

MIN_LENGTH = 10
MAX_LENGTH = 256
MIN_SCORE = 3
SLOT = "hash.lock"
SLOT_OF_KNOWN_DEVICES = "hash-known.lock"
# How many may wait in one process, each in a thread of its own: together fewer than a web process
# has threads, so that pages are served while a thousand people sign in at once.
WAITING = 4
WAITING_KNOWN_DEVICES = 2
WAIT_SECONDS = 5.0
COMMON = Path(__file__).with_name("common_passwords.txt.gz")
# zxcvbn takes quadratic time in the length; this many characters settle the question.
JUDGED_LENGTH = 40

_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
# What an unknown sign-in ID is verified against, so that it takes as long as a known one. Made by
# the same hasher at import, of a password nobody has.
_NOBODY = _hasher.hash(os.urandom(16))
_waiting = threading.BoundedSemaphore(WAITING)
_known_waiting = threading.BoundedSemaphore(WAITING_KNOWN_DEVICES)


class TooBusy(Exception):
    """More people are signing in than the machine can check; try again in a few seconds."""


def normalise(password: str) -> str:
    """NFKC, as NIST SP 800-63B asks, so that one password typed on two keyboards is the same."""
    return unicodedata.normalize("NFKC", password)


def hash_password(folder: Path, password: str, *, is_known_device: bool = False) -> str:
    """The Argon2id hash to store. Never call it inside a unit of work.

    `folder` holds the lock files of the hash slots. Raises TooBusy when no slot comes free.
    """
    with _slot(folder, is_known_device=is_known_device):
        return _hasher.hash(normalise(password))


@contextmanager
def seat(*, is_known_device: bool) -> Iterator[None]:
    """A place among the few who may wait for a hash in this process. Raises TooBusy at once when
    all are taken: whoever comes too many costs nothing."""
    waiting = _known_waiting if is_known_device else _waiting
    if not waiting.acquire(blocking=False):
        metrics.note_hash_refusal()
        raise TooBusy
    try:
        yield
    finally:
        waiting.release()


@contextmanager
def _slot(folder: Path, *, is_known_device: bool, is_seated: bool = False) -> Iterator[None]:
    refuse_inside_unit("hashing")
    with nullcontext() if is_seated else seat(is_known_device=is_known_device):
        names = (SLOT_OF_KNOWN_DEVICES, SLOT) if is_known_device else (SLOT,)
        files: list[int] = []
        try:
            try:
                files.extend(
                    os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in names
                )
            except OSError as error:
                log.exception("the lock of the hash slots cannot be used")
                raise TooBusy from error
            with metrics.hashing() as has_waited:
                _take_any(files)
                has_waited()
                yield
        finally:
            for descriptor in files:
                os.close(descriptor)  # closing releases the lock


def _take_any(descriptors: Sequence[int]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for descriptor in descriptors:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return
        time.sleep(0.003)
    metrics.note_hash_refusal()
    raise TooBusy


def verify(
    folder: Path,
    password_hash: str | None,
    password: str,
    *,
    is_known_device: bool,
    is_seated: bool = False,
) -> bool:
    """Whether the password is the one hashed; None hashes all the same and says no.

    `folder` holds the lock files of the hash slots; `is_seated` says that the caller has a `seat`.
    Raises TooBusy when no slot comes free.
    """
    with _slot(folder, is_known_device=is_known_device, is_seated=is_seated):
        try:
            _hasher.verify(password_hash or _NOBODY, normalise(password))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with less than today's cost; sign-in then replaces it (bar 4)."""
    return _hasher.check_needs_rehash(password_hash)


def check_cost() -> None:
    """Refuse to start with less than the promised cost (bar 4). Raises RuntimeError."""
    if _hasher.type is not Type.ID or _hasher.memory_cost < 19_456 or _hasher.time_cost < 2:
        raise RuntimeError("password hashing is set below Argon2id 19 MiB, t=2")


def find_weakness(
    password: str, context: Sequence[str], *, requires_mixed: bool = False
) -> str | None:
    """Why the password is refused, as a sentence that says what to do; None when it is good.

    `context` are words an attacker would try first: the ISP's and its plans' names, the person's
    name, ID, e-mail and account number. `requires_mixed`: the ISP's rule that letters, numbers and
    special characters stand together.
    """
    normal = normalise(password)
    if len(normal) < MIN_LENGTH:
        return _("Use at least %(count)s characters.", count=MIN_LENGTH)
    if len(normal) > MAX_LENGTH:
        return _("Use at most %(count)s characters.", count=MAX_LENGTH)
    if requires_mixed and not is_mixed(normal):
        return _("Use letters, numbers and special characters together.")
    words = [word.casefold() for text in context for word in (text, *text.split()) if len(word) > 2]
    folded = normal.casefold()
    rest = folded
    for word in sorted(words, key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(rest) < MIN_LENGTH // 2 and rest != folded:
        return _("Leave out your name, your account number and the name of the company or a plan.")
    return _find_guessable(normal, words)


def _find_guessable(normal: str, words: Sequence[str]) -> str | None:
    """Why a password is easy to guess; None when it is not."""
    if normal.casefold() in _common():
        return _guessed_by_many()
    # Its lists of words take 12 MB: only processes in which somebody chooses a password hold them.
    from zxcvbn import zxcvbn

    found = zxcvbn(normal[:JUDGED_LENGTH], user_inputs=words)
    if found["score"] >= MIN_SCORE:
        return None
    return _why_guessed(found["sequence"])


def _why_guessed(matches: Sequence[Mapping[str, Any]]) -> str:
    """What makes a password easy to guess, from the part of it that is guessed as one."""
    longest = max(matches, key=lambda match: len(match["token"]))
    if longest["pattern"] == "dictionary" and longest["dictionary_name"] == "passwords":
        return _guessed_by_many()
    if longest["pattern"] == "spatial":
        return _("This is easy to guess: it follows the rows of a keyboard.")
    if longest["pattern"] == "repeat":
        return _("This is easy to guess: it repeats itself.")
    if longest["pattern"] in ("sequence", "date", "regex"):
        return _("This is easy to guess: it is a date or a row like 1234 or abcd.")
    return _(
        "This is easy to guess. Add words that do not belong together, or mix letters, "
        "numbers and special characters."
    )


def _guessed_by_many() -> str:
    return _("This is easy to guess: many people use it. Choose words of your own.")


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    """Passwords that leaked often and look random to zxcvbn all the same: those of ten characters
    or more among the 20,000 that Django refuses (docs/identity.md)."""
    return frozenset(gzip.decompress(COMMON.read_bytes()).decode().splitlines())


def is_mixed(password: str) -> bool:
    """Whether letters, numbers and special characters stand together in it."""
    return (
        any(sign.isalpha() for sign in password)
        and any(sign.isdigit() for sign in password)
        and any(not sign.isalnum() and not sign.isspace() for sign in password)
    )
