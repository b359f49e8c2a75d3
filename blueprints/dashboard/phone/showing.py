"""What the pages of telephone numbers show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from blueprints.dashboard.phone.forms import OF_FEATURE
from blueprints.lines.phone.choosing import Having, effective
from gateways.voice.base import Feature, NumberSettings


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One thing that a plan includes: what the switch does, and what it is about to do.

    `change` is what it waits for: "on", "off", "other" (on, but in another way) or empty.
    """

    name: str
    is_on: bool
    change: str


@dataclass(frozen=True, slots=True)
class NumberView:
    public_id: str
    number: str
    plan_name: str
    pending_at: datetime | None
    features: list[FeatureView]


def view(having: Having) -> NumberView:
    """A number as it is shown, its features in the order of `Feature`."""
    number = having.number
    wanted = effective(NumberSettings.of(number.wanted), having.included)
    reached = NumberSettings.of(number.reached)
    return NumberView(
        number.public_id,
        number.number,
        having.plan_name,
        number.pending_at,
        [
            FeatureView(feature.value, feature in reached.on, _change(feature, wanted, reached))
            for feature in Feature
            if feature in having.included
        ],
    )


def _change(feature: Feature, wanted: NumberSettings, reached: NumberSettings) -> str:
    if (feature in wanted.on) is not (feature in reached.on):
        return "on" if feature in wanted.on else "off"
    names = OF_FEATURE.get(feature, ())
    is_same = replace(wanted, **{name: getattr(reached, name) for name in names}) == wanted
    return "" if is_same else "other"
