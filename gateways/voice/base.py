"""The interface between the portal and the switch that carries telephone calls.

A number is known as E.164 writes it. Every call is safe to repeat and may raise `GatewayTimeout` or
`GatewayRefused`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Feature(StrEnum):
    """What a switch can do for a number, as the catalog's `features` name it."""

    VOICEMAIL = "voicemail"
    CALLER_ID = "caller_id"
    CALL_WAITING = "call_waiting"
    CALL_FORWARDING = "call_forwarding"
    ANONYMOUS_CALL_REJECTION = "anonymous_call_rejection"
    DO_NOT_DISTURB = "do_not_disturb"
    INTERNATIONAL_BLOCK = "international_block"


class ForwardWhen(StrEnum):
    """Which calls are forwarded."""

    ALWAYS = "always"
    BUSY = "busy"
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class NumberSettings:
    """What is switched on for a number; everything else is off.

    Calls go to `forward_to` (E.164) as `forward_when` says while CALL_FORWARDING is on. While
    DO_NOT_DISTURB is on, no call rings from `quiet_from` until `quiet_until` each day, times like
    "22:00" in the ISP's zone; where the second is not later, over midnight.
    """

    on: frozenset[Feature] = frozenset()
    forward_to: str = ""
    forward_when: ForwardWhen = ForwardWhen.ALWAYS
    quiet_from: str = ""
    quiet_until: str = ""

    def as_facts(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        return {
            "on": sorted(feature.value for feature in self.on),
            "forward_to": self.forward_to,
            "forward_when": self.forward_when.value,
            "quiet_from": self.quiet_from,
            "quiet_until": self.quiet_until,
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> NumberSettings:
        """What `as_facts` wrote; what is missing is off."""
        return cls(
            features_of(facts.get("on", ())),
            facts.get("forward_to", ""),
            ForwardWhen(facts.get("forward_when", ForwardWhen.ALWAYS)),
            facts.get("quiet_from", ""),
            facts.get("quiet_until", ""),
        )


def features_of(names: Collection[str]) -> frozenset[Feature]:
    """The features of these names; other names are passed over."""
    return frozenset(feature for feature in Feature if feature.value in names)


class VoiceGateway(ABC):
    """Sets what the switch does for numbers. `title` names it for people."""

    title: str

    @abstractmethod
    def set_number(self, number: str, wanted: NumberSettings, timezone: str) -> None:
        """Bring the number to `wanted`, also when it is there already. The times of `wanted` are in
        `timezone` (an IANA name)."""

    @abstractmethod
    def read_number(self, number: str) -> NumberSettings | None:
        """What the switch does for the number; None for one that it does not know."""
