"""Hashes, the two slots, and what is refused as a password (bars 1-4)."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from flask import Flask
from flask_babel import Babel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app
from core import passwords
from core.passwords import TooBusy, find_weakness, hash_password, needs_rehash, verify
from core.settings import ROOT
from tests.conftest import Portal
from tests.world import PASSWORD

few = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def words() -> Iterator[None]:
    """Refusals are sentences, and those need an application to be translated in."""
    made = Flask(__name__)
    Babel(made)
    with made.app_context():
        yield


@pytest.fixture
def is_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.2)


@contextmanager
def taken(folder: Path, *names: str) -> Iterator[None]:
    """The slots `names` are in use, as by other processes."""
    files = [os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in names]
    for file in files:
        fcntl.flock(file, fcntl.LOCK_EX)
    yield
    for file in files:
        os.close(file)


# Hashes --------------------------------------------------------------------------------------


def test_hash_is_argon2id_of_19_mib_twice(tmp_path: Path) -> None:
    found = extract_parameters(hash_password(tmp_path, PASSWORD))
    assert found.type is Type.ID
    assert (found.memory_cost, found.time_cost, found.parallelism) == (19_456, 2, 1)


def test_same_password_has_another_hash_each_time(tmp_path: Path) -> None:
    assert hash_password(tmp_path, PASSWORD) != hash_password(tmp_path, PASSWORD)


@pytest.mark.parametrize(
    "hasher",
    [
        PasswordHasher(time_cost=2, memory_cost=19_455, parallelism=1),
        PasswordHasher(time_cost=1, memory_cost=65_536, parallelism=1),
        PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.I),
    ],
)
def test_portal_does_not_start_with_cheaper_hashes(
    portal: Portal, hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_hasher", hasher)
    with pytest.raises(RuntimeError, match="Argon2id"):
        app.create_app(portal.settings)


def test_older_hash_is_recognised(tmp_path: Path) -> None:
    assert needs_rehash(PasswordHasher(time_cost=1, memory_cost=8_192).hash(PASSWORD))
    assert not needs_rehash(hash_password(tmp_path, PASSWORD))


@pytest.mark.parametrize("stored", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$x", "$2b$12$abc", None])
def test_hash_that_is_none_fits_nothing(tmp_path: Path, stored: str | None) -> None:
    assert not verify(tmp_path, stored, PASSWORD, is_known_device=False)


@few
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_password_fits_its_own_hash_and_no_longer_one(
    tmp_path_factory: pytest.TempPathFactory, password: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    stored = hash_password(folder, password)
    assert verify(folder, stored, password, is_known_device=False)
    assert not verify(folder, stored, password + "x", is_known_device=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a" * 72 + "b", "a" * 72 + "c"),
        ("quiet-Lantern-orbit", "quiet-lantern-orbit"),
        ("quiet-lantern-orbit ", "quiet-lantern-orbit"),
        ("quiet\0lantern", "quiet\0orbit"),
    ],
)
def test_the_whole_password_counts(tmp_path: Path, one: str, other: str) -> None:
    assert not verify(tmp_path, hash_password(tmp_path, one), other, is_known_device=False)


letters = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=73, max_size=120)


@few
@given(long=letters, sign=st.characters(exclude_categories=["Cs", "Cc"]), place=st.integers(0, 200))
def test_every_sign_of_a_password_counts(
    tmp_path_factory: pytest.TempPathFactory, long: str, sign: str, place: int
) -> None:
    """One sign differs, also beyond the 72 bytes at which bcrypt would stop; or the case; or a
    space follows (bar 2)."""
    folder = tmp_path_factory.getbasetemp()
    stored = hash_password(folder, long)
    place = place % (len(long) - 72) + 72
    others = [
        long[:place] + sign + long[place + 1 :],
        long[:72] + sign + long[73:],
        long.swapcase(),
        f"{long} ",
        f" {long}",
        long[:-1],
        long[:72],
    ]
    normal = unicodedata.normalize("NFKC", long)
    for other in others:
        is_same = unicodedata.normalize("NFKC", other) == normal
        assert verify(folder, stored, other, is_known_device=False) == is_same


def test_password_typed_on_another_keyboard_is_the_same(tmp_path: Path) -> None:
    composed, decomposed = "über-laterne-fjörd", unicodedata.normalize("NFD", "über-laterne-fjörd")
    assert composed != decomposed
    assert verify(tmp_path, hash_password(tmp_path, composed), decomposed, is_known_device=False)


# Slots ---------------------------------------------------------------------------------------

HASHING = """
import json, sys, threading, time
from pathlib import Path
from argon2 import PasswordHasher
from core import passwords

