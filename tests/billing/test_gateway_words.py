"""What gateways say is said in the reader's language."""

from __future__ import annotations

import pytest
from flask_babel import force_locale

from blueprints.billing import gateway_words
from gateways.payments.sandbox import store
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.stripe import reading
from tests.billing.conftest import ShakyGateway
from tests.billing.planned.diary import Diary
from tests.conftest import Portal

SENTENCES = {
    *(*reading.REASONS.values(), *reading.REFUND_REASONS.values()),
    *(reading.DECLINED, reading.REFUND_FAILED, store.DECLINED, store.EXPIRED),
    store.REFUND_SENT_BACK,
}


@pytest.mark.parametrize("language", ["es", "fr"])
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_each_sentence_of_a_gateway_is_known_in_every_language(ctx: Portal, language: str) -> None:
    with force_locale(language):
        for sentence in SENTENCES:
            assert gateway_words.translate(sentence) != sentence
        assert gateway_words.translate("Something new.") == "Something new."


TITLES = {
    "es": {
        "Visa ending 4242": "Visa terminada en 4242",
        "Card ending 0002": "Tarjeta terminada en 0002",
        "Bank account ending 6789": "Cuenta bancaria terminada en 6789",
    },
    "fr": {
        "American Express ending 0005": "American Express se terminant par 0005",
        "Card ending 0002": "Carte se terminant par 0002",
        "Bank account ending 6789": "Compte bancaire se terminant par 6789",
    },
}


@pytest.mark.parametrize("language", TITLES)
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_title_of_a_method_is_said_in_every_language(ctx: Portal, language: str) -> None:
    with force_locale(language):
        for title, words in TITLES[language].items():
            assert gateway_words.translate(title) == words
        for other in ("PayPal", "", "Visa ending"):
            assert gateway_words.translate(other) == other


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_saved_method_is_shown_in_the_customers_language(portal: Portal) -> None:
    diary = Diary(portal, ShakyGateway(portal))
    diary.save("alice", Saving.BANK)
    portal.execute("UPDATE customers SET language = 'es'")
    alice = portal.visitor("alice")
    shown = "Cuenta bancaria terminada en 6789"
    places = ("", "billing/methods/", "billing/pay", "billing/schedule", "billing/autopay")
    for place in places:
        page = alice.get(portal.path(place))
        assert shown in page.text, place
        assert "ending" not in page.text, place
    page = alice.get(portal.path("billing/pay"))
    method = portal.one("SELECT public_id FROM payment_methods")
    alice.submit(page, "/pay", choice="other", amount="20", method=method)
    payments = alice.get(portal.path("billing/payments/"))
    assert shown in payments.text
    assert shown in alice.get(payments.select("main table a")[0].get("href")).text


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_declined_is_said_in_the_customers_language(portal: Portal) -> None:
    portal.execute("UPDATE customers SET language = 'es'")
    diary = Diary(portal, ShakyGateway(portal))
    alice, method = portal.visitor("alice"), diary.save()
    diary.behave(method, Behaviour.DECLINES)
    page = diary.visit(alice, "pay")
    out = alice.submit(page, "/pay", choice="other", amount="20", method=method)
    shown = alice.get(out.location)
    assert "not enough money" not in shown.text
    assert "fondos insuficientes" in shown.text
