"""What the environment says, read once at start, typed and checked.

A value that makes no sense stops the program with its name (SettingsError).
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

import click

from core.genieacs_settings import GenieacsMistake, GenieacsSettings, read_genieacs
from core.log import LogWhat
from core.paths import origin_of
from core.radius_settings import RadiusMistake, RadiusSettings, read_radius

ROOT = Path(__file__).resolve().parent.parent
FILE_VARIABLE = "LASTMILE_SETTINGS"
FILE_NAMES = ("DATABASE_URL", "PORT")
"""What the file of settings may hold beside LASTMILE_…"""
SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
SAMPLE_SECRETS = (
    "change-me",
    "changeme",
    "secret",
    "password",
    "example",
    "lastmile",
    "0123456789",
)
MIN_SECRET_BYTES = 32
MIN_TOKEN_SIGNS = 20
MIN_SECRET_SIGNS = 10
"""How many different characters a secret has at least; 32 random hex digits have more."""


class SettingsError(click.ClickException):
    """The environment holds a value the portal cannot run with; the text says which and why.

    A click exception, so that `flask` commands end with that one line.
    """


@dataclass(frozen=True, slots=True)
class SmsSettings:
    """How the provider of text messages is called: gateways/messages/sms.py says what may stand in
    the templates. `success`: a regular expression that is found in the answer when it went well."""

    url: str = field(repr=False)
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: str = field(default="", repr=False)
    success: str = ""


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """The ISP's account at Stripe. `method_types`: what customers can save for later payments."""

    api_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    method_types: tuple[str, ...] = ("card",)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the environment decides. `public_url` has no trailing slash."""

    data: Path
    database_url: str = field(repr=False)
    secret: bytes = field(repr=False)
    is_demo: bool
    host: str
    port: int
    public_url: str
    processes: int
    proxy_count: int
    shared_networks: tuple[IPv4Network | IPv6Network, ...]
    payment_gateway: str
    smtp_url: str = field(repr=False)
    mail_from: str
    sandbox_port_set: int = 0
    backups: Path | None = None
    """The folder of the nightly backups; None: there are none."""
    backup_hour: int = 3
    """The hour of the ISP's day at which they are made."""
    backup_keep_days: int = 30
    backup_keep_count: int = 14
    remembered_pages: int = 2000
    """How many made pages each web process keeps; 0: none."""
    remembered_bytes: int = 16_000_000
    """How much memory they take at most."""
    sms: SmsSettings | None = field(default=None, repr=False)
    """The provider of text messages; None: there are none."""
    network_gateway: str = ""
    """What tells the network whether a line is open; empty: nothing does."""
    voice_gateway: str = ""
    """What tells the switch what a telephone number does; empty: nothing does."""
    radius: RadiusSettings | None = field(default=None, repr=False)
    """With LASTMILE_NETWORK_GATEWAY=freeradius."""
    accounting_token: str = field(default="", repr=False)
    """What whoever posts accounting must bring; empty: nobody may."""
    equipment_gateway: str = ""
    """What tells routers what to do; empty: nothing does, and no page offers it."""
    genieacs: GenieacsSettings | None = None
    """With LASTMILE_EQUIPMENT_GATEWAY=genieacs."""
    stripe: StripeSettings | None = field(default=None, repr=False)
    """With LASTMILE_PAYMENT_GATEWAY=stripe."""
    log: LogWhat = LogWhat.QUIET
    metrics_token: str = field(default="", repr=False)

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def public_host(self) -> str:
        """The host of the public address without its port, as a Host header has it."""
        name = urlsplit(self.public_url).hostname or ""
        return f"[{name}]" if ":" in name else name

    @property
    def sandbox_port(self) -> int:
        return self.sandbox_port_set or self.port + 1

    @property
    def sandbox_origin(self) -> str:
        return f"http://localhost:{self.sandbox_port}"


