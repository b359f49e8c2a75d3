"""Faults of the sandbox's API on demand: one by one, or a share of all calls drawn from a seed."""

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_HANG_SECONDS = 120.0
BEGINNING = ("start", "charge", "save_method")
"""The calls that begin something at the bank."""


class Fault(StrEnum):
    """What goes wrong with one call."""

    DROP_BEFORE = "drop-before"
    DROP_AFTER = "drop-after"
    CUT_BODY = "cut-body"
    ERROR_500 = "error-500"
    ERROR_500_AFTER = "error-500-after"
    CONFLICT_409 = "conflict-409"
    HANG = "hang"
    HANG_BEFORE = "hang-before"

    @property
    def words(self) -> str:
        """What it means, for the developer's page."""
        return _WORDS[self]


_WORDS = {
    Fault.DROP_BEFORE: "Breaks off before accepting",
    Fault.DROP_AFTER: "Breaks off after accepting",
    Fault.CUT_BODY: "Accepts, and cuts the answer in half",
    Fault.ERROR_500: "Answers 500 before accepting",
    Fault.ERROR_500_AFTER: "Answers 500 after accepting",
    Fault.CONFLICT_409: "Answers 409, another call with this key is under way",
    Fault.HANG: "Accepts, and times out",
    Fault.HANG_BEFORE: "Times out, and accepts late",
}


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults for a share of the named calls (start, ask, charge …), drawn from `seed`."""

    seed: int = 0
    rate: float = 0.0
    kinds: tuple[Fault, ...] = tuple(Fault)
    calls: tuple[str, ...] = ("start",)


class Faults:
    """The faults to come; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: deque[Fault] = deque()
        self._plan = FaultPlan()
        self._attempts: Counter[tuple[str, str]] = Counter()
        self.hang_seconds = 60.0

    def set_next(self, faults: Iterable[Fault]) -> None:
        """These faults meet the next calls that begin something, one each, instead of any set
        before."""
        with self._lock:
            self._next = deque(faults)

    def set_plan(self, plan: FaultPlan) -> None:
        """Follow this plan from now on; attempts are counted anew."""
        with self._lock:
            self._plan = plan
            self._attempts.clear()

    def list_next(self) -> list[Fault]:
        """The faults that still wait for a call that begins something."""
        with self._lock:
            return list(self._next)

    def take(self, call: str, key: str) -> Fault | None:
        """The fault of this call, if any.

        By plan it depends on seed, call, key and how often that was tried, never on which thread
        came first, so that a run can be repeated.
        """
        with self._lock:
            if call in BEGINNING and self._next:
                return self._next.popleft()
            plan = self._plan
            if call not in plan.calls or not plan.kinds or plan.rate <= 0:
                return None
            self._attempts[call, key] += 1
            attempt = self._attempts[call, key]
        text = f"{plan.seed}/{call}/{key}/{attempt}".encode()
        draw = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        is_hit = (draw >> 32) < plan.rate * 2**32
        return plan.kinds[draw % 2**32 % len(plan.kinds)] if is_hit else None
