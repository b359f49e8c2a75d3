"""The process that makes PDFs evaluates nothing that it is given, reaches nothing, and is bounded
in time and memory (bar 48)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import pdf
from core.pdf import PdfFailed, Printer
from core.settings import ROOT
from tests.world import NOW

PAYLOADS = (
    '#read("/etc/passwd")',
    '#include "account.typ"',
    '#import "@preview/cetz:0.3.4": canvas',
    "#while true {}",
    "#panic()",
    "#range(100000000000)",
    "$ sum_(k=1)^n k $ *bold* _it_ `raw` <label> @ref // comment /* */",
    '#link("https://example.net")[x]',
    "\\u{0}\\#[]{}()~---",
    "{{7*7}} {% raw %} ${7*7}",
)
HEAD = '#set document(title: "x")\n#set text(lang: "en")\n#let it = json(bytes(sys.inputs.data))\n'


class Press:
    """A printer of templates that the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printer = Printer(folder)

    def make(self, template: str, **data: Any) -> bytes:
        (self.folder / "page.typ").write_text(HEAD + template)
        self.printer.end()  # a process keeps what it has compiled
        return self.printer.make("page.typ", data, NOW)


@pytest.fixture
def press(tmp_path: Path) -> Iterator[Press]:
    folder = tmp_path / "templates"
    folder.mkdir()
    made = Press(folder)
    yield made
    made.printer.end()


def test_values_are_printed_and_never_evaluated(press: Press) -> None:
    """As long as a value is, a PDF of it is made: code would fail, loop, or leave a link."""
    plain = press.make("#it.value", value="x" * 20)
    for payload in PAYLOADS:
        made = press.make("#it.value", value=payload)
        assert made.startswith(b"%PDF-1.7")
        assert b"example.net" not in made
        assert len(made) < len(plain) + 20_000


@pytest.mark.parametrize(
    "code",
    [
        '#read("/etc/passwd")',
        '#read("../secret")',
        '#read("link")',
        '#image("/proc/self/environ")',
        '#include "../secret"',
        '#import "@preview/cetz:0.3.4": canvas',
    ],
)
def test_template_reaches_no_file_and_no_network(press: Press, code: str) -> None:
    (press.folder.parent / "secret").write_text("secret")
    (press.folder / "link").symlink_to(press.folder.parent / "secret")
    with pytest.raises(PdfFailed) as failed:
        press.make(code)
    assert "secret" not in str(failed.value).replace('"../secret"', "").replace("/secret", "")


ESCAPES = """
import os, pathlib, socket, sys
from core.pdf_cage import shut_in
folder = pathlib.Path(sys.argv[1])
shut_in([folder])
def tries(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "done"
print((folder / "page").read_text())
for what in (
    lambda: socket.socket(socket.AF_INET),
    lambda: socket.socket(socket.AF_UNIX),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: open("/etc/passwd"),
    lambda: open("/proc/self/environ"),
    lambda: open(folder / "new", "w"),
    lambda: open(folder.parent / "beside"),
    lambda: os.unlink(folder / "page"),
    lambda: os.listdir("/"),
    lambda: os.execv("/bin/true", ["true"]),
):
    print(tries(what))
"""


def test_kernel_refuses_what_is_outside_of_the_cage(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "page").write_text("read")
    (tmp_path / "beside").write_text("x")
    answer = subprocess.run(
        [sys.executable, "-c", ESCAPES, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["read", *["PermissionError"] * 10]


ENDLESS = "#for a in range(90000) { for b in range(90000) { for c in range(90000) {} } }"


def test_endless_work_is_ended(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds, which are two here; the next one is printed by another process."""
    assert pdf.SECONDS == 10
    monkeypatch.setattr(pdf, "SECONDS", 2.0)
    begun = time.monotonic()
    with pytest.raises(PdfFailed, match="too long"):
        press.make(ENDLESS)
    assert time.monotonic() - begun < 4
    assert press.printer._process is None
    monkeypatch.undo()
    assert press.make("#it.value", value="x")


@pytest.mark.parametrize(
    "code",
    [
        "#let a = range(100000000)\n#a.len()",
        '#let a = "x"\n#for i in range(40) { a = a + a }\n#a.len()',
        "#let a = (0,)\n#for i in range(40) { a = a + a }\n#a.len()",
    ],
)
def test_memory_is_bounded(press: Press, code: str) -> None:
    with pytest.raises(PdfFailed):
        press.make(code)
    assert press.make("#it.value", value="x")
