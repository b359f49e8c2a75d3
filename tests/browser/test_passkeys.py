"""Passkeys in Chromium with its virtual authenticator (bar 10): adding, signing in with one alone,
as the second step and as step-up; from another origin, removed, and with a counter that went back.

The portal is served under the name `localhost`: passkeys are made for names, not for addresses of
numbers.
"""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

from tests.browser.conftest import PATIENCE_MS, PHONE, running_town
from tests.test_serve import free_ports
from tests.thin_line import thin_line
from tests.world import PASSWORD

LIST = "/settings/second-step"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
ASK = """async () => {
  const bytes = (text) => Uint8Array.from(
    atob(text.replace(/-/g, "+").replace(/_/g, "/")), (sign) => sign.charCodeAt());
  const words = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\\+/g, "-").replace(/\\//g, "_").replace(/=/g, "");
  const options = await (await fetch("/sign-in/passkey")).json();
  options.challenge = bytes(options.challenge);
  const made = await navigator.credentials.get({ publicKey: options });
  const { clientDataJSON, authenticatorData, signature } = made.response;
  return JSON.stringify({ id: made.id, rawId: words(made.rawId), type: made.type, response: {
    clientDataJSON: words(clientDataJSON), authenticatorData: words(authenticatorData),
    signature: words(signature) } });
}"""