def _whole(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    if not is_number or not low <= int(text) <= high:
        raise SettingsError(f"{name} must be a whole number from {low} to {high}, not {text!r}")
    return int(text)


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text in ("", "0", "no", "false"):
        return False
    if text in ("1", "yes", "true"):
        return True
    raise SettingsError(f"{name} must be 1 or 0, not {text!r}")


def _public_url(env: Mapping[str, str], port: int, *, is_demo: bool) -> str:
    text = env.get("LASTMILE_PUBLIC_URL", "").strip() or f"http://127.0.0.1:{port}"
    url = text.rstrip("/")
    # As browsers send it in Origin: lower case, without the port that goes without saying.
    origin = origin_of(url)
    if origin is None or not url.isascii() or any(sign in url[8:] for sign in "/?#"):
        raise SettingsError(
            f"LASTMILE_PUBLIC_URL must look like https://my.example.net, not {text!r}"
        )
    host = urlsplit(origin).hostname
    if not origin.startswith("https://") and host not in LOOPBACK_HOSTS:
        raise SettingsError("LASTMILE_PUBLIC_URL must be https:// unless the portal is on loopback")
    if is_demo and host not in LOOPBACK_HOSTS:
        raise SettingsError("LASTMILE_DEMO=1 runs on this machine only: unset LASTMILE_PUBLIC_URL")
    return origin


def _host(env: Mapping[str, str], *, is_demo: bool) -> str:
    host = env.get("LASTMILE_HOST", "").strip() or "127.0.0.1"
    try:
        is_address = host == "localhost" or bool(ip_address(host))
    except ValueError:
        is_address = False
    if not is_address:
        raise SettingsError(f"LASTMILE_HOST must be an IP address to listen on, not {host!r}")
    if is_demo and host not in LOOPBACK_HOSTS:
        raise SettingsError("LASTMILE_DEMO=1 listens on loopback only: unset LASTMILE_HOST")
    return host


def _smtp_url(env: Mapping[str, str]) -> str:
    text = env.get("LASTMILE_SMTP_URL", "").strip()
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in SMTP_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        # It may hold a password, so it is not repeated.
        raise SettingsError(
            "LASTMILE_SMTP_URL must look like smtp+starttls://user:password@mail.example.net:587"
        )
    return text


def _mail_from(env: Mapping[str, str]) -> str:
    text = env.get("LASTMILE_MAIL_FROM", "").strip()
    name, at, domain = text.rpartition("@")
    if text and not (name and at and domain and text.isprintable() and " " not in domain):
        raise SettingsError(f"LASTMILE_MAIL_FROM must be an e-mail address, not {text!r}")
    return text


def _sms(env: Mapping[str, str]) -> SmsSettings | None:
    url = env.get("LASTMILE_SMS_URL", "").strip()
    if not url:
        return None
    text = env.get("LASTMILE_SMS_HEADERS", "").strip()
    try:
        headers = json.loads(text) if text else {}
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        # They hold the provider's key, so they are not repeated.
        raise SettingsError('LASTMILE_SMS_HEADERS must be JSON like {"Authorization": "Bearer …"}')
    return SmsSettings(
        url=url,
        method=env.get("LASTMILE_SMS_METHOD", "").strip().upper() or "POST",
        headers=headers,
        body=env.get("LASTMILE_SMS_BODY", "").strip(),
        success=env.get("LASTMILE_SMS_SUCCESS", "").strip(),
    )


def _stripe(env: Mapping[str, str], *, is_demo: bool) -> StripeSettings:
    """What Stripe needs; none of it is repeated in what is said, as it is secret."""
    key = env.get("LASTMILE_STRIPE_KEY", "").strip()
    if not re.fullmatch(r"(sk|rk)_(test|live)_[0-9A-Za-z]{8,}", key):
        raise SettingsError("LASTMILE_STRIPE_KEY must be a secret key of Stripe, like sk_live_…")
    if is_demo and "_test_" not in key:
        raise SettingsError("LASTMILE_DEMO=1 moves no money: LASTMILE_STRIPE_KEY must be sk_test_…")
    secrets_ = _listed(env, "LASTMILE_STRIPE_WEBHOOK_SECRETS", "")
    if not secrets_ or not all(re.fullmatch(r"whsec_[!-~]{8,}", each) for each in secrets_):
        raise SettingsError(
            "LASTMILE_STRIPE_WEBHOOK_SECRETS must be one or more like whsec_…, with commas between"
        )
    types = _listed(env, "LASTMILE_STRIPE_METHODS", "card")
    if not types or not all(re.fullmatch(r"[a-z_]+", each) for each in types):
        raise SettingsError("LASTMILE_STRIPE_METHODS must be a list like card,us_bank_account")
    return StripeSettings(key, secrets_, types)


def _listed(env: Mapping[str, str], name: str, default: str) -> tuple[str, ...]:
    text = env.get(name, "").strip() or default
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _log(env: Mapping[str, str], *, is_demo: bool) -> LogWhat:
    text = env.get("LASTMILE_LOG", "").strip().lower()
    if not text:
        return LogWhat.QUIET if is_demo else LogWhat.REQUESTS
    try:
        return LogWhat(text)
    except ValueError:
        raise SettingsError(
            f"LASTMILE_LOG must be one of {', '.join(LogWhat)}, not {text!r}"
        ) from None


def _token(env: Mapping[str, str], name: str) -> str:
    text = env.get(name, "").strip()
    if text and not (
        len(text) >= MIN_TOKEN_SIGNS and text.isascii() and text.isprintable() and " " not in text
    ):
        # It is a secret, so it is not repeated.
        raise SettingsError(
            f"{name} must have {MIN_TOKEN_SIGNS} characters or more and no space: "
            "make one with python3 -c 'import secrets; print(secrets.token_hex(16))'"
        )
    return text


def _radius(env: Mapping[str, str]) -> RadiusSettings:
    try:
        return read_radius(env)
    except RadiusMistake as mistake:
        raise SettingsError(str(mistake)) from None


def _equipment_gateway(env: Mapping[str, str], *, is_demo: bool) -> str:
    name = env.get("LASTMILE_EQUIPMENT_GATEWAY", "simulated" if is_demo else "").strip()
    if name not in ("", "simulated", "genieacs"):
        raise SettingsError(f"LASTMILE_EQUIPMENT_GATEWAY: there is no gateway named {name!r}")
    if name == "simulated" and not is_demo:
        raise SettingsError(
            "LASTMILE_EQUIPMENT_GATEWAY=simulated reaches no router: it needs LASTMILE_DEMO=1"
        )
    if name == "genieacs" and is_demo:
        raise SettingsError(
            "LASTMILE_DEMO=1 makes up its subscribers: no real router must be told of them, "
            "so unset LASTMILE_EQUIPMENT_GATEWAY"
        )
    return name


def _genieacs(env: Mapping[str, str]) -> GenieacsSettings:
    try:
        return read_genieacs(env)
    except GenieacsMistake as mistake:
        raise SettingsError(str(mistake)) from None


def _database_url(env: Mapping[str, str], data: Path) -> str:
    url = env.get("DATABASE_URL", "").strip()
    return check_database_url(url, "DATABASE_URL") if url else f"sqlite:///{data / 'lastmile.db'}"


def check_database_url(url: str, name: str) -> str:
    """`url` as SQLAlchemy wants it. Raises SettingsError, which calls it `name`."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            url = "postgresql+psycopg://" + url.removeprefix(prefix)
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        # It may hold a password, so it is not repeated.
        raise SettingsError(f"{name} is not an address of a database") from None
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        raise SettingsError(f"{name} must give a file's whole path: sqlite:////srv/portal.db")
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise SettingsError(f"{name} must start with postgresql:// or sqlite:////")
    return url


def _backups(env: Mapping[str, str], data: Path, *, is_demo: bool) -> Path | None:
    """The folder of the nightly backups. The demo, which can be built again, makes none unasked."""
    text = env.get("LASTMILE_BACKUPS", "").strip()
    if text.lower() == "off" or (is_demo and not text):
        return None
    if not text:
        return data / "backups"
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise SettingsError(f"LASTMILE_BACKUPS must be a folder's whole path or off, not {text!r}")
    return path


def _networks(env: Mapping[str, str]) -> tuple[IPv4Network | IPv6Network, ...]:
    text = env.get("LASTMILE_SHARED_NETWORKS", "")
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"LASTMILE_SHARED_NETWORKS: {error}") from None


def prepare_data_folder(data: Path) -> None:
    """Make the data folder, for its owner alone. Raises SettingsError when it cannot be written."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = data / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"the folder {data} cannot be written ({error.strerror}): "
            "set LASTMILE_DATA to one that can"
        ) from None


