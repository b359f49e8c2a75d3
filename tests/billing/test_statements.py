"""Invoices as PDF: tagged, the same bytes each time, in any script, from a bounded process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from blueprints.billing import invoice_pages
from core import pdf
from tests.conftest import Portal
from tests.world import NOW

ODD_NAMES = "Алёна محمد عברית 陳大文 김철수 हिन्दी ไทย 𓀀 {{7*7}} #eval(1) $x$ <b>"


def path_of(portal: Portal, name: str = "alice") -> str:
    public_id = portal.one(
        "SELECT public_id FROM invoices WHERE account_id = :id ORDER BY id DESC LIMIT 1",
        id=portal.world.accounts[name],
    )
    return portal.path(f"billing/invoices/{public_id}/pdf", name)


def fetch(portal: Portal, name: str = "alice") -> Any:
    return portal.visitor(name).client.get(path_of(portal, name), base_url="http://127.0.0.1:8000")


def test_invoice_is_a_tagged_pdf_of_small_size(portal: Portal) -> None:
    answer = fetch(portal)
    assert answer.status_code == 200
    assert answer.mimetype == "application/pdf"
    assert re.match(r"attachment; filename=2026-\d{6}\.pdf", answer.headers["Content-Disposition"])
    assert answer.data.startswith(b"%PDF-1.7")
    assert b"/StructTreeRoot" in answer.data or b"pdfuaid:part" in answer.data
    assert len(answer.data) <= 60_000


def test_same_invoice_gives_the_same_bytes(portal: Portal) -> None:
    first = fetch(portal).data
    pdf._printer.end()
    assert fetch(portal).data == first


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_names_in_any_script_are_printed_as_they_are(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_invoice = invoice_pages.get_invoice

    def renamed(account_id: int, public_id: str) -> invoice_pages.InvoiceDetail:
        return replace(get_invoice(account_id, public_id), bill_name=ODD_NAMES)

    monkeypatch.setattr(invoice_pages, "get_invoice", renamed)
    answer = fetch(portal)
    assert answer.status_code == 200
    assert len(answer.data) <= 90_000  # seven scripts in one name bring seven fonts


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_nobody_else_gets_it(portal: Portal) -> None:
    path = path_of(portal).replace(
        portal.world.public_ids["alice"], portal.world.public_ids["mallory"]
    )
    assert portal.visitor("mallory").get(path).status == 404
    assert portal.visitor().get(path_of(portal)).status == 303


@pytest.fixture
def _no_printer() -> Iterator[None]:
    pdf._printer.end()
    yield
    pdf._printer.end()


@pytest.mark.usefixtures("_no_printer")
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_process_that_hangs_or_dies_is_replaced(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(portal).status_code == 200
    process = pdf._printer._process
    assert process is not None
    process.kill()
    process.wait()
    assert fetch(portal).status_code == 200
    monkeypatch.setattr(pdf, "SECONDS", 0.0)
    answer = fetch(portal)
    assert answer.status_code == 503
    assert "Nothing was lost" in answer.text
    monkeypatch.undo()
    assert fetch(portal).status_code == 200


@pytest.mark.usefixtures("_no_printer")
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_no_other_file_is_taken_for_a_template(portal: Portal) -> None:
    with pytest.raises(pdf.PdfFailed):
        pdf.make("../../../etc/passwd", {}, NOW)
