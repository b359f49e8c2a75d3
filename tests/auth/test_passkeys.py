"""Passkeys, answered by a device made of a few lines (bar 10); tests/browser/test_passkeys.py has a
browser's own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cbor2 import dumps
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from tests import factors
from tests.auth.mail import sent
from tests.conftest import Portal, together
from tests.factors import half_way
from tests.page import BASE, Page, Visitor

LIST = "/settings/second-step"
NEW = "brisk-harbour-comet-83"
PRESENT, VERIFIED, ATTESTED = 1, 4, 64


def to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Device:
    """An authenticator with one key. `counts`: whether its counter moves."""

    counts: bool = True
    verifies: bool = True
    origin: str = BASE
    rp_id: str = "127.0.0.1"
    count: int = 0
    credential_id: bytes = b"key-of-a-test-01"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def _data(self, flags: int, more: bytes = b"") -> bytes:
        self.count += self.counts
        flags |= PRESENT | (VERIFIED if self.verifies else 0)
        about = hashlib.sha256(self.rp_id.encode()).digest()
        return about + bytes([flags]) + self.count.to_bytes(4, "big") + more

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        told = {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        return json.dumps(told).encode()

    def create(self, options: dict[str, Any]) -> str:
        public = self.key.public_key().public_numbers()
        cose = dumps({1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32), -3: public.y.to_bytes(32)})
        length = len(self.credential_id).to_bytes(2, "big")
        data = self._data(ATTESTED, bytes(16) + length + self.credential_id + cose)
        return self._answer(
            {
                "clientDataJSON": to_text(self._client_data("webauthn.create", options)),
                "attestationObject": to_text(
                    dumps({"fmt": "none", "attStmt": {}, "authData": data})
                ),
            }
        )

    def get(self, options: dict[str, Any]) -> str:
        client_data, data = self._client_data("webauthn.get", options), self._data(0)
        signed = data + hashlib.sha256(client_data).digest()
        return self._answer(
            {
                "clientDataJSON": to_text(client_data),
                "authenticatorData": to_text(data),
                "signature": to_text(self.key.sign(signed, ec.ECDSA(SHA256()))),
            }
        )

    def _answer(self, response: dict[str, str]) -> str:
        name = to_text(self.credential_id)
        told = {"id": name, "rawId": name, "type": "public-key", "response": response}
        return json.dumps(told)


def options_on(page: Page) -> dict[str, Any]:
    [box] = page.select("[data-passkey]")
    found: dict[str, Any] = json.loads(box.get("data-options"))
    return found


def add(visitor: Visitor, device: Device, name: str = "Key") -> Page:
    page = visitor.get(f"{LIST}/passkey")
    answer = device.create(options_on(page))
    return visitor.submit(page, "/passkey", name=name, credential=answer)


def ask(visitor: Visitor) -> dict[str, Any]:
    """What the sign-in page's script would be given."""
    found: dict[str, Any] = json.loads(visitor.client.get("/sign-in/passkey", base_url=BASE).text)
    return found


def sign_in(visitor: Visitor, answer: str, **values: str) -> Page:
    visitor.get("/sign-in")
    return visitor.post("/sign-in/passkey", {"credential": answer} | values)


def second_step(visitor: Visitor, device: Device) -> Page:
    page = visitor.get("/sign-in/second-step", by="passkey")
    _action, values = page.form("/sign-in/second-step")
    answer = device.get(options_on(page))
    return visitor.post("/sign-in/second-step/passkey", values | {"credential": answer})


@pytest.fixture
def device(portal: Portal) -> Device:
    """Alice's."""
    made = Device()
    assert add(portal.visitor("alice"), made).status == 303
    return made


# It works ------------------------------------------------------------------------------------


def test_passkey_alone_opens_the_session_and_is_both_factors(
    portal: Portal, device: Device
) -> None:
    visitor = portal.visitor()
    page = sign_in(visitor, device.get(ask(visitor)), next=portal.path("billing/"))
    assert (page.status, page.location) == (303, portal.path("billing/"))
    assert portal.one("SELECT has_second_factor FROM sessions ORDER BY id DESC LIMIT 1")


def test_passkey_is_the_second_step(portal: Portal, device: Device) -> None:
    visitor = half_way(portal, "alice")
    assert second_step(visitor, device).location == portal.path()


def test_passkey_without_a_counter_works_again_and_again(portal: Portal) -> None:
    device = Device(counts=False)
    add(portal.visitor("alice"), device)
    for _ in range(2):
        visitor = portal.visitor()
        assert sign_in(visitor, device.get(ask(visitor))).status == 303


def test_key_that_verifies_nobody_is_a_second_step_but_not_both(portal: Portal) -> None:
    device = Device(verifies=False)
    add(portal.visitor("alice"), device)
    visitor = portal.visitor()
    assert sign_in(visitor, device.get(ask(visitor))).status == 422
    assert second_step(half_way(portal, "alice"), device).status == 303


