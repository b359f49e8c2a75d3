"""The file a backup is: a ZIP archive with the database and a manifest that says what it is.

`database` is an SQLite file (deflated) or what `pg_dump -Fc` writes (compressed by itself);
`manifest.json` comes last, so that an archive without it is not whole. Nothing here knows the
portal's tables.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

DATABASE = "database"
MANIFEST = "manifest.json"
FORMAT = 1
_CHUNK_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 1_000_000
# The fastest: an SQLite file of the portal shrinks to about a quarter, at a core's 100 MB/s.
_LEVEL = 1
_WORKSHOP = ".lastmile-work-"


class BackupFailed(Exception):
    """The backup could not be made; what was there before is untouched. The text says why."""


class NoPlace(BackupFailed):
    """A backup cannot be where it was asked for: nothing is wrong with the database."""


class BadBackup(Exception):
    """The file is no backup, or a damaged one. The text says why."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says about itself. `made_at` is the moment it shows; `faults` are the sentences
    of `flask ledger verify` about it, none as a rule."""

    engine: str
    made_at: datetime
    is_demo: bool
    revision: str
    isp_name: str
    rows: dict[str, int]
    faults: list[str]
    database_bytes: int
    database_sha256: str

    @property
    def is_good(self) -> bool:
        return not self.faults

    def as_json(self) -> bytes:
        values = {"format": FORMAT, **asdict(self), "made_at": self.made_at.isoformat()}
        return json.dumps(values, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Raises BadBackup when it cannot be understood."""
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise BadBackup("it was made by a later version of the portal: update this one")
            values["made_at"] = datetime.fromisoformat(values["made_at"])
            if values["made_at"].tzinfo is None:
                raise BadBackup("its manifest is not readable")
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadBackup("its manifest is not readable") from error


def write(path: Path, database: Path, manifest: Manifest) -> None:
    """Write the archive to `path`, for its owner alone, and wait until it is on the disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        kind = zipfile.ZIP_DEFLATED if manifest.engine == "sqlite" else zipfile.ZIP_STORED
        with zipfile.ZipFile(file, "w", kind, compresslevel=_LEVEL) as archive:
            with (
                database.open("rb") as source,
                archive.open(DATABASE, "w", force_zip64=True) as target,
            ):
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
            archive.writestr(MANIFEST, manifest.as_json())
        file.flush()
        os.fsync(file.fileno())
        # So that it is the disk that is asked when the archive is read again, not the memory.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_manifest(path: Path) -> Manifest:
    """What the file at `path` says it is. Raises BadBackup."""
    with _opened(path) as archive:
        return _manifest(archive)


def check(path: Path) -> Manifest:
    """Read all of the archive and compare it with its manifest. Raises BadBackup."""
    with _opened(path) as archive:
        manifest = _manifest(archive)
        _copy(archive, manifest, None)
    return manifest


def extract(path: Path, target: Path) -> Manifest:
    """Write the archive's database to `target`, a new file for its owner alone, onto the disk.

    Raises BadBackup when it is not what the manifest says.
    """
    with _opened(path) as archive:
        manifest = _manifest(archive)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _copy(archive, manifest, file)
            file.flush()
            os.fsync(file.fileno())
    return manifest


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise BadBackup("there is no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError) as error:
        raise BadBackup(f"it is damaged or no backup ({error})") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        raise BadBackup(f"it cannot be read ({error.strerror})") from error


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    if archive.getinfo(MANIFEST).file_size > _MAX_MANIFEST_BYTES:
        raise BadBackup("its manifest is not readable")
    return Manifest.from_json(archive.read(MANIFEST))


def _copy(archive: zipfile.ZipFile, manifest: Manifest, target: BinaryIO | None) -> None:
    digest, size = hashlib.sha256(), 0
    with archive.open(DATABASE) as source:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > manifest.database_bytes:
                break
            digest.update(chunk)
            if target is not None:
                target.write(chunk)
    if (size, digest.hexdigest()) != (manifest.database_bytes, manifest.database_sha256):
        raise BadBackup("it is damaged: the database in it is not what its manifest says")


def fingerprint(path: Path) -> tuple[int, str]:
    """The bytes of a file and their SHA-256."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own_like(path: Path, model: Path) -> None:
    """Give what root makes to the owner of `model`, who runs the portal."""
    if os.geteuid() == 0:
        owner = model.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` for half-made files, gone afterwards; what killed ones left goes
    too."""
    for abandoned in folder.glob(f"{_WORKSHOP}*"):
        with contextlib.suppress(OSError), _locked(abandoned):
            shutil.rmtree(abandoned, ignore_errors=True)
    path = folder / f"{_WORKSHOP}{secrets.token_hex(6)}"
    path.mkdir(mode=0o700)
    with _locked(path):
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder. Raises BlockingIOError when another process does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
