"""The words by which staff find an account: of its name, number, contacts and lines, and of the
people who use it.

Each word is stored folded (no case, no accents) with the account, in the transaction of whatever
changes it (`refresh`), so that a prefix is a range of one index. Phone numbers are stored as their
digits in the forms in which they are said: with the country, without it, the last seven, the last
four.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import phonenumbers
from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, func, insert, select
from sqlalchemy.orm import Session, aliased

from core import clock
from core.db import db, unit_of_work
from models import Account, Contact, ContactKind, Customer, Line, Membership, SearchTerm

log = logging.getLogger("lastmile.search")

LONGEST = 80
LEAST_TYPED = 2
MOST_WORDS = 6
BATCH = 200
MEND_EVERY = timedelta(days=1)
_COUNTED = 2_000
"""Up to how many rows of a prefix are counted to find the rarest of those that were typed."""
_LAST = "\U0010ffff"
_WORD = re.compile(r"[^\W_]+")
_PHONE = re.compile(r"\+?[\d\s()./-]+")
_MOST_VALUES = 500
"""Accounts at a time, in one IN list."""

Terms = set[tuple[str, int]]


def fold(text: str) -> list[str]:
    """The words of `text` without case and accents, each at most `LONGEST` characters."""
    apart = unicodedata.normalize("NFKD", text)
    plain = "".join(character for character in apart if not unicodedata.combining(character))
    return [word[:LONGEST] for word in _WORD.findall(plain.casefold())]


# Storing --------------------------------------------------------------------------------------


def refresh(session: Session, account_ids: Sequence[int]) -> None:
    """Make the terms of these accounts what they should be, within the running unit of work."""
    for start in range(0, len(account_ids), _MOST_VALUES):
        part = account_ids[start : start + _MOST_VALUES]
        wanted, stored = _wanted(session, part), _stored(session, part)
        connection = session.connection()
        if gone := stored - wanted:
            connection.execute(
                delete(SearchTerm).where(
                    SearchTerm.term == bindparam("gone_term"),
                    SearchTerm.account_id == bindparam("gone_from"),
                ),
                [{"gone_term": term, "gone_from": of} for term, of in sorted(gone)],
            )
        if new := wanted - stored:
            connection.execute(
                insert(SearchTerm),
                [{"term": term, "account_id": account_id} for term, account_id in sorted(new)],
            )


def refresh_of_customer(session: Session, customer_id: int) -> None:
    """The same for every account that a customer uses, after name, ID or contacts changed."""
    refresh(
        session,
        session.scalars(
            select(Membership.account_id).where(Membership.customer_id == customer_id)
        ).all(),
    )


def _stored(session: Session, account_ids: Sequence[int]) -> Terms:
    rows = session.execute(
        select(SearchTerm.term, SearchTerm.account_id).where(SearchTerm.account_id.in_(account_ids))
    )
    return {(row.term, row.account_id) for row in rows}


def _wanted(session: Session, account_ids: Sequence[int]) -> Terms:
    """What the tables say that the terms of these accounts are."""
    # The caller may have written through the session just now.
    session.flush()
    found: dict[int, set[str]] = defaultdict(set)
    for account_id, number, name in session.execute(
        select(Account.id, Account.number, Account.name).where(Account.id.in_(account_ids))
    ):
        found[account_id].update(fold(number), fold(name))
    for account_id, username in session.execute(
        select(Line.account_id, Line.username).where(Line.account_id.in_(account_ids))
    ):
        found[account_id].update(fold(username))
    uses = Membership.account_id.in_(account_ids)
    for account_id, sign_in_id, name in session.execute(
        select(Membership.account_id, Customer.sign_in_id, Customer.name)
        .join(Customer, Customer.id == Membership.customer_id)
        .where(uses)
    ):
        found[account_id].update(fold(sign_in_id), fold(name))
    columns = (Contact.kind, Contact.value, Contact.address)
    for row in session.execute(
        select(Contact.account_id, *columns).where(
            Contact.account_id.in_(account_ids), Contact.ended_on.is_(None)
        )
    ):
        found[row.account_id].update(_of_contact(row.kind, row.value, row.address))
    for row in session.execute(
        select(Membership.account_id, *columns)
        .join(Contact, Contact.customer_id == Membership.customer_id)
        .where(uses, Contact.ended_on.is_(None))
    ):
        found[row.account_id].update(_of_contact(row.kind, row.value, row.address))
    return {(term, account_id) for account_id, terms in found.items() for term in terms}


def _of_contact(kind: str, value: str, address: Mapping[str, str] | None) -> list[str]:
    if kind == ContactKind.PHONE:
        return _of_phone(value)
    if kind == ContactKind.POSTAL and address:
        parts = (part for name, part in address.items() if name not in ("country", "region"))
        return fold(" ".join(parts))
    return fold(value)


def _of_phone(value: str) -> list[str]:
    digits = "".join(character for character in value if character.isdigit())
    forms = {digits, digits[-7:], digits[-4:]}
    # One that is no number is found by its digits, as it was typed.
    with suppress(phonenumbers.NumberParseException):
        forms.add(str(phonenumbers.parse(value).national_number))
    return [form for form in forms if form]


# Finding --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hits:
    """Ids of the accounts found, the closest first, and whether there are more."""

    account_ids: list[int]
    has_more: bool


def find(session: Session, typed: str, most: int) -> Hits:
    """Up to `most` accounts of which each typed word begins one of the terms."""
    found: dict[int, None] = {}
    has_more = False
    for words in _ways_to_read(typed):
        hits = _matching(session, words, most)
        found |= dict.fromkeys(hits.account_ids)
        has_more = has_more or hits.has_more
    return Hits(list(found)[:most], has_more or len(found) > most)


def _ways_to_read(typed: str) -> list[list[str]]:
    """The words of what was typed; of what looks like a phone number, its digits as well, as they
    are and without the prefixes with which it may be dialled."""
    words = list(dict.fromkeys(fold(typed[:200])))[:MOST_WORDS]
    if sum(map(len, words)) < LEAST_TYPED:
        return []
    ways = [words]
    if _PHONE.fullmatch(typed.strip()):
        digits = "".join(words)
        for form in (digits, digits.removeprefix("00"), digits.removeprefix("0")):
            if len(form) >= LEAST_TYPED and [form] not in ways:
                ways.append([form])
    return ways


def _begins(column: Any, word: str) -> ColumnElement[bool]:
    # Both engines compare code points here (models.py), so these are the words that begin so.
    return and_(column >= word, column < word + _LAST)


def _matching(session: Session, words: Sequence[str], most: int) -> Hits:
    rarest, *others = sorted(words, key=lambda word: _count(session, word, len(words)))
    matches = [_begins(SearchTerm.term, rarest)]
    for word in others:
        other = aliased(SearchTerm)
        matches.append(
            exists().where(other.account_id == SearchTerm.account_id, _begins(other.term, word))
        )
    # In the order of the index, so that reading ends with the last row that is shown; an account
    # has few terms that begin alike.
    looked_at = most * 6
    rows = session.scalars(
        select(SearchTerm.account_id)
        .where(*matches)
        .order_by(SearchTerm.term, SearchTerm.account_id)
        .limit(looked_at)
    ).all()
    return Hits(list(dict.fromkeys(rows)), has_more=len(rows) == looked_at)


def _count(session: Session, word: str, words: int) -> int:
    """How many rows begin with `word`, `_COUNTED` at most; nothing is asked about a single word."""
    if words == 1:
        return 0
    some = select(SearchTerm.term).where(_begins(SearchTerm.term, word)).limit(_COUNTED).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


# Checking -------------------------------------------------------------------------------------


def _after(session: Session, account_id: int) -> Sequence[int]:
    return session.scalars(
        select(Account.id).where(Account.id > account_id).order_by(Account.id).limit(BATCH)
    ).all()


def _differing(session: Session, account_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Of these accounts those whose terms are wrong: how many are missing, how many too many."""
    wanted, stored = _wanted(session, account_ids), _stored(session, account_ids)
    counts: dict[int, tuple[int, int]] = {}
    for terms, step in ((wanted - stored, (1, 0)), (stored - wanted, (0, 1))):
        for _term, account_id in terms:
            missing, wrong = counts.get(account_id, (0, 0))
            counts[account_id] = missing + step[0], wrong + step[1]
    return counts


