"""Every string in Spanish and French, and pages in those languages."""

from __future__ import annotations

import re
import subprocess
import sys
from gettext import c2py

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from core.settings import ROOT
from tests.conftest import Portal

LANGUAGES = ("es", "fr")
PLACEHOLDER = re.compile(r"%(?:\(\w+\)[a-z]|.)?")


def read(name: str, language: str | None = None) -> Catalog:
    with (ROOT / "translations" / name).open("rb") as file:
        return read_po(file, locale=language)


def forms(text: str | tuple[str, ...] | list[str] | None) -> list[str]:
    return [text] if isinstance(text, str) else list(text or ())


def messages(language: str) -> list[Message]:
    catalog = read(f"{language}/LC_MESSAGES/messages.po", language)
    assert not catalog.obsolete
    return [message for message in catalog if message.id]


def test_catalogues_are_whole_and_compiled_from_the_source_as_it_is() -> None:
    command = [sys.executable, "scripts/translations.py", "check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_is_translated(language: str) -> None:
    have = {(str(m.id), m.context) for m in messages(language) if all(forms(m.string))}
    assert have == {(str(m.id), m.context) for m in read("messages.pot") if m.id}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_translation_is_uncertain(language: str) -> None:
    assert [m.id for m in messages(language) if m.fuzzy] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_are_those_of_the_original(language: str) -> None:
    for message in messages(language):
        for text in forms(message.string):
            wanted = PLACEHOLDER.findall(forms(message.id)[-1])
            assert sorted(PLACEHOLDER.findall(text)) == sorted(wanted), message.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_plural_forms_are_complete(language: str) -> None:
    plurals = [m for m in messages(language) if isinstance(m.id, tuple | list)]
    assert plurals
    assert all(len(forms(m.string)) == 2 and all(forms(m.string)) for m in plurals)


@pytest.mark.parametrize(
    ("language", "count", "words"),
    [
        ("es", 0, "0 canales"),
        ("es", 1, "1 canal"),
        ("es", 2, "2 canales"),
        ("fr", 0, "0 chaîne"),
        ("fr", 1, "1 chaîne"),
        ("fr", 2, "2 chaînes"),
    ],
)
def test_plural_follows_the_language(language: str, count: int, words: str) -> None:
    catalog = read(f"{language}/LC_MESSAGES/messages.po", language)
    message = catalog.get("%(num)s channel")
    assert message is not None
    form = forms(message.string)[int(c2py(catalog.plural_expr)(count))]
    assert form % {"num": count} == words


@pytest.mark.parametrize(
    ("language", "heading"), [("es", "Iniciar sesión"), ("fr", "Se connecter"), ("en", "Sign in")]
)
def test_sign_in_speaks_the_language_of_the_browser(
    portal: Portal, language: str, heading: str
) -> None:
    page = portal.visitor().get("/sign-in", headers={"Accept-Language": language})
    assert page.select("html")[0].get("lang") == language
    assert page.select("h1")[0].text_content() == heading


def test_dashboard_of_a_french_customer_is_french(portal: Portal) -> None:
    portal.execute("UPDATE customers SET language = 'fr' WHERE sign_in_id = 'alice'")
    page = portal.visitor("alice").get(portal.path(), headers={"Accept-Language": "es"})
    assert page.select("html")[0].get("lang") == "fr"
    assert page.select("h1")[0].text_content() == "Votre compte"
    assert "Payer 211,12 $US" in page.text
    assert "En retard depuis le 15 mai 2026" in page.text
    assert "Activité récente" in page.text


def test_bills_of_a_spanish_customer_are_spanish(portal: Portal) -> None:
    portal.execute("UPDATE customers SET language = 'es' WHERE sign_in_id = 'alice'")
    page = portal.visitor("alice").get(portal.path("billing/"), headers={"Accept-Language": "fr"})
    assert page.select("html")[0].get("lang") == "es"
    assert "Pagar 211,12 US$" in page.text
    assert "Fuera de plazo desde el 15 may 2026" in page.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_in_other_languages_hold_together(portal: Portal, language: str) -> None:
    portal.execute("UPDATE customers SET language = :language", language=language)
    alice = portal.visitor("alice")
    for rest in ("", "billing/", "billing/invoices/", "billing/payments/", "billing/pay"):
        page = alice.get(portal.path(rest))
        assert page.status == 200
        assert page.select("html")[0].get("lang") == language
