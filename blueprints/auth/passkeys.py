"""Passkeys (WebAuthn level 2): adding them, and checking what a browser answers.

A challenge is a signed value that names who may answer it; like a form's one-time key it is stored
when it arrives, so that showing a page writes nothing, and each is answered once (bar 10). Origin
and relying party follow from the configured public address alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import current_app
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from blueprints.auth import disabling, factors
from blueprints.auth.errors import PasskeyRefused
from core import clock, ids
from core.db import db, unit_of_work
from core.isp import current_isp
from core.sessions import SignedIn
from models import Customer, Factor, FactorKind, PasskeyChallenge

if TYPE_CHECKING:
    from core.settings import Settings

log = logging.getLogger("lastmile.passkeys")

CHALLENGE_VALID = timedelta(minutes=5)
ANYBODY = "anybody"
"""Whom a challenge is for where nobody is known yet: the passkey says who it is."""
MOST = 20
"""How many passkeys a customer may have."""
LONGEST_ANSWER = 20_000
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Site:
    """Whom passkeys are made for: the portal under its public address."""

    origin: str
    rp_id: str
    secret: bytes


def site() -> Site:
    settings: Settings = current_app.config["PORTAL"]
    host = urlsplit(settings.public_url).hostname or ""
    return Site(settings.public_url, host, settings.secret)


def are_possible() -> bool:
    """Whether the portal has a name that passkeys can be made for: an address of numbers is none
    (WebAuthn §5.1.3)."""
    try:
        ip_address(site().rp_id)
    except ValueError:
        return True
    return False


# Challenges -----------------------------------------------------------------------------------


def _challenge(bound_to: str) -> bytes:
    body = secrets.token_bytes(_NONCE_BYTES) + int(clock.now().timestamp()).to_bytes(5, "big")
    return body + _mac(bound_to, body)


def _mac(bound_to: str, body: bytes) -> bytes:
    message = b"passkey challenge\0" + bound_to.encode() + b"\0" + body
    return hmac.digest(site().secret, message, hashlib.sha256)


def _check_challenge(challenge: bytes, bound_to: str) -> None:
    body, mac = challenge[: _NONCE_BYTES + 5], challenge[_NONCE_BYTES + 5 :]
    if not hmac.compare_digest(mac, _mac(bound_to, body)):
        raise PasskeyRefused("the challenge is not ours, or was given to somebody else")
    age = clock.now().timestamp() - int.from_bytes(body[_NONCE_BYTES:], "big")
    if not -1 <= age < CHALLENGE_VALID.total_seconds():
        raise PasskeyRefused("the challenge is too old")


def _use_up(session: Session, challenge: bytes, bound_to: str) -> None:
    """Note that a challenge was answered, within the running unit of work."""
    challenge_hash = hashlib.sha256(challenge).digest()
    if session.get(PasskeyChallenge, challenge_hash) is not None:
        raise PasskeyRefused("the challenge was answered before")
    session.add(
        PasskeyChallenge(
            challenge_hash=challenge_hash,
            bound_to=bound_to,
            expires_at=clock.now() + 2 * CHALLENGE_VALID,
        )
    )
    session.flush()


# What a browser is asked ----------------------------------------------------------------------


def options_to_add(customer_id: int, *, is_staff: bool) -> str:
    """What `navigator.credentials.create` is to be called with, as JSON."""
    from webauthn import generate_registration_options, options_to_json
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    customer = db.session.execute(
        select(Customer.public_id, Customer.sign_in_id, Customer.name).where(
            Customer.id == customer_id
        )
    ).one()
    held = db.session.scalars(
        select(Factor.credential_id).where(
            Factor.customer_id == customer_id,
            Factor.kind == FactorKind.PASSKEY.value,
            Factor.confirmed_at.is_not(None),
        )
    )
    verification = UserVerificationRequirement
    return options_to_json(
        generate_registration_options(
            rp_id=site().rp_id,
            rp_name=current_isp().name,
            user_id=customer.public_id.encode(),
            user_name=customer.sign_in_id,
            user_display_name=customer.name,
            challenge=_challenge(_adding(customer_id)),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED,
                user_verification=verification.REQUIRED if is_staff else verification.PREFERRED,
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=credential_id)
                for credential_id in held
                if credential_id is not None
            ],
        )
    )


def options_to_give(bound_to: str, customer_id: int | None, *, must_verify: bool) -> str:
    """What `navigator.credentials.get` is to be called with, as JSON. `must_verify`: the device has
    to make sure who holds it, by finger, face or PIN."""
    from webauthn import generate_authentication_options, options_to_json
    from webauthn.helpers.structs import (
        PublicKeyCredentialDescriptor,
        UserVerificationRequirement,
    )

    allowed = []
    if customer_id is not None:
        allowed = [
            PublicKeyCredentialDescriptor(id=credential_id)
            for credential_id in db.session.scalars(
                select(Factor.credential_id).where(
                    Factor.customer_id == customer_id,
                    Factor.kind == FactorKind.PASSKEY.value,
                    Factor.confirmed_at.is_not(None),
                )
            )
            if credential_id is not None
        ]
    verification = UserVerificationRequirement
    return options_to_json(
        generate_authentication_options(
            rp_id=site().rp_id,
            challenge=_challenge(bound_to),
            allow_credentials=allowed,
            user_verification=verification.REQUIRED if must_verify else verification.PREFERRED,
        )
    )


def find_options_to_step_up(person: SignedIn) -> str | None:
    """What whoever is signed in may give in place of the password; None without a passkey."""
    has_one = db.session.scalar(
        select(Factor.id)
        .where(
            Factor.customer_id == person.customer_id,
            Factor.kind == FactorKind.PASSKEY.value,
            Factor.confirmed_at.is_not(None),
        )
        .limit(1)
    )
    if has_one is None:
        return None
    return options_to_give(step_up_bound(person), person.customer_id, must_verify=True)


def step_up_bound(person: SignedIn) -> str:
    """Whom a challenge of the step-up page is for."""
    return f"session:{person.session_id}"


# What it answers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """A passkey's answer that holds. It counts only once it was used (`use`)."""

    factor_id: int
    customer_id: int
    held_count: int
    new_count: int
    challenge: bytes
    bound_to: str
    is_verified: bool