@dataclass
class House:
    """The portal under its own name, and under another port, which is another origin."""

    origin: str
    other_origin: str
    people: Iterator[str] = field(
        default_factory=lambda: iter(f"payer{n:02}" for n in range(1, 40))
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    data, port = tmp_path_factory.mktemp("passkeys"), free_ports()
    with thin_line(None, 0) as line:
        entrance, other = line.listen(port), line.listen(port)
        # A passkey is for a host with a name.
        with running_town(data, port, f"http://localhost:{entrance}"):
            yield House(f"http://localhost:{entrance}", f"http://localhost:{other}")


@dataclass
class Device:
    """A browser whose device keeps passkeys."""

    house: House
    name: str
    page: Page
    cdp: CDPSession
    authenticator: str

    def open(self, path: str) -> Page:
        self.page.goto(self.house.origin + path)
        return self.page

    def give_password(self) -> Page:
        page = self.open("/sign-in")
        page.get_by_label("ID or e-mail").fill(self.name)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        return page

    def add(self, name: str = "My phone") -> Page:
        page = self.open(f"{LIST}/passkey")
        page.get_by_label("A name for it").fill(name)
        page.get_by_role("button", name="Add a passkey").click()
        page.wait_for_url("**/recovery-codes?done=added")
        return page

    def sign_out(self) -> None:
        self.page.get_by_role("button", name="Sign out").click()
        self.page.wait_for_url("**/sign-in?done=signed-out")

    def sign_in_by_passkey(self) -> Page:
        page = self.open("/sign-in")
        page.get_by_role("button", name="Sign in with a passkey").click()
        return page

    def credentials(self) -> list[dict[str, Any]]:
        told = self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        found: list[dict[str, Any]] = told["credentials"]
        return found


@pytest.fixture
def device(house: House, chromium: Browser) -> Iterator[Device]:
    context: BrowserContext = chromium.new_context(
        viewport=PHONE, locale="en-US", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    cdp = context.new_cdp_session(page)
    cdp.send("WebAuthn.enable")
    made = cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    yield Device(house, next(house.people), page, cdp, made["authenticatorId"])
    context.close()


def expect_home(page: Page) -> None:
    page.wait_for_url("**/a/**")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_passkey_is_added_and_signs_in_alone(device: Device) -> None:
    errors: list[str] = []
    device.page.on(
        "console", lambda said: errors.append(said.text) if said.type == "error" else None
    )
    device.page.on("pageerror", lambda error: errors.append(str(error)))
    expect_home(device.give_password())
    device.add("Blue key")
    assert "Blue key" in device.open(LIST).inner_text("main")
    device.sign_out()
    expect_home(device.sign_in_by_passkey())
    assert "Last used" in device.open(LIST).inner_text("main")
    assert errors == []


def test_passkey_is_the_second_step_after_the_password(device: Device) -> None:
    expect_home(device.give_password())
    device.add()
    device.sign_out()
    page = device.give_password()
    page.wait_for_url("**/sign-in/second-step")
    page.get_by_role("button", name="Use my passkey").click()
    expect_home(page)


def test_passkey_stands_in_for_the_password_before_what_matters(device: Device) -> None:
    expect_home(device.give_password())
    device.add()
    page = device.open(f"/confirm?next={LIST}/app")
    page.get_by_role("button", name="Use my passkey").click()
    page.wait_for_url(f"**{LIST}/app")


def test_several_passkeys_are_kept_and_the_same_device_is_not_added_twice(device: Device) -> None:
    expect_home(device.give_password())
    device.add("Phone")
    page = device.open(f"{LIST}/passkey")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("That did not work")).to_be_visible()
    key = device.cdp.send(
        "WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR | {"transport": "usb"}}
    )
    device.cdp.send(
        "WebAuthn.removeVirtualAuthenticator", {"authenticatorId": device.authenticator}
    )
    assert key
    page.get_by_label("A name for it").fill("Desk")
    page.get_by_role("button", name="Add a passkey").click()
    page.wait_for_url("**/recovery-codes?done=added")
    shown = device.open(LIST).inner_text("main")
    assert "Phone" in shown
    assert "Desk" in shown


def test_removed_passkey_opens_nothing(device: Device) -> None:
    expect_home(device.give_password())
    device.add()
    page = device.open(LIST)
    page.get_by_role("link", name="Remove Passkey").click()
    page.get_by_role("button", name="Remove it").click()
    page.wait_for_url("**?done=removed")
    device.sign_out()
    page = device.sign_in_by_passkey()
    expect(page.get_by_text("This passkey did not work here")).to_be_visible()


def test_passkey_whose_counter_went_back_is_refused(device: Device) -> None:
    """What a copy of it would send."""
    expect_home(device.give_password())
    device.add()
    device.sign_out()
    [copied] = device.credentials()
    expect_home(device.sign_in_by_passkey())
    device.sign_out()
    device.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": device.authenticator})
    device.cdp.send(
        "WebAuthn.addCredential",
        {"authenticatorId": device.authenticator, "credential": copied | {"signCount": 0}},
    )
    page = device.sign_in_by_passkey()
    expect(page.get_by_text("This passkey did not work here")).to_be_visible()


def test_answer_given_on_another_origin_opens_nothing(device: Device) -> None:
    """The same name at another port: what a page of somebody else's there would pass on."""
    expect_home(device.give_password())
    device.add()
    device.sign_out()
    device.page.goto(device.house.other_origin + "/sign-in")
    answers = {"other": device.page.evaluate(ASK)}
    device.open("/sign-in")
    answers["own"] = device.page.evaluate(ASK)
    found = {name: post_answer(device.house.origin, answer) for name, answer in answers.items()}
    assert found == {"other": 422, "own": 303}
    assert post_answer(device.house.origin, answers["own"]) == 422  # once


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_about: Any) -> None:
        return None


def post_answer(origin: str, answer: str) -> int:
    """Send a passkey's answer as a program would, which names no origin."""
    request = urllib.request.Request(
        origin + "/sign-in/passkey",
        urllib.parse.urlencode({"credential": answer}).encode(),
        {"Cookie": "here=1"},
    )
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_button_is_not_there_without_script(house: House, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(house.origin + "/sign-in")
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    assert page.get_by_role("button").count() == 1
    context.close()


def test_script_of_passkeys_comes_only_when_the_button_is_pressed(device: Device) -> None:
    asked: list[str] = []
    device.page.on("request", lambda request: asked.append(request.url))
    page = device.open("/sign-in")
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_visible()
    page.wait_for_timeout(2500)
    assert not [url for url in asked if "passkey" in url]
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text("That did not work")).to_be_visible()
    assert len([url for url in asked if "passkey" in url]) == 2