def test_step_up_by_passkey_gives_the_session_another_id(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor, device = portal.visitor("alice"), Device()
    add(visitor, device)
    tick(minutes=10)
    page = visitor.get(visitor.get(f"{LIST}/app").location)
    before = visitor.cookies()["session"]
    _action, values = page.form("/confirm")
    values["credential"] = device.get(options_on(page))
    page = visitor.post("/confirm/passkey", values)
    assert page.location == f"{LIST}/app"
    assert visitor.get(page.location).status == 200
    assert visitor.cookies()["session"] != before


def test_second_step_by_passkey_whose_answer_was_lost_is_asked_for_again(
    portal: Portal, device: Device
) -> None:
    visitor = half_way(portal, "alice")
    page = visitor.get("/sign-in/second-step", by="passkey")
    values = page.form("/sign-in/second-step")[1] | {"credential": device.get(options_on(page))}
    answers = [visitor.post("/sign-in/second-step/passkey", values) for _ in range(2)]
    assert [answer.location for answer in answers] == [portal.path()] * 2
    living = "SELECT count(*) FROM sessions WHERE ended_at IS NULL"
    assert portal.one(living) == 2  # hers, in which the passkey was added, and the newest


# It refuses ----------------------------------------------------------------------------------


def test_answer_counts_once(portal: Portal, device: Device) -> None:
    answer = device.get(ask(portal.visitor()))
    assert sign_in(portal.visitor(), answer).status == 303
    assert sign_in(portal.visitor(), answer).status == 422


@pytest.mark.parametrize("counts", [True, False])
def test_answer_sent_by_many_at_once_counts_once(portal: Portal, counts: bool) -> None:
    device = Device(counts=counts)
    add(portal.visitor("alice"), device)
    answer = device.get(ask(portal.visitor()))
    visitors = [portal.visitor() for _ in range(8)]
    for visitor in visitors:
        visitor.get("/sign-in")
    answers = together(8, lambda number: sign_in(visitors[number], answer).status)
    assert answers.count(303) == 1, answers


def test_challenge_is_answered_within_five_minutes(
    portal: Portal, device: Device, tick: Callable[..., None]
) -> None:
    options = ask(portal.visitor())
    tick(minutes=4, seconds=59)
    later = ask(portal.visitor())
    assert sign_in(portal.visitor(), device.get(options)).status == 303
    tick(minutes=5)
    assert sign_in(portal.visitor(), device.get(later)).status == 422


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "https://127.0.0.1:8000"},
        {"origin": "http://evil.example"},
        {"rp_id": "evil.example"},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"credential_id": b"key-of-somebody-"},
    ],
)
def test_answer_for_another_place_or_by_another_key_is_refused(
    portal: Portal, device: Device, changed: dict[str, Any]
) -> None:
    vars(device).update(changed)
    visitor = portal.visitor()
    page = sign_in(visitor, device.get(ask(visitor)))
    assert (page.status, "session" in visitor.cookies()) == (422, False)
    assert "did not work here" in page.text


def test_counter_that_went_back_or_stands_still_is_refused(portal: Portal, device: Device) -> None:
    visitor = portal.visitor()
    assert sign_in(visitor, device.get(ask(visitor))).status == 303
    for count in (0, device.count - 1):
        device.count = count
        visitor = portal.visitor()
        assert sign_in(visitor, device.get(ask(visitor))).status == 422


def test_challenge_given_to_one_is_not_answered_by_another(portal: Portal, device: Device) -> None:
    """Of the sign-in page, of a half-finished sign-in, of a session, and of adding."""
    half, other = half_way(portal, "alice"), half_way(portal, "alice")
    page = other.get("/sign-in/second-step", by="passkey")
    adding = portal.visitor("mallory").get(f"{LIST}/passkey")
    foreign = [options_on(page), ask(half), options_on(adding)]
    values = half.get("/sign-in/second-step", by="passkey").form("/sign-in/second-step")[1]
    for options in foreign:
        answer = device.get(options)
        refused = half.post("/sign-in/second-step/passkey", values | {"credential": answer})
        assert refused.status == 422
    assert sign_in(portal.visitor(), device.get(options_on(page))).status == 422


def test_passkey_of_mallory_is_no_second_step_for_alice(portal: Portal, device: Device) -> None:
    hers = Device(credential_id=b"key-of-mallory-1")
    add(portal.visitor("mallory"), hers)
    assert second_step(half_way(portal, "alice"), hers).status == 422
    # Nor can she add alice's as her own.
    copied = Device(credential_id=device.credential_id)
    refused = add(portal.visitor("rich"), copied)
    assert refused.status == 422


def test_disabled_customer_is_not_let_in_by_passkey(portal: Portal, device: Device) -> None:
    portal.execute("UPDATE customers SET is_disabled = :yes", yes=True)
    visitor = portal.visitor()
    assert sign_in(visitor, device.get(ask(visitor))).status == 422