spans = []

class Watched(PasswordHasher):
    def verify(self, *values):
        began = time.monotonic()
        try:
            return super().verify(*values)
        finally:
            spans.append((began, time.monotonic()))

stored = passwords.hash_password(Path(sys.argv[1]), "x")
passwords._hasher = Watched(time_cost=2, memory_cost=19_456, parallelism=1)

def work(is_known):
    for _ in range(4):
        passwords.verify(Path(sys.argv[1]), stored, "x", is_known_device=is_known)

count = passwords.WAITING, passwords.WAITING_KNOWN_DEVICES
threads = [threading.Thread(target=work, args=[False]) for _ in range(count[0])]
threads += [threading.Thread(target=work, args=[True]) for _ in range(count[1])]
print("ready", flush=True)
sys.stdin.readline()
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps(spans))
"""


def test_two_hashes_run_at_once_over_all_processes(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HASHING, str(tmp_path)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    spans = [span for each in processes for span in json.loads(each.communicate()[0])]
    assert len(spans) == 2 * 6 * 4
    most = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert most == 2


@pytest.mark.usefixtures("is_hurried")
def test_stranger_waits_for_the_one_slot_of_everyone(tmp_path: Path) -> None:
    with taken(tmp_path, passwords.SLOT), pytest.raises(TooBusy):
        verify(tmp_path, None, PASSWORD, is_known_device=False)
    with taken(tmp_path, passwords.SLOT_OF_KNOWN_DEVICES):
        assert not verify(tmp_path, None, PASSWORD, is_known_device=False)


@pytest.mark.usefixtures("is_hurried")
def test_known_device_has_a_slot_of_its_own(tmp_path: Path) -> None:
    for other in (passwords.SLOT, passwords.SLOT_OF_KNOWN_DEVICES):
        with taken(tmp_path, other):
            assert not verify(tmp_path, None, PASSWORD, is_known_device=True)
    with (
        taken(tmp_path, passwords.SLOT, passwords.SLOT_OF_KNOWN_DEVICES),
        pytest.raises(TooBusy),
    ):
        verify(tmp_path, None, PASSWORD, is_known_device=True)


def test_hashing_anew_takes_a_slot_too(tmp_path: Path, is_hurried: None) -> None:
    with taken(tmp_path, passwords.SLOT), pytest.raises(TooBusy):
        hash_password(tmp_path, PASSWORD)


def test_as_many_wait_as_a_process_has_threads_to_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.web_server import BLOCKING_THREADS

    assert passwords.WAITING + passwords.WAITING_KNOWN_DEVICES < BLOCKING_THREADS
    inside = threading.Semaphore(0)

    class Counted(threading.BoundedSemaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
            is_in = super().acquire(blocking, timeout)
            inside.release()
            return is_in

    monkeypatch.setattr(passwords, "_waiting", Counted(passwords.WAITING))
    with taken(tmp_path, passwords.SLOT):
        waiting = [
            threading.Thread(
                target=verify, args=(tmp_path, None, PASSWORD), kwargs={"is_known_device": False}
            )
            for _ in range(passwords.WAITING)
        ]
        for each in waiting:
            each.start()
        for _ in waiting:
            inside.acquire()
        monkeypatch.setattr(passwords, "WAIT_SECONDS", 60.0)
        with pytest.raises(TooBusy):  # at once: it would wait a minute
            verify(tmp_path, None, PASSWORD, is_known_device=False)
        assert not verify(tmp_path, None, PASSWORD, is_known_device=True)
    for each in waiting:
        each.join()


# Weak passwords ------------------------------------------------------------------------------

CONTEXT = ["Pinecrest Broadband", "Pinecrest ID", "Marguerite Oyelaran", "104-2231", "moyelaran"]


@pytest.mark.parametrize(
    "good",
    [
        PASSWORD,
        "correct horse battery staple",
        "Tr0ub4dor&3-vexing",
        "пароль мой очень длинный секрет",
        "日本語のパスワードは長い方がいい",
        "😀🎉🚲🌲🔥🍕🎸🐳🌙⛵",
        "blue kettle " * 20,
    ],
)
def test_good_password_is_taken(good: str) -> None:
    assert find_weakness(good, CONTEXT) is None


@pytest.mark.parametrize(
    ("weak", "says"),
    [
        ("", "at least 10"),
        ("xK9!qLw2p", "at least 10"),
        ("x" * 257, "at most 256"),
        ("ﷺ" * 15, "at most 256"),  # one character that NFKC makes 18 of
        ("password123", "easy to guess"),
        ("qwertyuiop", "easy to guess"),
        ("yuantuo2012", "many people use it"),  # leaked often, though it looks random
        ("PE#5GZ29PTZMSE", "many people use it"),
        ("zxcvbnm,./", "keyboard"),
        ("abcabcabcabc", "repeats itself"),
        ("12345678987", "easy to guess"),
        ("1234567890", "easy to guess"),
        ("aaaaaaaaaaaaaaaaaaaa", "easy to guess"),
        ("😀" * 40, "easy to guess"),
        ("Ｐａｓｓｗｏｒｄ１２３", "easy to guess"),  # full width is no disguise
        ("Pinecrest2026", "Leave out"),
        ("PinecrestBroadband", "Leave out"),
        ("moyelaran104-2231", "Leave out"),
        ("MARGUERITE OYELARAN!", "Leave out"),
    ],
)
def test_weak_password_is_refused_with_its_reason(weak: str, says: str) -> None:
    assert says in (find_weakness(weak, CONTEXT) or "")


def test_length_counts_code_points_after_nfkc() -> None:
    nine, ten = "ﬁ" * 4 + "x", "ﬁ" * 5
    assert "at least 10" in (find_weakness(nine, []) or "")
    assert "at least 10" not in (find_weakness(ten, []) or "")
    decomposed = unicodedata.normalize("NFD", "éèüöäñçåøß")
    assert len(decomposed) > 10
    assert "at least 10" not in (find_weakness(decomposed, []) or "")
    assert "at least 10" in (find_weakness(unicodedata.normalize("NFD", "éèüöä"), []) or "")


@many
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.lists(st.text(max_size=30), max_size=5),
)
def test_whatever_is_typed_gets_an_answer(password: str, context: list[str]) -> None:
    if find_weakness(password, context) is None:
        assert 10 <= len(unicodedata.normalize("NFKC", password)) <= 256


@pytest.mark.parametrize(
    ("password", "is_taken"),
    [
        ("amber-violin-thursday", False),
        ("amber violin thursday 7", False),
        ("amberviolinthursday7", False),
        ("amber-violin-thursday-7", True),
        ("Ambre-violín-7-jueves", True),
        ("7777-###-7-##!!", False),
    ],
)
def test_isp_may_require_letters_numbers_and_special_characters(
    password: str, is_taken: bool
) -> None:
    weakness = find_weakness(password, CONTEXT, requires_mixed=True)
    assert (weakness is None) == is_taken
    assert is_taken or "letters, numbers and special" in str(weakness)
    assert is_taken or password[0] == "7" or find_weakness(password, CONTEXT) is None


def test_list_of_common_passwords_is_shipped_and_counts_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_where: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    words = gzip.decompress(passwords.COMMON.read_bytes()).decode().splitlines()
    assert len(words) > 1_500
    assert all(len(word) >= passwords.MIN_LENGTH for word in words)
    for word in words[::50]:
        assert find_weakness(word, []) is not None, word
        assert find_weakness(word.title(), []) is not None, word
