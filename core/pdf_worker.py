"""The process that makes PDFs: no network, no files but the templates and fonts, bounded memory.

It reads requests from its standard input and answers on its standard output, each as a length
in ASCII on a line of its own and then so many bytes: a JSON object in, a PDF out, or a line that
begins with `!` and says what is wrong. `TEMPLATES` in its environment is their folder. It imports
no more of the portal than its cage, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import typst

from core.pdf_cage import shut_in

FONTS = Path(__file__).resolve().parent.parent / "fonts"
MEMORY_BYTES = 512 * 2**20


# What no font has; PDF/UA refuses a page with an empty box (ISO 14289-1, 7.21.8).
_UNKNOWN = re.compile(r"the text `\"(.+)\"` could not be displayed")
REPLACEMENT = "\ufffd"
MOST_REPLACED = 50


def make(compiler: typst.Compiler, data: str, timestamp: datetime) -> bytes:
    """The PDF; a character that no font has becomes a replacement character."""
    for _ in range(MOST_REPLACED):
        try:
            made = compiler.compile(
                format="pdf",
                sys_inputs={"data": data},
                pdf_standards="ua-1",
                timestamp=timestamp,
            )
        except RuntimeError as error:
            found = _UNKNOWN.search(str(error))
            unknown = json.loads(f'"{found[1]}"') if found else ""
            if not unknown or REPLACEMENT in unknown:
                raise
            for character in unknown:
                data = data.replace(character, REPLACEMENT)
        else:
            if isinstance(made, bytes):
                return made
            raise TypeError("one file was asked for")
    raise RuntimeError("too many characters that no font has")


def main(templates: Path) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with whoever asks
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    shut_in((templates, FONTS))
    compilers: dict[str, typst.Compiler] = {}
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while line := read.readline():
        asked = json.loads(read.read(int(line)))
        name = Path(asked["template"]).name
        data = json.dumps(asked["data"], ensure_ascii=False)
        try:
            if name not in compilers:
                compilers[name] = typst.Compiler(
                    templates / name,
                    root=templates,
                    font_paths=[FONTS],
                    ignore_system_fonts=True,
                )
            made = make(compilers[name], data, datetime.fromtimestamp(asked["timestamp"], UTC))
        except (RuntimeError, ValueError) as error:
            write.write(f"!{' '.join(str(error).split())}\n".encode())
        else:
            write.write(f"{len(made)}\n".encode() + made)
        write.flush()


if __name__ == "__main__":
    main(Path(os.environ["TEMPLATES"]).resolve())
