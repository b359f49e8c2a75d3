"""The strings to translate, and their catalogues.

`translations.py update` collects the strings into `translations/messages.pot`, merges them into
each language's `messages.po`, drops what is gone and compiles `messages.mo`. A new language is a
new entry of LANGUAGES; `update` begins its catalogue.
`translations.py check` says, changing nothing, whether each source file can be read for strings
and whether each catalogue is whole: every string translated and none uncertain or left over, the
placeholders kept, `messages.mo` compiled from this `messages.po` (it is committed, so that a fresh
clone speaks every language).
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
TRANSLATIONS = ROOT / "translations"
POT = TRANSLATIONS / "messages.pot"
LANGUAGES = ("es", "fr")
KEYWORDS = ["_l", "lazy_gettext", "lazy_ngettext:1,2", "lazy_pgettext:1c,2"]
CREATED = re.compile(rb'^"POT-Creation-Date: .*\n', re.MULTILINE)
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%%")


def po_path(language: str) -> Path:
    return TRANSLATIONS / language / "LC_MESSAGES" / "messages.po"


def read_catalog(path: Path, language: str | None = None) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    buffer = BytesIO()
    write_mo(buffer, catalog)
    return buffer.getvalue()


def pybabel(*arguments: str) -> None:
    command = [sys.executable, "-m", "babel.messages.frontend", "--quiet", *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


def extract(into: Path) -> Catalog:
    """The strings of the source, also written to `into`."""
    keywords = [f"--keyword={keyword}" for keyword in KEYWORDS]
    pybabel(
        "extract",
        "--mapping-file=babel.cfg",
        "--project=Lastmile",
        "--copyright-holder=Lastmile contributors",
        "--add-comments=Translators:",
        "--add-location=file",
        "--sort-by-file",
        "--no-wrap",
        *keywords,
        f"--output-file={into}",
        ".",
    )
    return read_catalog(into)


def placeholders(text: str) -> list[str]:
    return sorted(PLACEHOLDER.findall(text))


def find_faults(source: Catalog, catalog: Catalog) -> Iterator[str]:
    """What keeps `catalog` from being a whole translation of `source`, one sentence for each."""
    for message in source:
        if not message.id:
            continue
        ids = (message.id,) if isinstance(message.id, str) else message.id
        found = catalog.get(ids[0], message.context)
        if found is None:
            yield f"not in the catalogue: {ids[0]!r}"
            continue
        texts = (found.string,) if isinstance(found.string, str) else tuple(found.string or ())
        if len(texts) != (catalog.num_plurals if len(ids) > 1 else 1):
            yield f"wrong number of plural forms: {ids[0]!r}"
        elif not all(text.strip() for text in texts):
            yield f"not translated: {ids[0]!r}"
        elif found.fuzzy:
            yield f"uncertain (fuzzy): {ids[0]!r}"
        elif any(placeholders(text) != placeholders(ids[-1]) for text in texts):
            yield f"other placeholders: {ids[0]!r}"
    known = {(message.id, message.context) for message in source}
    for message in catalog:
        if message.id and (message.id, message.context) not in known:
            yield f"no longer in the source: {message.id!r}"
    for key in catalog.obsolete:
        yield f"left over: {key!r}"


def check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        source = extract(Path(folder) / "messages.pot")
    if not len(source):
        print("No string to translate was found: see babel.cfg.", file=sys.stderr)
        return 1
    faults = []
    for language in LANGUAGES:
        path = po_path(language)
        if not path.exists():
            faults.append(f"{language}: there is no catalogue")
            continue
        catalog = read_catalog(path, language)
        faults += [f"{language}: {fault}" for fault in find_faults(source, catalog)]
        mo = path.with_suffix(".mo")
        if not mo.exists() or mo.read_bytes() != compiled(catalog):
            faults.append(f"{language}: messages.mo is not compiled from messages.po")
    if faults:
        print(*faults, "Mend with: make translations", sep="\n", file=sys.stderr)
        return 1
    print(f"{len(source)} strings are translated into {', '.join(LANGUAGES)}.")
    return 0


def update() -> int:
    TRANSLATIONS.mkdir(exist_ok=True)
    before = POT.read_bytes() if POT.exists() else b""
    source = extract(POT)
    if CREATED.sub(b"", POT.read_bytes()) == CREATED.sub(b"", before):
        POT.write_bytes(before)  # Only the date is new.
    for language in LANGUAGES:
        path = po_path(language)
        pybabel(
            "update",
            "--init-missing",
            "--no-fuzzy-matching",
            "--ignore-obsolete",
            "--ignore-pot-creation-date",
            "--no-wrap",
            f"--locale={language}",
            f"--input-file={POT}",
            f"--output-dir={TRANSLATIONS}",
        )
        catalog = read_catalog(path, language)
        path.with_suffix(".mo").write_bytes(compiled(catalog))
        missing = list(find_faults(source, catalog))
        print(f"{language}: {len(source)} strings, to do: {len(missing)}")
        for fault in missing:
            print(f"  {fault}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["check"], ["update"]):
        sys.exit("usage: translations.py check|update")
    sys.exit(check() if sys.argv[1] == "check" else update())