def report(visitor: Visitor) -> Page:
    """Say that the last sign-in was somebody else."""
    link = visitor.get("/activity?kind=sign-in").select("main a[href*='/not-me/']")[0]
    path = str(link.get("href"))
    return visitor.submit(visitor.get(path), path)


def age(portal: Portal) -> None:
    """Let every factor have been there for long."""
    portal.execute("UPDATE factors SET confirmed_at = '2025-01-01 12:00:00'")


def test_passkey_of_the_reported_sign_in_counts_no_more(portal: Portal, device: Device) -> None:
    other = Device(credential_id=b"key-of-a-test-02")
    add(portal.visitor("alice"), other)
    age(portal)
    visitor = portal.visitor()
    sign_in(visitor, device.get(ask(visitor)))
    report(visitor)
    assert portal.rows("SELECT credential_id FROM factors") == [(other.credential_id,)]


def test_passkey_does_not_lead_back_in_after_a_report(portal: Portal, device: Device) -> None:
    alice = portal.visitor("alice")
    age(portal)
    page, cookie = alice.get("/confirm"), alice.cookies()["session"]
    report(alice)
    visitor = portal.visitor()
    unknown = sign_in(visitor, Device(credential_id=b"unknown").get(ask(visitor)))
    refused = sign_in(visitor, device.get(ask(visitor)))
    assert (refused.status, refused.text) == (422, unknown.text)
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0
    path = f"/recover/link/{sent(portal, 'reported_link')[-1].facts['token']}"
    assert visitor.get(path).status == 200  # still alive
    # Somebody whose session was not ended could not go on by it either.
    portal.execute("UPDATE sessions SET ended_at = NULL")
    alice.client.set_cookie("session", cookie, domain="127.0.0.1")
    values = page.form("/confirm")[1] | {"credential": device.get(options_on(page))}
    page = alice.post("/confirm/passkey", values)
    assert "done=refused" in page.location
    portal.execute("UPDATE sessions SET ended_at = created_at")
    visitor.submit(visitor.get(path), path, password=NEW)
    assert sign_in(visitor, device.get(ask(visitor))).status == 303


def test_guessing_at_the_password_keeps_nobody_from_a_passkey(
    portal: Portal, device: Device
) -> None:
    portal.execute("UPDATE customers SET password_disabled_at = created_at, failed_in_a_row = 100")
    visitor = portal.visitor()
    assert sign_in(visitor, device.get(ask(visitor))).status == 303


def test_staff_must_be_verified(portal: Portal) -> None:
    device = Device()
    add(portal.visitor("bob"), device)
    factors.make_staff(portal, "bob")
    device.verifies = False
    assert second_step(half_way(portal, "bob"), device).status == 422
    device.verifies = True
    assert second_step(half_way(portal, "bob"), device).status == 303
    assert portal.one("SELECT is_staff FROM sessions ORDER BY id DESC LIMIT 1")


def test_same_passkey_added_again_is_added_once(portal: Portal) -> None:
    visitor, device = portal.visitor("alice"), Device()
    page = visitor.get(f"{LIST}/passkey")
    answer = device.create(options_on(page))
    for _ in range(2):
        assert visitor.submit(page, "/passkey", name="Key", credential=answer).status == 303
    assert portal.one("SELECT count(*) FROM factors") == 1
    assert factors.told(portal).count(("alice@example.net", "factor_added")) == 1


JUNK = (
    "", "{}", "[]", "null", "1", "x" * 25_000, "[" * 5_000, '{"response": 1}', '{"response": {}}',
    '{"response": {"clientDataJSON": "e30"}}', '{"response": {"clientDataJSON": "W10"}}',
    '{"response": {"clientDataJSON": 7}}', '{"rawId": 1, "response": {"clientDataJSON": "eA"}}',
    '{"response": {"clientDataJSON": "eyJjaGFsbGVuZ2UiOiAiw6kifQ"}}',
)  # fmt: skip


def test_junk_is_refused_everywhere(portal: Portal, device: Device) -> None:
    alice, half = half_way(portal, "alice"), portal.visitor()
    values = alice.get("/sign-in/second-step", by="passkey").form("/sign-in/second-step")[1]
    own = portal.visitor("mallory")
    page = own.get(f"{LIST}/passkey")
    for junk in JUNK:
        assert sign_in(half, junk).status == 422, junk[:60]
        refused = alice.post("/sign-in/second-step/passkey", values | {"credential": junk})
        assert refused.status == 422, junk[:60]
        assert own.submit(page, "/passkey", name="x", credential=junk).status == 422, junk[:60]
    good = json.loads(device.get(ask(half)))
    for name in ("clientDataJSON", "authenticatorData", "signature"):
        for value in ("", "AA", good["response"][name][:-4], 7, None):
            bad = good | {"response": good["response"] | {name: value}}
            assert sign_in(half, json.dumps(bad)).status == 422, (name, value)