def find_faults(session: Session) -> Iterator[str]:
    """A sentence for each account whose terms are not what a rebuild makes of it."""
    last = 0
    while account_ids := _after(session, last):
        last = account_ids[-1]
        rows = session.execute(
            select(Account.id, Account.number).where(Account.id.in_(account_ids))
        )
        numbers = {row.id: row.number for row in rows}
        for account_id, (missing, wrong) in sorted(_differing(session, account_ids).items()):
            yield f"account {numbers[account_id]}: {missing} words missing, {wrong} too many"


def mend_some(last: int) -> tuple[int, int] | None:
    """Look at the next accounts after the id `last`, and mend the terms that are wrong; the id of
    the last one looked at and how many were mended. None at the end."""
    account_ids = _after(db.session(), last)
    if not account_ids:
        return None
    wrong = sorted(_differing(db.session(), account_ids))
    if wrong:
        unit_of_work(lambda session: refresh(session, wrong), *wrong)
    return account_ids[-1], len(wrong)


class Mending:
    """A duty of the worker: once a day it looks at the terms of all accounts, some with each round.

    After an upgrade from a release without them it fills them; later it mends what was written past
    the portal.
    """

    __name__ = "mend_search_terms"  # as the log names a duty

    def __init__(self) -> None:
        self._last = 0
        self._begin_at = clock.now()

    def __call__(self) -> int:
        """Returns 1 while there are accounts to look at, else 0."""
        if clock.now() < self._begin_at:
            return 0
        done = mend_some(self._last)
        if done is None:
            self._last, self._begin_at = 0, clock.now() + MEND_EVERY
            return 0
        self._last, mended = done
        if mended:
            log.info("search terms mended", extra={"accounts": mended})
        return 1
