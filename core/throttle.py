"""Limits on guessing, kept in the database: right with several processes and after a restart.

Each try is a row, written before the password is checked, so that parallel tries cannot slip
through together (bars 5 and 7). If the row cannot be written the try is refused, not free.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from core import clock, metrics
from core.db import count_changed, unit_of_work
from models import AttemptState, SignInAttempt

log = logging.getLogger("lastmile.throttle")

WINDOW = timedelta(minutes=5)
PER_SUBJECT = 10
SUBJECTS_PER_NETWORK = 10
SUBJECTS_PER_SHARED_NETWORK = 200
FIRST_DELAY = timedelta(seconds=1)
LAST_DELAY = timedelta(minutes=15)
KEPT = timedelta(days=2)
CODES = ((timedelta(minutes=5), 5), (timedelta(hours=1), 20), (timedelta(days=1), 50))
"""How many wrong second factors and codes a person may give (bar 6)."""
STARTS = ((timedelta(minutes=5), 5), (timedelta(days=1), 20))
"""How often a way in may be begun for the same account, whoever begins it."""
RESETS = ((timedelta(days=1), 5),)
"""How often a password may be reset (bar 19)."""
SENDINGS = ((timedelta(hours=1), 5), (timedelta(days=1), 10))
"""How many codes are sent to one person, whatever they are for."""
Windows = Sequence[tuple[timedelta, int]]
_COUNTED_FAILURES = 12  # 2^10 s is beyond LAST_DELAY: more failures need not be counted


class TooManyAttempts(Exception):
    """Refused before the password was looked at; `retry_after_seconds` is rounded up, `limit` is
    the one that was met: of the person, or of the network."""

    def __init__(self, retry_after: timedelta, limit: str = "person") -> None:
        super().__init__()
        self.limit = limit
        self.retry_after_seconds = max(1, -(-int(retry_after.total_seconds() * 1000) // 1000))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A counted try. Unless `may_be_checked` the password must not be looked at: the answer is that
    of a wrong one, after the same work."""

    attempt_id: int
    may_be_checked: bool = True


def subject_of(secret: bytes, typed_id: str) -> bytes:
    """A keyed hash of a typed sign-in ID or e-mail address: the table names nobody."""
    return hmac.digest(secret, b"throttle\0" + typed_id.strip().casefold().encode(), hashlib.sha256)


