"""What gateways say is said in the reader's language."""

from __future__ import annotations

import pytest
from flask_babel import force_locale

from blueprints.billing import gateway_words
from gateways.payments.sandbox import store
from gateways.payments.sandbox.methods import Behaviour
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
