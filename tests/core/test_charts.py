"""Where the bars of a chart lie."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from core import charts

VALUES = st.lists(
    st.lists(st.integers(-(10**9), 10**12), min_size=2, max_size=2), min_size=0, max_size=40
)


@given(values=VALUES)
def test_bars_stay_inside_and_lines_are_few(values: list[list[int]]) -> None:
    chart = charts.columns(["a", "b"], [str(n) for n in range(len(values))], values, str)
    assert 1 <= len(chart.steps) <= 8
    assert len({step.y for step in chart.steps}) == len(chart.steps)
    assert len(chart.labels) <= 12
    for series in chart.series:
        for x, y, wide, high in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", series.path):
            assert 52 <= int(x) <= int(x) + int(wide) <= charts.WIDTH
            assert 8 <= int(y) <= int(y) + int(high) <= charts.HEIGHT - 18


def test_bars_are_stacked() -> None:
    chart = charts.columns(["a", "b"], ["one"], [[100, 50]], str)
    [below], [above] = (re.findall(r"M\d+ (\d+)h\d+v(\d+)", each.path) for each in chart.series)
    assert int(above[0]) + int(above[1]) == int(below[0])
    assert [step.text for step in chart.steps] == ["0", "50", "100", "150"]


def test_nothing_is_a_chart_too() -> None:
    assert [step.text for step in charts.columns(["a"], [], [], str).steps] == ["0"]
