"""What the portal and the sandbox share: one file with a secret on each line, the current first."""

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SandboxSecrets:
    """The API keys and notice secrets derived from the file; the first of each is the current one.

    To rotate, put a new line on top and restart both sides; the older lines are still accepted.
    """

    api_keys: tuple[str, ...]
    notice_secrets: tuple[str, ...]

    @classmethod
    def read_or_create(cls, path: str | Path) -> "SandboxSecrets":
        """Read the file; make it first when there is none. Portal and sandbox may do so at once."""
        path = Path(path)
        if not path.exists():
            _create(path)
        return cls.of(path.read_text(encoding="ascii").split())

    @classmethod
    def of(cls, seeds: list[str]) -> "SandboxSecrets":
        """The secrets derived from the lines of the file. Raises ValueError on a weak one."""
        if not seeds or min(map(len, seeds)) < 32:
            raise ValueError("the sandbox's secret file needs 32 characters or more on each line")
        return cls(
            tuple(_derive(seed, "api key") for seed in seeds),
            tuple(_derive(seed, "notices") for seed in seeds),
        )


def _create(path: Path) -> None:
    """Write a whole file beside it and link it into place, so that no reader sees half of one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _derive(seed: str, purpose: str) -> str:
    return hmac.new(seed.encode(), purpose.encode(), hashlib.sha256).hexdigest()
