"""Limits on guessing, as visitors meet them (bars 4, 5 and 7)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest
from argon2 import PasswordHasher

from core import clock, passwords, sessions, throttle
from core.db import unit_of_work
from core.settings import ROOT
from tests.auth.conftest import refuse_updates
from tests.conftest import Portal, together
from tests.core.test_passwords import taken
from tests.page import Page, Visitor
from tests.world import PASSWORD

WRONG = "wrong-lantern-orbit-47"


def guess(visitor: Visitor, sign_in_id: str, address: str = "198.51.100.7") -> int:
    visitor.client.environ_base["REMOTE_ADDR"] = address
    return visitor.sign_in(sign_in_id, WRONG).status


def attack(portal: Portal, tick: Callable[..., None], failures: int = 12) -> None:
    """Somebody elsewhere guesses alice's password until the longest delay."""
    attacker = portal.visitor()
    for number in range(failures):
        assert guess(attacker, "alice") == 422
        if number < failures - 1:
            tick(seconds=min(2**number, 900))


def seconds_on(page: Page) -> int:
    assert page.status == 429
    return int(page.response.headers["Retry-After"])


# The page that says when ----------------------------------------------------------------------


def test_page_says_when_to_try_again_and_whom_to_ask(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor()
    assert visitor.sign_in("alice", WRONG).status == 422
    for seconds, says in (
        (1, "Try again in 1 second."),
        (2, "Try again in 2 seconds."),
        (4, "Try again in 4 seconds."),
        (8, "Try again in 8 seconds."),
        (16, "Try again in 16 seconds."),
        (32, "Try again in 32 seconds."),
        (64, "Try again in 2 minutes."),
        (128, "Try again in 3 minutes."),
    ):
        page = visitor.sign_in("alice")
        assert (seconds_on(page), says in page.text) == (seconds, True), page.text
        assert "+1 541-555-0100" in page.response.text
        tick(seconds=seconds)
        assert visitor.sign_in("alice", WRONG).status == 422


def test_right_password_is_refused_until_then_and_taken_after(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor()
    visitor.sign_in("alice", WRONG)
    assert seconds_on(visitor.sign_in("alice")) == 1
    assert "session" not in visitor.cookies()
    tick(seconds=1)
    assert visitor.sign_in("alice").status == 303


def test_longest_wait_is_fifteen_minutes(portal: Portal, tick: Callable[..., None]) -> None:
    attack(portal, tick)
    page = portal.visitor().sign_in("alice")
    assert (seconds_on(page), "Try again in 15 minutes." in page.text) == (900, True)


# A device seen before -------------------------------------------------------------------------


def test_known_device_gets_in_during_an_attack(portal: Portal, tick: Callable[..., None]) -> None:
    phone = portal.visitor("alice")
    phone.submit(phone.get(portal.path()), "/sign-out")
    attack(portal, tick)
    assert portal.visitor().sign_in("alice").status == 429
    assert phone.sign_in("alice").status == 303


def test_each_of_a_household_is_known_on_the_device_they_share(
    portal: Portal, tick: Callable[..., None]
) -> None:
    tablet = portal.visitor("alice")
    device = tablet.cookies()["device"]
    assert tablet.sign_in("bob").status == 303
    assert tablet.cookies()["device"] == device
    attack(portal, tick)
    assert tablet.sign_in("alice").status == 303


def test_device_of_another_customer_is_a_strange_one(
    portal: Portal, tick: Callable[..., None]
) -> None:
    attack(portal, tick)
    assert portal.visitor("mallory").sign_in("alice").status == 429


def test_guessing_on_a_known_device_is_limited_and_locks_out_nobody(
    portal: Portal, tick: Callable[..., None]
) -> None:
    lent = portal.visitor("alice")
    assert lent.sign_in("alice", WRONG).status == 422
    assert seconds_on(lent.sign_in("alice")) == 1
    assert portal.visitor().sign_in("alice").status == 303


def test_known_device_is_not_held_up_by_its_network(portal: Portal) -> None:
    phone = portal.visitor("alice")
    neighbour = portal.visitor()
    for number in range(10):
        guess(neighbour, f"customer-{number}", "127.0.0.1")
    assert portal.visitor().sign_in("alice").status == 429
    assert phone.sign_in("alice").status == 303


def test_device_is_forgotten_after_four_hundred_days(
    portal: Portal, tick: Callable[..., None]
) -> None:
    portal.visitor("alice")
    with portal.app.app_context():
        tick(days=400)
        unit_of_work(lambda session: sessions.delete_old(session, clock.now()))
        assert portal.one("SELECT count(*) FROM devices") == 1
        tick(seconds=1)
        unit_of_work(lambda session: sessions.delete_old(session, clock.now()))
    assert portal.one("SELECT count(*) FROM devices") == 0


# The other name -------------------------------------------------------------------------------


def test_id_and_e_mail_address_together_get_no_more_passwords_checked(portal: Portal) -> None:
    """Ten tries by the e-mail address leave none by the ID, and nothing tells so: somebody whose
    names do not belong together is answered the same."""
    answers = {}
    for name, other in (("alice", "alice@example.net"), ("zelda", "zelda@example.net")):
        with portal.app.app_context():
            for number in range(10):
                throttle.begin(
                    throttle.subject_of(portal.settings.secret, other),
                    f"198.51.100.{number}",
                    (),
                    is_known_device=False,
                )
        page = portal.visitor().sign_in(name)
        headers = sorted(page.response.headers.items())
        answers[name] = (page.status, headers, page.response.text.replace(name, "name"))
    assert answers["alice"][0] == 422
    assert answers["alice"] == answers["zelda"]
    assert portal.one("SELECT count(*) FROM sessions") == 0


def test_other_name_does_not_keep_a_known_device_out(portal: Portal) -> None:
    phone = portal.visitor("alice")
    with portal.app.app_context():
        for _ in range(10):
            throttle.begin(
                throttle.subject_of(portal.settings.secret, "alice@example.net"),
                "198.51.100.7",
                (),
                is_known_device=False,
            )
    assert phone.sign_in("alice").status == 303


# An address -----------------------------------------------------------------------------------


def test_address_that_tries_many_accounts_has_to_wait(portal: Portal) -> None:
    attacker = portal.visitor()
    statuses = [guess(attacker, f"customer-{number}") for number in range(11)]
    assert statuses == [422] * 10 + [429]
    assert portal.visitor().sign_in("alice").status == 303


def test_addresses_of_one_ipv6_network_count_together(portal: Portal) -> None:
    attacker = portal.visitor()
    statuses = [guess(attacker, f"c-{number}", f"2001:db8::{number:x}") for number in range(1, 12)]
    assert statuses == [422] * 10 + [429]
    assert guess(attacker, "c-12", "2001:db8:0:1::1") == 422


def test_network_that_many_share_has_a_wider_limit(portal: Portal) -> None:
    settings = portal.app.config["PORTAL"]
    shared = replace(settings, shared_networks=(ip_network("100.64.0.0/10"),))
    portal.app.config["PORTAL"] = shared
    try:
        crowd = portal.visitor()
        assert [guess(crowd, f"c-{number}", "100.64.3.3") for number in range(12)] == [422] * 12
    finally:
        portal.app.config["PORTAL"] = settings


def test_forged_forwarding_headers_change_no_limit(portal: Portal) -> None:
    attacker = portal.visitor()
    attacker.get("/sign-in")
    statuses = [
        attacker.post(
            "/sign-in",
            {"sign_in_id": f"c-{number}", "password": WRONG},
            headers={
                "X-Forwarded-For": f"203.0.113.{number}",
                "Forwarded": f"for=203.0.113.{number}",
            },
        ).status
        for number in range(11)
    ]
    assert statuses == [422] * 10 + [429]


def test_refused_try_writes_nothing(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses by the hundred must not stand in the writers' queue before payments."""
    begun: list[object] = []
    for number in range(10):
        guess(portal.visitor(), f"customer-{number}")
    visitor = portal.visitor()
    visitor.get("/sign-in")
    monkeypatch.setattr("core.throttle.unit_of_work", begun.append)
    assert guess(visitor, "customer-11") == 429  # its address
    assert guess(visitor, "customer-1", "198.51.100.9") == 429  # the name
    monkeypatch.setattr(passwords, "_waiting", threading.BoundedSemaphore(1))
    with passwords.seat(is_known_device=False):
        assert guess(visitor, "customer-99", "198.51.100.9") == 503  # no seat
    assert begun == []


# At once, over processes, and when things fail ------------------------------------------------


def test_tries_at_once_are_each_counted_before_they_are_checked(portal: Portal) -> None:
    visitors = [portal.visitor() for _ in range(12)]
    results = together(12, lambda number: guess(visitors[number], "alice"))
    assert set(results) <= {422, 429, 503}
    # What was too busy to be checked was not counted.
    checked = portal.one("SELECT count(*) FROM sign_in_attempts")
    assert results.count(422) == checked <= 10
    assert portal.one("SELECT count(*) FROM sign_in_attempts WHERE state <> 'failed'") == 0


def start_guesser(portal: Portal, name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.auth.guesser",
            str(portal.settings.data),
            portal.settings.database_url,
            name,
        ],
        cwd=ROOT,
        env=os.environ,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def release(*processes: subprocess.Popen[str]) -> list[list[int]]:
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    return [json.loads(each.communicate(timeout=60)[0]) for each in processes]


def test_two_processes_let_ten_of_twenty_four_through_and_a_restart_none(portal: Portal) -> None:
    [one, other] = release(start_guesser(portal, "one"), start_guesser(portal, "other"))
    assert one[0] + other[0] == 10  # for one account
    assert one[1] + other[1] == 10  # accounts from one address
    assert release(start_guesser(portal, "restarted")) == [[0, 0]]


@contextmanager
def away(portal: Portal, table: str):
    portal.execute(f"ALTER TABLE {table} RENAME TO away")
    yield
    portal.execute(f"ALTER TABLE away RENAME TO {table}")


@pytest.mark.parametrize("table", ["sign_in_attempts", "customers", "devices", "sessions"])
def test_sign_in_is_refused_while_the_store_fails(portal: Portal, table: str) -> None:
    visitor = portal.visitor()
    with away(portal, table):
        page = visitor.sign_in("alice")
        assert page.status == 503
        assert page.response.headers["Retry-After"]
        assert "session" not in visitor.cookies()
    assert portal.one("SELECT count(*) FROM sessions") == 0
    assert visitor.sign_in("alice").status == 303


def test_outcome_that_cannot_be_stored_refuses_too(portal: Portal) -> None:
    """The try is counted; that it passed cannot be written."""
    refuse_updates(portal, "sign_in_attempts")
    visitor = portal.visitor()
    assert visitor.sign_in("alice").status == 503
    assert "session" not in visitor.cookies()


def test_busy_machine_says_so_and_counts_no_try(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.05)
    phone, stranger = portal.visitor("alice"), portal.visitor()
    with taken(portal.settings.data, passwords.SLOT):
        for _ in range(12):
            page = stranger.sign_in("alice")
            assert (page.status, page.response.headers["Retry-After"]) == (503, "10")
        assert phone.sign_in("alice").status == 303  # has a slot of its own
    assert stranger.sign_in("alice").status == 303


def test_busy_machine_upgrades_no_hash_but_lets_in(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.05)
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    portal.execute("UPDATE customers SET password_hash = :old WHERE sign_in_id = 'alice'", old=old)

    class Overtaken(PasswordHasher):
        """Others take all the slots between the two hashes."""

        def hash(self, *_values: object, **_more: object) -> str:
            raise passwords.TooBusy

    monkeypatch.setattr(passwords, "_hasher", Overtaken(2, 19_456, 1))
    assert portal.visitor().sign_in("alice").status == 303
    assert old == portal.one("SELECT password_hash FROM customers WHERE sign_in_id = 'alice'")
