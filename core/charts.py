"""Charts as SVG: where the bars of stacked columns lie. `ui.chart` draws them, on the server.

Numbers are whole units of the drawing: a chart weighs a few hundred bytes, whatever it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 4, 8, 18
_LETTER = 6
"""How wide a letter of a label is at most, near enough."""
_SERIES = 8
"""As many colours as css/components/chart.css has."""


@dataclass(frozen=True, slots=True)
class Step:
    """A line across the chart, and what it stands for."""

    y: int
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """All bars of one thing as the path of an SVG. `colour` counts from 1."""

    name: str
    colour: int
    path: str


@dataclass(frozen=True, slots=True)
class Label:
    x: int
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What `ui.chart` draws."""

    width: int
    height: int
    steps: tuple[Step, ...]
    series: tuple[Series, ...]
    labels: tuple[Label, ...]


def columns(
    names: Sequence[str],
    labels: Sequence[str],
    values: Sequence[Sequence[int]],
    words: Callable[[int], str],
    least: int = 1,
) -> Chart:
    """A chart of a column for each of `labels`, in which what `names` stand for is stacked.

    `values` has a row of the same length as `names` for each label; what is negative hangs below
    zero. `words` puts a value into words for the lines across, which are `least` apart or more.
    """
    highest = max((sum(v for v in row if v > 0) for row in values), default=0)
    lowest = min((sum(v for v in row if v < 0) for row in values), default=0)
    step = _step(highest - lowest, least)
    top, bottom = -(-highest // step) * step, (lowest // step) * step
    scale = (HEIGHT - _TOP - _BOTTOM) / max(top - bottom, 1)

    def y_of(value: int) -> int:
        return round(_TOP + (top - value) * scale)

    pitch = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    wide = max(1, min(round(pitch * 0.7), 40))
    paths: list[list[str]] = [[] for _ in names]
    for number, row in enumerate(values):
        x = round(_LEFT + pitch * number + (pitch - wide) / 2)
        above = below = 0
        for which, value in enumerate(row):
            start = above if value > 0 else below
            y, end = y_of(max(start, start + value)), y_of(min(start, start + value))
            if value > 0:
                above += value
            else:
                below += value
            if end > y:
                paths[which].append(f"M{x} {y}h{wide}v{end - y}h-{wide}z")
    every = -(-len(labels) // 12) or 1
    longest = max(1, int(pitch * every / _LETTER))
    return Chart(
        WIDTH,
        HEIGHT,
        tuple(Step(y_of(value), words(value)) for value in range(bottom, top + 1, step)),
        tuple(
            Series(name, number % _SERIES + 1, "".join(path))
            for number, (name, path) in enumerate(zip(names, paths, strict=True))
        ),
        tuple(
            Label(round(_LEFT + pitch * (number + 0.5)), _cut(text, longest))
            for number, text in enumerate(labels)
            if number % every == 0
        ),
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: max(1, longest - 1)] + "…"


def _step(height: int, least: int) -> int:
    """A round number of `least` that goes into `height` five times at most."""
    step = least
    while True:
        for factor in (1, 2, 5):
            if step * factor * 5 >= height:
                return step * factor
        step *= 10