def check(
    answer: str, bound_to: str, *, customer_id: int | None = None, must_verify: bool
) -> Given:
    """The answer of `navigator.credentials.get`, checked but for being the first; with
    `customer_id` only that customer's passkeys count. Raises PasskeyRefused."""
    from webauthn import verify_authentication_response
    from webauthn.helpers.exceptions import WebAuthnException

    found = _read(answer)
    challenge = _challenge_of(found)
    _check_challenge(challenge, bound_to)
    row = db.session.execute(
        select(
            Factor.id,
            Factor.customer_id,
            Factor.public_key,
            Factor.sign_count,
            Customer.is_disabled,
        )
        .join(Customer, Customer.id == Factor.customer_id)
        .where(
            Factor.credential_id == _bytes(found.get("rawId")),
            Factor.kind == FactorKind.PASSKEY.value,
            Factor.confirmed_at.is_not(None),
        )
    ).one_or_none()
    if row is None or row.is_disabled or customer_id not in (None, row.customer_id):
        raise PasskeyRefused("the passkey is not known")
    try:
        verified = verify_authentication_response(
            credential=found,
            expected_challenge=challenge,
            expected_rp_id=site().rp_id,
            expected_origin=site().origin,
            credential_public_key=row.public_key,
            credential_current_sign_count=row.sign_count,
            require_user_verification=must_verify,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise _refused(str(error)) from error
    return Given(
        row.id,
        row.customer_id,
        row.sign_count,
        verified.new_sign_count,
        challenge,
        bound_to,
        verified.user_verified,
    )


def use(session: Session, given: Given) -> None:
    """Let an answer count, within the running unit of work: once, with a counter that nobody has
    moved meanwhile, and not after its owner has reported a stranger. Raises PasskeyRefused."""
    if not disabling.may_open(session, given.customer_id, with_passkey=True):
        raise _refused("everything is closed until its owner has chosen a new password")
    _use_up(session, given.challenge, given.bound_to)
    moved = session.scalar(
        update(Factor)
        .where(
            Factor.id == given.factor_id,
            Factor.confirmed_at.is_not(None),
            Factor.sign_count == given.held_count,
        )
        .values(sign_count=given.new_count, last_used_at=clock.now())
        .returning(Factor.id)
    )
    if moved is None:
        raise _refused("its counter has moved meanwhile, or it was removed")


def add(
    customer_id: int,
    name: str,
    answer: str,
    *,
    is_staff: bool,
    session_id: int | None = None,
) -> None:
    """Add the passkey that `navigator.credentials.create` has made. Added already: nothing happens.

    Raises PasskeyRefused.
    """
    from webauthn import verify_registration_response
    from webauthn.helpers.exceptions import WebAuthnException

    found = _read(answer)
    challenge, bound_to = _challenge_of(found), _adding(customer_id)
    _check_challenge(challenge, bound_to)
    try:
        made = verify_registration_response(
            credential=found,
            expected_challenge=challenge,
            expected_rp_id=site().rp_id,
            expected_origin=site().origin,
            require_user_verification=is_staff,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise _refused(str(error)) from error

    def work(session: Session) -> None:
        known = session.execute(
            select(Factor.id, Factor.customer_id, Factor.confirmed_at).where(
                Factor.credential_id == made.credential_id
            )
        ).one_or_none()
        if known is not None and known.customer_id != customer_id:
            raise PasskeyRefused("it belongs to somebody else")
        if known is not None and known.confirmed_at is not None:
            return
        if len(factors.list_held(session, customer_id)) >= MOST:
            raise PasskeyRefused("there are too many")
        _use_up(session, challenge, bound_to)
        if known is not None:  # it was taken back once: it begins anew
            session.execute(delete(Factor).where(Factor.id == known.id))
        now = clock.now()
        session.add(
            Factor(
                public_id=ids.public_id(),
                customer_id=customer_id,
                kind=FactorKind.PASSKEY.value,
                name=name,
                credential_id=made.credential_id,
                public_key=made.credential_public_key,
                sign_count=made.sign_count,
                created_at=now,
                confirmed_at=now,
            )
        )
        if session_id is not None:
            factors.mark_proven(session, session_id)
        factors.note_change(session, customer_id, "factor_added", but_session=session_id)

    unit_of_work(work)


def _adding(customer_id: int) -> str:
    return f"add:{customer_id}"


def _refused(reason: str) -> PasskeyRefused:
    log.warning("passkey refused", extra={"reason": reason})
    return PasskeyRefused(reason)


def _read(answer: str) -> dict[str, Any]:
    """The answer as a browser's script has put it together. Raises PasskeyRefused."""
    try:
        found = json.loads(answer) if len(answer) <= LONGEST_ANSWER else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("response"), dict):
        raise PasskeyRefused("the answer cannot be read")
    return found


def _challenge_of(found: dict[str, Any]) -> bytes:
    try:
        client_data = json.loads(_bytes(found["response"].get("clientDataJSON")))
        return _bytes(client_data["challenge"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PasskeyRefused("the answer cannot be read") from error


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise PasskeyRefused("the answer cannot be read")
    try:
        return base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as error:
        raise PasskeyRefused("the answer cannot be read") from error