def network_of(address: str) -> str:
    """The network that limits count: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network(f"{parsed}/64", strict=False).network_address) + "/64"
    return str(parsed)


def _delay_after(failures: int) -> timedelta:
    return min(FIRST_DELAY * 2 ** max(failures - 1, 0), LAST_DELAY) if failures else timedelta(0)


def _most_subjects(network: str, shared_networks: Sequence[IPv4Network | IPv6Network]) -> int:
    is_shared = any(
        network != "unknown" and ip_address(network.removesuffix("/64")) in shared
        for shared in shared_networks
    )
    return SUBJECTS_PER_SHARED_NETWORK if is_shared else SUBJECTS_PER_NETWORK


def refuse_early(
    session: Session,
    subject: bytes,
    address: str,
    shared_networks: Sequence[IPv4Network | IPv6Network],
    *,
    is_known_device: bool,
) -> None:
    """Raise TooManyAttempts for what `begin` would refuse, by reading alone.

    Guesses by the hundred then stand in no writers' queue. Whoever passes here has not been
    counted yet: `begin` looks again.
    """
    now, network = clock.now(), network_of(address)
    with noted(network):
        _check_subject(session, subject, now)
        if not is_known_device:
            most_subjects = _most_subjects(network, shared_networks)
            _check_network(session, subject, network, most_subjects, now)


def begin(
    subject: bytes,
    address: str,
    shared_networks: Sequence[IPv4Network | IPv6Network],
    *,
    is_known_device: bool,
    twin: bytes | None = None,
) -> Attempt:
    """Count a try before its password is checked. Raises TooManyAttempts.

    A known device brings a subject of its own and is not held up by its network's limit. `twin` is
    the other name of the same customer (of nobody, one that is never typed): what is refused
    follows from each name alone, so that nothing tells which two belong together, but both together
    get no more passwords checked than one.
    """
    network = network_of(address)
    most_subjects = _most_subjects(network, shared_networks)

    def work(session: Session) -> Attempt:
        now = clock.now()
        recent = _check_subject(session, subject, now)
        if twin is not None:
            recent += len(_recent(_in_a_row(session, twin), now))
        if not is_known_device:
            _check_network(session, subject, network, most_subjects, now)
        added = _add(session, subject, network, now)
        return Attempt(added.attempt_id, may_be_checked=recent < PER_SUBJECT)

    queues = [subject] if is_known_device else [subject, network.encode()]
    if twin is not None:
        queues.append(twin)
    with noted(network):
        return unit_of_work(_in_line(queues, work))


def begin_within(
    subject: bytes,
    windows: Windows,
    address: str = "",
    shared_networks: Sequence[IPv4Network | IPv6Network] = (),
) -> Attempt:
    """Count a try that is limited by `windows` (time, how many) alone, and where it has an address
    by the network's limit too. Raises TooManyAttempts. One that passes is not counted any more, but
    forgives none of the others."""
    network = network_of(address) if address else ""
    most_subjects = _most_subjects(network, shared_networks) if address else 0

    def work(session: Session) -> Attempt:
        now = clock.now()
        _check_windows(session, subject, windows, now)
        if address:
            _check_network(session, subject, network, most_subjects, now)
        return _add(session, subject, network, now)

    queues = [subject, network.encode()] if address else [subject]
    with noted(network):
        return unit_of_work(_in_line(queues, work))


def count_within(session: Session, subject: bytes, windows: Windows) -> Attempt:
    """The same within the running unit of work, for what one account or person may cause in a day.
    Raises TooManyAttempts."""
    now = clock.now()
    if session.connection().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_number_of(subject))))
    _check_windows(session, subject, windows, now)
    return _add(session, subject, "", now)


def _add(session: Session, subject: bytes, network: str, now: datetime) -> Attempt:
    attempt = SignInAttempt(
        subject=subject, network=network, state=AttemptState.PENDING.value, tried_at=now
    )
    session.add(attempt)
    session.flush()
    return Attempt(attempt.id)


def note_passed(session: Session, attempt: Attempt) -> None:
    """Say within the running unit of work that a counted try was right: it counts no more."""
    session.execute(
        update(SignInAttempt)
        .where(SignInAttempt.id == attempt.attempt_id)
        .values(state=AttemptState.PASSED.value)
    )


def _check_windows(session: Session, subject: bytes, windows: Windows, now: datetime) -> None:
    longest, most = max(windows)
    tried = session.scalars(
        select(SignInAttempt.tried_at)
        .where(
            SignInAttempt.subject == subject,
            SignInAttempt.tried_at > now - longest,
            SignInAttempt.state != AttemptState.PASSED.value,
        )
        .order_by(SignInAttempt.tried_at.desc())
        .limit(most)
    ).all()
    waits = [
        tried[allowed - 1] + window - now
        for window, allowed in windows
        if len(tried) >= allowed and tried[allowed - 1] > now - window
    ]
    if waits:
        raise TooManyAttempts(max(waits))


@contextmanager
def noted(network: str = "") -> Iterator[None]:
    """Leave one event for each try that is refused (bar 76)."""
    try:
        yield
    except TooManyAttempts as refusal:
        metrics.note_throttled(refusal.limit)
        log.info("throttled", extra={"limit": refusal.limit, "network": network})
        raise


def _in_line(
    queues: Sequence[bytes], work: Callable[[Session], Attempt]
) -> Callable[[Session], Attempt]:
    """On PostgreSQL tries for one subject, and from one network, stand in line; on SQLite all
    writers do already."""
    # In ascending order, so that two tries never wait for each other.
    numbers = sorted(map(_number_of, queues))

    def locked(session: Session) -> Attempt:
        if session.connection().dialect.name == "postgresql":
            for number in numbers:
                session.execute(select(func.pg_advisory_xact_lock(number)))
        return work(session)

    return locked


def _number_of(queue: bytes) -> int:
    """The number of an advisory lock."""
    return int.from_bytes(hashlib.sha256(queue).digest()[:8], "big", signed=True)


_Tries = list[tuple[str, datetime]]


def _in_a_row(session: Session, subject: bytes) -> _Tries:
    """State and time of the latest tries since the last one that passed, the newest first."""
    tries = session.execute(
        select(SignInAttempt.state, SignInAttempt.tried_at)
        .where(SignInAttempt.subject == subject)
        .order_by(SignInAttempt.tried_at.desc(), SignInAttempt.id.desc())
        .limit(_COUNTED_FAILURES)
    ).all()
    in_a_row = []
    for state, tried_at in tries:
        if state == AttemptState.PASSED:
            break
        in_a_row.append((state, tried_at))
    return in_a_row


def _recent(in_a_row: _Tries, now: datetime) -> list[datetime]:
    return [tried_at for _, tried_at in in_a_row if tried_at > now - WINDOW]


def _check_subject(session: Session, subject: bytes, now: datetime) -> int:
    """How many tries of the window have not passed. Raises TooManyAttempts."""
    in_a_row = _in_a_row(session, subject)
    recent = _recent(in_a_row, now)
    if len(recent) >= PER_SUBJECT:
        raise TooManyAttempts(recent[PER_SUBJECT - 1] + WINDOW - now)
    failed = [tried_at for state, tried_at in in_a_row if state == AttemptState.FAILED]
    if failed:
        ready_at = failed[0] + _delay_after(len(failed))
        if ready_at > now:
            raise TooManyAttempts(ready_at - now)
    return len(recent)


def _check_network(
    session: Session, subject: bytes, network: str, most_subjects: int, now: datetime
) -> None:
    tried = session.execute(
        select(SignInAttempt.subject, func.max(SignInAttempt.tried_at).label("last_at"))
        .where(
            SignInAttempt.network == network,
            SignInAttempt.tried_at > now - WINDOW,
            SignInAttempt.state != AttemptState.PASSED.value,
        )
        .group_by(SignInAttempt.subject)
    ).all()
    others = [row.last_at for row in tried if row.subject != subject]
    if len(others) >= most_subjects:
        raise TooManyAttempts(sorted(others)[-most_subjects] + WINDOW - now, "network")


def end(
    attempt: Attempt, *, has_passed: bool, also: Callable[[Session], None] | None = None
) -> None:
    """Say how a counted try went, and do in the same unit of work what `also` does. A passed one
    forgives the failures before it."""
    state = AttemptState.PASSED if has_passed else AttemptState.FAILED

    def work(session: Session) -> None:
        if also is not None:
            also(session)
        session.execute(
            update(SignInAttempt)
            .where(SignInAttempt.id == attempt.attempt_id)
            .values(state=state.value)
        )

    unit_of_work(work)


def withdraw(attempt: Attempt) -> None:
    """Uncount a try whose password was never looked at, because the machine was too busy."""

    def work(session: Session) -> None:
        session.execute(delete(SignInAttempt).where(SignInAttempt.id == attempt.attempt_id))

    unit_of_work(work)


def delete_old(session: Session, now: datetime) -> int:
    """Delete tries that no limit looks at any more; returns how many."""
    return count_changed(session, delete(SignInAttempt).where(SignInAttempt.tried_at < now - KEPT))
