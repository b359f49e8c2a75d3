"""Signed notices: an HMAC-SHA256 over time and raw body, in a header `t=<unix>,v1=<hex>`."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

from gateways.payments.errors import NoticeRejected

MAX_NOTICE_BYTES = 256 * 1024
MAX_AGE_SECONDS = 300
MAX_AHEAD_SECONDS = 60

_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_HEADER_LENGTH = 1_000


def signature_header(body: bytes, secrets: Sequence[str], now: datetime) -> str:
    """The header for `body`, with one signature for each of the sender's current secrets."""
    stamp = str(int(now.timestamp()))
    return ",".join([f"t={stamp}", *(f"v1={_digest(body, stamp, secret)}" for secret in secrets)])


def check_signature(body: bytes, header: str | None, secrets: Sequence[str], now: datetime) -> None:
    """Raise NoticeRejected unless one of `secrets` signed exactly these bytes just now.

    Several secrets are for a rotation: the new one and the one that still arrives for a while.
    """
    if len(body) > MAX_NOTICE_BYTES:
        raise NoticeRejected("too large")
    if not header:
        raise NoticeRejected("no signature")
    stamp, digests = _parse(header)
    # Every pair is compared, so that the time tells nothing about which secret was close.
    matches = [
        hmac.compare_digest(_digest(body, stamp, secret), digest)
        for secret in secrets
        if secret
        for digest in digests
    ]
    if not any(matches):
        raise NoticeRejected("bad signature")
    age_seconds = now.timestamp() - int(stamp)
    if age_seconds > MAX_AGE_SECONDS:
        raise NoticeRejected("too old")
    if age_seconds < -MAX_AHEAD_SECONDS:
        raise NoticeRejected("in the future")


def _parse(header: str) -> tuple[str, list[str]]:
    """The time stamp and the signatures; unknown schemes are skipped, a doubtful header refused."""
    if len(header) > _MAX_HEADER_LENGTH:
        raise NoticeRejected("bad signature")
    parts = [part.strip().partition("=") for part in header.split(",")]
    stamps = [value for name, _, value in parts if name == "t"]
    digests = [value for name, _, value in parts if name == "v1" and _DIGEST.fullmatch(value)]
    if len(stamps) != 1 or not _TIME.fullmatch(stamps[0]) or not digests:
        raise NoticeRejected("bad signature")
    return stamps[0], digests


def _digest(body: bytes, stamp: str, secret: str) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
