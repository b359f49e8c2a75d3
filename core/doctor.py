"""What is wrong with a deployment, in words: one finding for each check, with what to do about it.

A check looks and changes nothing. What cannot be looked at (a database that is away) is itself a
finding, never an exception.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from flask import current_app
from sqlalchemy import and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from core import (
    backup,
    backup_file,
    clock,
    erasures,
    maintenance,
    migrate,
    nightly,
    outbox,
    proxies,
    worker,
)
from core.backup_file import BadBackup
from core.db import check_engine, db
from core.findings import Finding, Level
from core.isp import current_isp
from core.restore import words_of_age
from core.settings import LOOPBACK_HOSTS, Settings
from gateways.messages.base import MessagesUnreachable
from models import (
    UNDER_WAY,
    Channel,
    Isp,
    JournalEntry,
    Line,
    Message,
    MessageState,
    Nas,
    Payment,
    PhoneNumber,
    Plan,
    PlannedPayment,
    PriceChange,
    PriceChangeState,
    UsageBlock,
    UsageSession,
    UsageSource,
)

BACKUP_MAX_AGE = timedelta(hours=26)
MAIL_WAITS_TOO_LONG = timedelta(hours=1)
GIVEN_UP_LATELY = timedelta(days=1)
LINE_LAGS_AFTER = timedelta(minutes=5)
PHONE_LAGS_AFTER = timedelta(hours=24)
"""Without a way to the switch, its people have a day."""
USAGE_LAGS_AFTER = timedelta(minutes=15)
DOUBTED_LATELY = timedelta(days=7)
BEYOND_SHOWN = timedelta(days=62)
"""Two bill periods: who used more than is charged for is named for so long."""
SMTP_SECONDS = 8.0
CLOCK_SECONDS = 30
_SET_UP = "flask setup catalog.toml; or see that LASTMILE_DATA and DATABASE_URL are those you mean"
_MIN_FREE_BYTES = 500_000_000
_ADJTIMEX_UNSYNCHRONISED = 5  # TIME_ERROR


@dataclass(frozen=True, slots=True)
class _Said:
    level: Level
    words: str
    remedy: str = ""


def _ok(words: str) -> _Said:
    return _Said(Level.OK, words)


def _note(words: str, remedy: str = "") -> _Said:
    return _Said(Level.NOTE, words, remedy)


def _wrong(words: str, remedy: str) -> _Said:
    return _Said(Level.WRONG, words, remedy)


def examine(settings: Settings) -> Iterator[Finding]:
    """The findings of all checks, in an order in which one would mend them. Needs an application
    context."""
    checks: tuple[tuple[str, Callable[[Settings], _Said]], ...] = (
        ("mode", _mode),
        ("secret", _secret),
        ("permissions", _permissions),
        ("disk", _disk),
        ("clock", _clock),
        ("database", _database),
        ("schema", _schema),
        ("worker", _worker),
        ("backup", _backup),
        ("erasures", _erasures),
        ("bills", _bills),
        ("dunning", _dunning),
        ("prices", _prices),
        ("proxy", _proxy),
        ("mail", _mail),
        ("texts", _texts),
        ("payments", _payments),
        ("lines", _lines),
        ("usage", _usage),
        ("overage", _overage),
        ("phone", _phone),
    )
    for name, check in checks:
        try:
            said = check(settings)
        except SQLAlchemyError as error:
            said = _said_of(error, name)
        except OSError as error:
            said = _wrong(f"{error.filename}: {error.strerror}", "see that it can be read")
        finally:
            db.session.remove()
        yield Finding(name, said.level, said.words, said.remedy)


def _said_of(error: SQLAlchemyError, check: str) -> _Said:
    db.session.remove()
    is_empty = is_away = False
    try:
        is_empty = migrate.find_revision(db.engine) is None
    except SQLAlchemyError:
        is_away = True
    if is_empty:
        return _note("Not looked at: there are no tables in the database yet.", _SET_UP)
    if is_away and check != "database":
        # Said once with its reason is enough, and is not lost among what follows from it.
        return _note(
            "Not looked at: the database does not answer.", "see the line about the database"
        )
    cause = getattr(error, "orig", None) or error
    return _wrong(
        f"The database does not answer: {str(cause).splitlines()[0]}",
        "see that it runs, that there is room on its disk, and that DATABASE_URL is right",
    )


def _mode(settings: Settings) -> _Said:
    is_demo = db.session.scalar(select(Isp.is_demo))
    if is_demo is None:
        return _wrong("There is no ISP in the database yet.", _SET_UP)
    if is_demo != settings.is_demo:
        return _wrong(
            "The database belongs to the demo, and this is a real deployment."
            if is_demo
            else "LASTMILE_DEMO=1 is set, and the database is a real one.",
            "set LASTMILE_DATA or DATABASE_URL to the right one, or change LASTMILE_DEMO",
        )
    maintenance.heed_file(str(settings.data))
    view = current_isp()
    if view.is_closed and view.maintenance is not None:
        local = view.maintenance.until_at.astimezone(ZoneInfo(view.timezone))
        until = f"{local:%Y-%m-%d %H:%M} ({view.timezone})"
        if view.maintenance.until_at <= clock.now():
            return _wrong(
                f"The portal is closed for maintenance, and said it would open at {until}.",
                "flask maintenance off, on each node where it was switched on",
            )
        return _note(
            f"The portal is closed for maintenance until {until}.", "flask maintenance off"
        )
    return _ok(f"{'The demo' if is_demo else 'A real deployment'}, at {settings.public_url}.")


# Files ---------------------------------------------------------------------------------------


def _secret(settings: Settings) -> _Said:
    # A short one or a sample stops every command with its name before it comes to this.
    length = f"{len(settings.secret)} characters"
    path = settings.data / "secret"
    if os.environ.get("LASTMILE_SECRET", "").strip() or not path.exists():
        return _ok(f"{length}, from LASTMILE_SECRET.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return _wrong(
            f"{path} can be read by others (mode {mode:o}).",
            f"chmod 600 {path}; if somebody may have read it, delete it and restart: a new one "
            "is made, and pages that are open have to be loaded again",
        )
    return _ok(f"{length}, in {path}, for its owner alone.")


def _permissions(settings: Settings) -> _Said:
    folder = settings.data
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return _wrong(f"{folder} is open to others (mode {mode:o}).", f"chmod 700 {folder}")
    files = [path for path in folder.iterdir() if path.is_file()]
    if settings.is_sqlite:
        database = backup.database_file(settings)
        if database.parent != folder and database.exists():
            files += database.parent.glob(f"{database.name}*")
            opened = stat.S_IMODE(database.stat().st_mode) & 0o077
            if opened and stat.S_IMODE(database.parent.stat().st_mode) & 0o011:
                return _wrong(f"{database} is open to others.", f"chmod 600 {database}*")
    owner = folder.stat().st_uid
    strange = [path for path in files if path.stat().st_uid != owner]
    if strange:
        return _wrong(
            f"{strange[0].name} does not belong to {_user(owner)}, to whom {folder} belongs: "
            "the portal may not be able to write it.",
            f"chown -R {_user(owner)} {folder}, and run commands as {_user(owner)}",
        )
    if os.geteuid() not in (0, owner):
        return _wrong(
            f"{folder} belongs to {_user(owner)}, and you are {_user(os.geteuid())}.",
            f"run commands as {_user(owner)}",
        )
    return _ok(f"{folder} is for {_user(owner)} alone.")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _disk(settings: Settings) -> _Said:
    try:
        size = backup.database_bytes(settings)
    except SQLAlchemyError:  # a full disk may be why it is away
        size = 0
    folders = [settings.data]
    if settings.is_sqlite:
        folders.append(backup.database_file(settings).parent)
    if settings.backups is not None and settings.backups.is_dir():
        folders.append(settings.backups)
    needed = max(_MIN_FREE_BYTES, 2 * size)
    free = {folder: shutil.disk_usage(folder).free for folder in folders}
    worst = min(free, key=lambda folder: free[folder])
    words = f"{_size(free[worst])} are free for {worst}"
    words += f"; the database has {_size(size)}." if size else "."
    if free[worst] < needed:
        return _wrong(
            words,
            f"free {_size(needed - free[worst])}: a backup needs twice the database, "
            "and a full disk stops every payment",
        )
    return _ok(words)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# Time ----------------------------------------------------------------------------------------


def _clock(settings: Settings) -> _Said:
    now = clock.now()
    remedy = "set the clock and keep it by a time server: apt-get install systemd-timesyncd"
    for name, other in _other_clocks(settings):
        seconds = abs((other - now).total_seconds())
        if seconds > CLOCK_SECONDS:
            return _wrong(
                f"The clock of the {name} differs by {seconds:.0f} s from this machine's.", remedy
            )
    newest = db.session.scalar(select(func.max(JournalEntry.created_at)))
    if newest is not None and newest - now > timedelta(seconds=CLOCK_SECONDS):
        return _wrong(
            f"The latest entry of the books is from {newest:%Y-%m-%d %H:%M} UTC, "
            f"and this machine believes it is {now:%Y-%m-%d %H:%M}.",
            remedy,
        )
    if _is_unsynchronised():
        return _note("Nobody keeps this machine's clock right.", remedy)
    return _ok(f"{now:%Y-%m-%d %H:%M:%S} UTC.")


def _other_clocks(settings: Settings) -> list[tuple[str, datetime]]:
    """What time it is elsewhere: a file server and a database may have clocks of their own."""
    with tempfile.NamedTemporaryFile(dir=settings.data, prefix=".clock-") as file:
        written_at = datetime.fromtimestamp(Path(file.name).stat().st_mtime, UTC)
    others = [("file system", written_at)]
    if not settings.is_sqlite:
        [now] = db.session.execute(select(func.clock_timestamp())).one()
        others.append(("database", now.astimezone(UTC)))
    return others


def _is_unsynchronised() -> bool:
    """Whether the kernel says that no time server keeps the clock (Linux)."""
    if sys.platform != "linux":
        return False
    # Room for struct timex; modes = 0 asks and sets nothing.
    room = ctypes.create_string_buffer(512)
    return bool(ctypes.CDLL(None).adjtimex(room) == _ADJTIMEX_UNSYNCHRONISED)


# The database --------------------------------------------------------------------------------


def _database(settings: Settings) -> _Said:
    try:
        check_engine()
    except RuntimeError as error:
        return _wrong(f"{error}.", "see that the database lies on a local disk, not on a network's")
    if not settings.is_sqlite:
        version = db.session.execute(select(func.current_setting("server_version"))).scalar_one()
        return _ok(f"PostgreSQL {version} answers.")
    with db.engine.connect() as connection:
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        return _wrong(
            f"The database file is damaged: {str(found).splitlines()[0]}",
            "stop the portal, keep a copy of the file, and flask restore the last good backup",
        )
    return _ok("SQLite, set as it must be, and not damaged.")


def _schema(settings: Settings) -> _Said:
    del settings
    revision = migrate.find_revision(db.engine)
    known = migrate.known_revisions()
    if revision == known[0]:
        return _ok(f"Revision {revision}, the newest of this version.")
    if revision is None:
        return _wrong("There are no tables in the database yet.", _SET_UP)
    if revision in known:
        return _wrong(
            f"The schema is at {revision}, this version wants {known[0]}.",
            "restart the portal: it brings the schema up to date",
        )
    return _note(f"The schema ({revision}) is of a later version.", "update the portal")


def _worker(settings: Settings) -> _Said:
    del settings
    beat_at = worker.last_beat()
    if beat_at is not None and worker.is_alive():
        return _ok(f"Alive {max(int((clock.now() - beat_at).total_seconds()), 0)} s ago.")
    when = f"for {words_of_age(beat_at)}" if beat_at is not None else "yet"
    return _wrong(
        f"No worker has been alive {when}: payments are not asked about, no message is sent.",
        "start the portal (python app.py), or the worker alone (python app.py worker)",
    )


# What is kept --------------------------------------------------------------------------------


def _backup(settings: Settings) -> _Said:
    last = nightly.last_time(nightly.BACKUP)
    if settings.backups is None and last.done_at is None:
        if settings.is_demo:
            return _ok("The demo makes none.")
        return _wrong(
            "There are no nightly backups (LASTMILE_BACKUPS=off), and none was made by hand.",
            "unset LASTMILE_BACKUPS, or run flask backup FILE every night",
        )
    if last.has_failed:
        return _wrong(f"The last backup failed: {last.failure}", "mend that, then: flask backup")
    found = backup.find_last_good(settings.backups) if settings.backups is not None else None
    made_at = max(filter(None, (last.done_at, found[0] if found else None)), default=None)
    if made_at is None:
        return _wrong("There is no backup yet.", "flask backup")
    words = f"The last one is {words_of_age(made_at)} old"
    if clock.now() - made_at > BACKUP_MAX_AGE:
        return _wrong(f"{words}.", "see that the worker runs, or: flask backup")
    return _backup_file(settings, words, found[1] if found is not None else None)


def _backup_file(settings: Settings, words: str, path: Path | None) -> _Said:
    """Read the newest backup whole: what was good when it was written may not be any more."""
    if path is None:
        return _note(f"{words}; it is not in a folder that this machine sees.")
    try:
        backup_file.check(path)
    except BadBackup as error:
        return _wrong(f"{path}: {error}.", "flask backup, and look after that disk")
    words += f", {path}, read again just now"
    home = backup.database_file(settings).parent if settings.is_sqlite else None
    if home is not None and home.stat().st_dev == path.stat().st_dev:
        return _note(
            f"{words}, on the same disk as the database.",
            "copy it to another machine, or set LASTMILE_BACKUPS to another disk",
        )
    return _ok(f"{words}.")


def _erasures(settings: Settings) -> _Said:
    """Where it is listed who has closed an online account: without that, nobody can."""
    failures: list[str] = []
    for folder in erasures.folders(settings):
        try:
            erasures.try_folder(folder)
        except OSError as error:
            failures.append(f"{folder / erasures.NAME} cannot be written ({error.strerror})")
            continue
        if failures:
            return _note(
                f"{failures[0]}; who closes an online account is listed in {folder} meanwhile.",
                f"see that {_user(os.geteuid())} can write there, and copy {erasures.NAME} from "
                f"{folder} wherever backups are copied",
            )
        return _ok(f"Who closes an online account is listed in {folder / erasures.NAME}.")
    return _wrong(
        f"Nobody can close an online account: {', and '.join(failures)}.",
        f"see that {_user(os.geteuid())} can write there, and that the disk is not full",
    )


def _bills(settings: Settings) -> _Said:
    del settings
    hour, last = current_isp().billing_hour, nightly.last_time(nightly.BILL_RUN)
    if last.has_failed:
        return _wrong(
            f"The last bill run stopped: {last.failure}", "flask billing run --dry-run, then decide"
        )
    if hour is None:
        return _ok("Bills are run by hand: the catalog names no billing_hour.")
    if last.done_at is None:
        return _ok(f"Bills are run each night at {hour}; none was yet.")
    return _ok(f"Bills are run each night at {hour}, last {words_of_age(last.done_at)} ago.")


def _dunning(settings: Settings) -> _Said:
    del settings
    hour, last = current_isp().dunning.hour, nightly.last_time(nightly.DUNNING)
    if last.has_failed:
        return _wrong(
            f"The steps about unpaid bills were not taken: {last.failure}", "flask billing dunning"
        )
    if hour is None:
        return _ok("Steps about unpaid bills are taken by hand: [dunning] names no hour.")
    if last.done_at is None:
        return _ok(f"Steps about unpaid bills are taken each day at {hour}; none was yet.")
    return _ok(
        f"Steps about unpaid bills are taken each day at {hour}, "
        f"last {words_of_age(last.done_at)} ago."
    )


def _prices(settings: Settings) -> _Said:
    """Whether those who follow a change of price were told on the day for that."""
    del settings
    untold = db.session.scalars(
        select(Plan.code)
        .join(PriceChange, PriceChange.plan_id == Plan.id)
        .where(
            PriceChange.state != PriceChangeState.WITHDRAWN.value,
            PriceChange.existing != "keep",
            PriceChange.told_at.is_(None),
            PriceChange.tell_on < clock.today(current_isp().timezone),
        )
        .distinct()
        .order_by(Plan.code)
    ).all()
    if untold:
        return _wrong(
            f"Not all who follow the planned price of {', '.join(untold)} were told in time.",
            "see that the worker runs; withdraw the price and plan it for a later day",
        )
    return _ok("Whoever follows a planned price was told in time.")


# The world outside ---------------------------------------------------------------------------


def _proxy(settings: Settings) -> _Said:
    is_public = settings.host not in LOOPBACK_HOSTS
    if settings.is_https and not settings.proxy_count:
        return _wrong(
            f"{settings.public_url} comes through a proxy, and LASTMILE_PROXY_COUNT is 0: all "
            "subscribers seem to have the proxy's address and share its limits.",
            "set LASTMILE_PROXY_COUNT to the number of proxies in front of the portal",
        )
    if is_public and not settings.proxy_count:
        return _wrong(
            f"The portal listens at {settings.host} without TLS.",
            "put a web server in front of it, unset LASTMILE_HOST, set LASTMILE_PROXY_COUNT=1",
        )
    missing = proxies.find_missing(settings.data, settings.proxy_count)
    if missing is not None:
        return _wrong(
            f"A request came through {missing.found} {_proxies(missing.found)} on "
            f"{missing.seen_at:%Y-%m-%d %H:%M} UTC, and LASTMILE_PROXY_COUNT is "
            f"{missing.expected}: whoever asks so can pretend to have any address.",
            f"set LASTMILE_PROXY_COUNT={missing.found}, or close the way past the outer proxy",
        )
    if is_public:
        return _note(
            f"The portal listens at {settings.host}: whoever reaches it past the proxy can "
            "pretend to have any address.",
            "unset LASTMILE_HOST when the proxy is on this machine, else let a firewall see to it",
        )
    if not settings.is_https:
        said = f"Only this machine reaches the portal, at {settings.public_url}."
        remedy = "set LASTMILE_PUBLIC_URL to the address that subscribers use"
        return _ok(said) if settings.is_demo else _note(said, remedy)
    count = settings.proxy_count
    return _ok(f"{count} {_proxies(count)} in front of {settings.public_url}.")


def _proxies(count: int) -> str:
    return "proxy" if count == 1 else "proxies"


def _mail(settings: Settings) -> _Said:
    gateway = current_app.extensions["message_gateways"].get(Channel.EMAIL)
    said, remedy = _waiting(Channel.EMAIL)
    if gateway is None:
        return _wrong(
            f"There is no mail server.{said}", "set LASTMILE_SMTP_URL and LASTMILE_MAIL_FROM"
        )
    try:
        server = gateway.greet(SMTP_SECONDS)
    except MessagesUnreachable as error:
        return _wrong(
            f"The mail server does not answer as it should ({error}).{said}",
            "see LASTMILE_SMTP_URL, and that this machine may reach that port",
        )
    if remedy:
        return _wrong(f"{server} answers, but{said}", remedy)
    if not settings.mail_from and not settings.is_demo:
        return _note(
            f"{server} answers; mail comes from no-reply@{settings.public_host}.",
            "set LASTMILE_MAIL_FROM to an address that people may answer to",
        )
    return _ok(f"{server} answers.")


def _texts(settings: Settings) -> _Said:
    del settings
    gateway = current_app.extensions["message_gateways"].get(Channel.TEXT)
    said, remedy = _waiting(Channel.TEXT)
    if gateway is None and said:
        return _wrong(f"Nothing sends text messages, but{said}", "set LASTMILE_SMS_URL")
    if gateway is None:
        return _note(
            "No text messages are sent: codes go by e-mail and post alone.",
            "set LASTMILE_SMS_URL when there is a provider",
        )
    where = gateway.greet(SMTP_SECONDS)
    if remedy:
        return _wrong(f"{where} takes text messages, but{said}", remedy)
    return _ok(f"{where} takes text messages.")


def _waiting(channel: Channel) -> tuple[str, str]:
    """What waits or was given up lately, in words; and what to do where that is too much."""
    since = clock.now() - GIVEN_UP_LATELY
    rows = db.session.execute(
        select(Message.state, func.min(Message.created_at), func.count(), func.max(Message.id))
        .where(
            Message.channel == channel.value,
            Message.recipient != "",  # of one whose online account is closed: nothing to mend
            or_(
                Message.state == MessageState.QUEUED.value,
                and_(Message.state == MessageState.FAILED.value, Message.created_at > since),
            ),
        )
        .group_by(Message.state)
    ).all()
    found = {row[0]: row[1:] for row in rows}
    said, remedy = "", ""
    if MessageState.QUEUED in found:
        oldest, count, _last = found[MessageState.QUEUED]
        said += f" {count} {'message waits' if count == 1 else 'messages wait'}."
        if clock.now() - oldest > MAIL_WAITS_TOO_LONG:
            said = f" the oldest message waits for {words_of_age(oldest)}.{said}"
            remedy = "see the worker's log for what the server says"
    if MessageState.FAILED in found:
        _oldest, count, last = found[MessageState.FAILED]
        facts = db.session.scalar(select(Message.facts).where(Message.id == last)) or {}
        was = "message was" if count == 1 else "messages were"
        said += f" {count} {was} given up since yesterday: {facts.get(outbox.FAILURE, 'unknown')}."
        remedy = remedy or "see the worker's log, and whether the addresses on file are right"
    return said, remedy


def _payments(settings: Settings) -> _Said:
    """Whether what was begun or planned can go on with the gateway there is."""
    gateway = current_app.extensions["payment_gateway"]
    if gateway is None:
        words = (
            "There is no payment gateway: paying online is absent, and the pages say how to pay."
        )
        remedy = "set LASTMILE_PAYMENT_GATEWAY when there is one"
        waiting = db.session.execute(
            select(func.count()).where(PlannedPayment.try_at.is_not(None))
        ).scalar_one()
        if waiting:
            planned = "planned payment waits" if waiting == 1 else "planned payments wait"
            return _wrong(f"{words} {waiting} {planned}, and nothing is taken.", remedy)
        return _note(words, remedy)
    left = db.session.execute(
        select(func.count(), func.max(Payment.gateway)).where(
            Payment.state.in_(UNDER_WAY), Payment.gateway != gateway.name
        )
    ).one()
    if left[0]:
        are = "payment is" if left[0] == 1 else "payments are"
        return _wrong(
            f"{left[0]} {are} under way at {left[1]}, which nobody asks any more.",
            "set LASTMILE_PAYMENT_GATEWAY as it was until they have ended, or look them up there",
        )
    demo = ", which moves no money" if settings.is_demo else ""
    return _ok(f"{gateway.title} at {gateway.origin}{demo}.")


def _lines(settings: Settings) -> _Said:
    """Whether the network was brought to what is wanted of each line."""
    gateway = current_app.extensions["network_gateway"]
    if gateway is None:
        return _note(
            "There is no network gateway: holding a line here does not switch it off.",
            "set LASTMILE_NETWORK_GATEWAY when there is one",
        )
    demo = ", which connects nobody" if settings.is_demo else ""
    # What failed is due only later: two failures in a row count as well.
    lags = or_(Line.sync_count > 1, Line.sync_at < clock.now() - LINE_LAGS_AFTER)
    count, failure = db.session.execute(
        select(func.count(), func.max(Line.sync_failure)).where(Line.sync_at.is_not(None), lags)
    ).one()
    if not count:
        return _ok(f"{gateway.title}{demo}; no line lags behind what is wanted of it.")
    lag = f"{count} {'line lags' if count == 1 else 'lines lag'} behind what is wanted"
    return _wrong(
        f"{gateway.title}: {lag}{': ' + failure if failure else ''}.",
        "see that the worker runs and what its log says of the network",
    )


def _phone(settings: Settings) -> _Said:
    """Whether the switch does what is wanted of each telephone number."""
    gateway = current_app.extensions["voice_gateway"]
    limit = LINE_LAGS_AFTER if gateway is not None else PHONE_LAGS_AFTER
    lags = or_(PhoneNumber.sync_count > 1, PhoneNumber.pending_at < clock.now() - limit)
    count, failure = db.session.execute(
        select(func.count(), func.max(PhoneNumber.sync_failure)).where(lags)
    ).one()
    if count:
        lag = f"{count} phone {'number lags' if count == 1 else 'numbers lag'} behind"
        return _wrong(
            f"{lag} what is wanted{': ' + failure if failure else ''}.",
            "see Phone on the pages of staff, which lists them"
            + ("" if gateway is None else ", and that the worker runs"),
        )
    if gateway is None:
        return _ok("There is no voice gateway; no phone number waits for more than a day.")
    demo = ", which carries no calls" if settings.is_demo else ""
    return _ok(f"{gateway.title}{demo}; no phone number lags behind what is wanted of it.")


def _usage(_settings: Settings) -> _Said:
    """Whether what lines carry is known as it goes (bars 65 and 66)."""
    sources = db.session.execute(
        select(UsageSource.read_at, UsageSource.failure).order_by(UsageSource.id)
    ).all()
    if not sources:
        return _note(
            "No accounting was ever read: the usage pages are empty.",
            "set LASTMILE_NETWORK_GATEWAY or LASTMILE_ACCOUNTING_TOKEN: docs/freeradius.md"
            if current_app.extensions["network_gateway"] is None
            else "start the worker, which reads it",
        )
    failing = next((source for source in sources if source.failure), None)
    if failing is not None:
        since = f" for {words_of_age(failing.read_at)}" if failing.read_at else ""
        return _wrong(
            f"Accounting could not be read{since}: {failing.failure}.", "flask network check"
        )
    read_at = max((source.read_at for source in sources if source.read_at), default=None)
    if read_at is None or clock.now() - read_at > USAGE_LAGS_AFTER:
        age = f" for {words_of_age(read_at)}" if read_at else ""
        return _wrong(
            f"No accounting was read{age}.",
            "see that the worker runs, or that your RADIUS server posts",
        )
    doubted = db.session.execute(
        select(Nas.name, Nas.doubted_at)
        .where(Nas.doubted_at > clock.now() - DOUBTED_LATELY)
        .order_by(Nas.doubted_at.desc())
    ).all()
    if doubted:
        age = words_of_age(doubted[0].doubted_at)
        return _note(
            f"What cannot be was reported by {', '.join(nas.name for nas in doubted[:5])}, "
            f"{age} ago at last: counters below zero or beyond what the line can carry. "
            f"It was not counted{_of_lines()}.",
            "compare the counters there with what the lines have as their speeds",
        )
    lacking = db.session.scalars(
        select(Nas.name).where(Nas.lacks_gigawords.is_(True)).order_by(Nas.name)
    ).all()
    if lacking:
        return _note(
            f"Without gigawords report {', '.join(lacking[:5])}: what a session carries beyond "
            "4 GB between two reports is not seen.",
            "have them send Acct-Input-Gigawords and Acct-Output-Gigawords, or report more often",
        )
    return _ok(f"Accounting was read {words_of_age(read_at)} ago.")


def _of_lines() -> str:
    """Some lines of whose sessions something still is not counted, in words."""
    names = db.session.scalars(
        select(Line.username)
        .join(UsageSession, UsageSession.line_id == Line.id)
        .where(
            UsageSession.is_doubted.is_(True),
            UsageSession.seen_at > clock.now() - DOUBTED_LATELY,
        )
        .distinct()
        .limit(3)
    ).all()
    return f" (lines such as {', '.join(sorted(names))})" if names else ""


def _overage(_settings: Settings) -> _Said:
    """Whether somebody used more beyond their plan than is charged for it."""
    beyond = db.session.scalars(
        select(Line.username)
        .join(UsageBlock, UsageBlock.line_id == Line.id)
        .where(
            UsageBlock.charge_id.is_(None),
            UsageBlock.period_on > clock.today(current_isp().timezone) - BEYOND_SHOWN,
        )
        .distinct()
        .order_by(Line.username)
    ).all()
    if beyond:
        return _note(
            "More than is charged for in a bill period (overage_most_minor) was used by "
            f"{', '.join(beyond[:5])}{f' and {len(beyond) - 5} more' if beyond[5:] else ''}.",
            "see that what the network counted is right; charge the rest by hand, or let it be",
        )
    return _ok("All that was used beyond plans is charged as they say.")
