"""Which notices are believed (bar 56)."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from gateways.payments.errors import NoticeRejected
from gateways.payments.sandbox.client import read_sandbox_notice
from gateways.payments.signatures import MAX_NOTICE_BYTES, signature_header

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BODY = json.dumps(
    {"id": "evt_1", "type": "payment.succeeded", "key": "k", "reference": "r"}
).encode()
SECRETS = ("new-secret", "old-secret")


def read(body=BODY, header=None, secrets=SECRETS, name="Sandbox-Signature"):
    header = signature_header(body, SECRETS[:1], NOW) if header is None else header
    return read_sandbox_notice(body, {name: header}, NOW, secrets)


def sign(body=BODY, secret=SECRETS[0], seconds=0) -> str:
    return signature_header(body, [secret], NOW + timedelta(seconds=seconds))


def test_a_good_notice_is_read():
    notice = read()
    assert (notice.event_id, notice.key, notice.reference) == ("evt_1", "k", "r")


@pytest.mark.parametrize("seconds", [-300, -299, -1, 0, 1, 60])
def test_a_fresh_notice_is_believed(seconds):
    assert read(header=sign(seconds=seconds)).event_id == "evt_1"


@pytest.mark.parametrize("secret", SECRETS)
def test_both_secrets_count_during_a_rotation(secret):
    assert read(header=sign(secret=secret)).event_id == "evt_1"
    both = signature_header(BODY, ["unknown", secret], NOW)
    assert read(header=both).event_id == "evt_1"


def test_the_headers_name_may_be_in_any_case():
    assert read(name="sandbox-signature").event_id == "evt_1"


def test_a_notice_of_exactly_the_limit_is_read():
    padded = BODY + b" " * (MAX_NOTICE_BYTES - len(BODY))
    assert read(padded).event_id == "evt_1"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no signature"),
        (sign(secret="wrong"), "bad signature"),
        (sign(secret=""), "bad signature"),
        (sign(body=BODY + b" "), "bad signature"),
        (sign(body=BODY[:-1]), "bad signature"),
        (sign(seconds=-301), "too old"),
        (sign(seconds=-86_400), "too old"),
        (sign(seconds=61), "in the future"),
        (sign(seconds=86_400), "in the future"),
        (sign()[:-1], "bad signature"),
        (sign()[:20], "bad signature"),
        (sign() + "0", "bad signature"),
        (sign().upper(), "bad signature"),
        (sign().replace("v1", "v0"), "bad signature"),
        (sign().replace("t=", "t=0"), "bad signature"),
        (sign().replace("t=", "t=-"), "bad signature"),
        (sign() + ",t=1", "bad signature"),
        (sign() + "," + "v1=" + "0" * 64 + ",x=1" * 300, "bad signature"),
        (sign().replace("t=1772366400", "t=1772366401"), "bad signature"),
        (sign().replace("t=1772366400", "t=١٧٧٢٣٦٦٤٠٠"), "bad signature"),
        ("t=1e9,v1=" + "0" * 64, "bad signature"),
        ("v1=" + "0" * 64, "bad signature"),
        ("t=1772366400", "bad signature"),
        ("garbage", "bad signature"),
        ("=,=,=", "bad signature"),
        ("t=1772366400,v1=" + "é" * 64, "bad signature"),
    ],
)
def test_a_doubtful_signature_is_rejected(header, reason):
    with pytest.raises(NoticeRejected, match=reason):
        read(header=header)


def test_an_absent_signature_or_secret_is_rejected():
    with pytest.raises(NoticeRejected, match="no signature"):
        read_sandbox_notice(BODY, {}, NOW, SECRETS)
    for secrets in ((), ("",)):
        with pytest.raises(NoticeRejected, match="bad signature"):
            read(header=sign(secret=""), secrets=secrets)


def test_a_huge_notice_is_rejected_before_it_is_looked_at():
    with pytest.raises(NoticeRejected, match="too large"):
        read(BODY + b" " * MAX_NOTICE_BYTES)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"id": 5}',
        b'{"id": ""}',
        b'{"id": "e", "key": 7}',
        b'{"id": "e", "reference": []}',
        b'{"id": "' + b"e" * 201 + b'"}',
        b'{"id": "e"',
        b"\xff\xfe",
        b"[" * 200_000,
    ],
)
def test_a_signed_but_unreadable_body_is_rejected(body):
    with pytest.raises(NoticeRejected, match="unreadable"):
        read(body)


def test_a_notice_may_name_only_the_reference():
    notice = read(b'{"id": "e", "reference": "r"}')
    assert (notice.key, notice.reference) == (None, "r")
