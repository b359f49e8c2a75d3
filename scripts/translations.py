"""The strings to translate.

`translations.py check` says whether each source file can be read for them, changing nothing.
`translations.py update` writes them to `translations/messages.pot`, merges that into each language
and compiles the languages. A new language begins with
`pybabel init --input-file translations/messages.pot --output-dir translations --locale de`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
TRANSLATIONS = ROOT / "translations"
POT = TRANSLATIONS / "messages.pot"
KEYWORDS = ["_l", "lazy_gettext", "lazy_ngettext:1,2", "lazy_pgettext:1c,2"]


def pybabel(*arguments: str) -> None:
    command = [sys.executable, "-m", "babel.messages.frontend", "--quiet", *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


def extract(into: Path) -> int:
    """Number of strings found."""
    keywords = [f"--keyword={keyword}" for keyword in KEYWORDS]
    pybabel(
        "extract",
        "--mapping-file=babel.cfg",
        "--project=Lastmile",
        "--copyright-holder=Lastmile contributors",
        "--add-comments=Translators:",
        "--sort-by-file",
        "--no-wrap",
        *keywords,
        f"--output-file={into}",
        ".",
    )
    with into.open("rb") as file:
        return sum(1 for message in read_po(file) if message.id)


def check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        count = extract(Path(folder) / "messages.pot")
    if not count:
        print("No string to translate was found: see babel.cfg.", file=sys.stderr)
        return 1
    print(f"{count} strings can be translated.")
    return 0


def update() -> int:
    TRANSLATIONS.mkdir(exist_ok=True)
    print(f"{extract(POT)} strings are in translations/messages.pot.")
    if any(TRANSLATIONS.glob("*/LC_MESSAGES/messages.po")):
        pybabel("update", f"--input-file={POT}", f"--output-dir={TRANSLATIONS}", "--no-wrap")
        pybabel("compile", f"--directory={TRANSLATIONS}", "--statistics")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["check"], ["update"]):
        sys.exit("usage: translations.py check|update")
    sys.exit(check() if sys.argv[1] == "check" else update())