def _secret(env: Mapping[str, str], data: Path) -> bytes:
    """The secret of this deployment: LASTMILE_SECRET, or a file in the data folder made once."""
    text = env.get("LASTMILE_SECRET", "").strip()
    if not text:
        path = data / "secret"
        if not path.exists():
            temporary = data / f".secret-{os.getpid()}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            try:
                # link() fails if another process was first, so both end with the same secret.
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        text = path.read_text().strip()
    is_sample = any(word in text.lower() for word in SAMPLE_SECRETS)
    if is_sample or len(text) < MIN_SECRET_BYTES or len(set(text)) < MIN_SECRET_SIGNS:
        raise SettingsError(
            "LASTMILE_SECRET is too short or a sample: make one with "
            "python3 -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return text.encode()


def _with_file(env: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, and what the file that it names adds. The environment itself counts first.

    The file is read each time, so that a reload finds what was changed in it.
    """
    name = env.get(FILE_VARIABLE, "").strip()
    if not name:
        return env
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{FILE_VARIABLE}: {name} cannot be read: {reason}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        variable, sign, value = (part.strip() for part in text.partition("="))
        # The value may be a secret, so it is not repeated.
        if not sign:
            raise SettingsError(f"{name}, line {number}: write NAME=value")
        if variable not in FILE_NAMES and not variable.startswith("LASTMILE_"):
            raise SettingsError(f"{name}, line {number}: the portal has no setting {variable!r}")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[variable] = value
    return found | dict(env)


def read_settings(env: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Makes the data folder and the secret when they are missing.

    Raises SettingsError with one line that names the variable.
    """
    env = _with_file(os.environ if env is None else env)
    is_demo = _flag(env, "LASTMILE_DEMO")
    port = _whole(env, "PORT", 8000, 1, 65_534)
    try:
        data = Path(env.get("LASTMILE_DATA", "") or ROOT / "instance").expanduser().resolve()
    except (RuntimeError, OSError):
        raise SettingsError("LASTMILE_DATA names no folder that can be found") from None
    host = _host(env, is_demo=is_demo)
    gateway = env.get("LASTMILE_PAYMENT_GATEWAY", "sandbox" if is_demo else "").strip()
    if gateway == "sandbox" and not is_demo:
        raise SettingsError(
            "LASTMILE_PAYMENT_GATEWAY=sandbox moves no money: it needs LASTMILE_DEMO=1"
        )
    if gateway not in ("", "sandbox", "stripe"):
        raise SettingsError(f"LASTMILE_PAYMENT_GATEWAY: there is no gateway named {gateway!r}")
    network = env.get("LASTMILE_NETWORK_GATEWAY", "simulated" if is_demo else "").strip()
    if network == "simulated" and not is_demo:
        raise SettingsError(
            "LASTMILE_NETWORK_GATEWAY=simulated connects nobody: it needs LASTMILE_DEMO=1"
        )
    if network == "freeradius" and is_demo:
        raise SettingsError(
            "LASTMILE_DEMO=1 makes up its subscribers: no real network must be told of them, "
            "so unset LASTMILE_NETWORK_GATEWAY"
        )
    if network not in ("", "simulated", "freeradius"):
        raise SettingsError(f"LASTMILE_NETWORK_GATEWAY: there is no gateway named {network!r}")
    equipment = _equipment_gateway(env, is_demo=is_demo)
    voice = env.get("LASTMILE_VOICE_GATEWAY", "simulated" if is_demo else "").strip()
    if voice == "simulated" and not is_demo:
        raise SettingsError(
            "LASTMILE_VOICE_GATEWAY=simulated carries no calls: it needs LASTMILE_DEMO=1"
        )
    if voice not in ("", "simulated"):
        raise SettingsError(f"LASTMILE_VOICE_GATEWAY: there is no gateway named {voice!r}")
    public_url = _public_url(env, port, is_demo=is_demo)
    prepare_data_folder(data)
    return Settings(
        data=data,
        database_url=_database_url(env, data),
        secret=_secret(env, data),
        is_demo=is_demo,
        host=host,
        port=port,
        public_url=public_url,
        processes=_whole(env, "LASTMILE_PROCESSES", 2, 1, 32),
        proxy_count=_whole(env, "LASTMILE_PROXY_COUNT", 0, 0, 5),
        shared_networks=_networks(env),
        payment_gateway=gateway,
        smtp_url=_smtp_url(env),
        mail_from=_mail_from(env),
        sandbox_port_set=_whole(env, "LASTMILE_SANDBOX_PORT", 0, 1, 65_535),
        backups=_backups(env, data, is_demo=is_demo),
        backup_hour=_whole(env, "LASTMILE_BACKUP_HOUR", 3, 0, 23),
        backup_keep_days=_whole(env, "LASTMILE_BACKUP_KEEP_DAYS", 30, 1, 3650),
        backup_keep_count=_whole(env, "LASTMILE_BACKUP_KEEP_COUNT", 14, 1, 1000),
        remembered_pages=_whole(env, "LASTMILE_REMEMBERED_PAGES", 2000, 0, 100_000),
        remembered_bytes=1_000_000 * _whole(env, "LASTMILE_REMEMBERED_MB", 16, 1, 10_000),
        sms=_sms(env),
        network_gateway=network,
        equipment_gateway=equipment,
        genieacs=_genieacs(env) if equipment == "genieacs" else None,
        voice_gateway=voice,
        stripe=_stripe(env, is_demo=is_demo) if gateway == "stripe" else None,
        log=_log(env, is_demo=is_demo),
        metrics_token=_token(env, "LASTMILE_METRICS_TOKEN"),
        radius=_radius(env) if network == "freeradius" else None,
        accounting_token=_token(env, "LASTMILE_ACCOUNTING_TOKEN"),
    )
