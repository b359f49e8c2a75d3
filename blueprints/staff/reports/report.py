"""What every report is: a table of days or months, or of things, and the chart of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from babel.numbers import format_percent
from flask_babel import gettext as _

from core import charts, clock
from core.downloads import Cell
from core.money import Money, format_short, unit_minor
from core.words import format_day, format_month, language, month_letter

MOST_DAYS = 62
"""A longer span is shown by months."""
MOST_SERIES = 7


@dataclass(frozen=True, slots=True)
class Report:
    """A table under its `columns`, of which all but the first hold numbers; `sums` are its last
    row, where there is one. Nobody's data: names of accounts stand in none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chart: charts.Chart
    sums: tuple[Cell, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def all_rows(self) -> list[tuple[Cell, ...]]:
        return [*self.rows, self.sums] if self.sums else list(self.rows)


@dataclass(frozen=True, slots=True)
class Spans:
    """The days, or for a longer span the months, from `first_on` until and with `last_on`."""

    first_on: date
    last_on: date

    @property
    def is_daily(self) -> bool:
        return (self.last_on - self.first_on).days < MOST_DAYS

    def of(self, day: date) -> date:
        """The day, or the first of the month, under which `day` stands."""
        return day if self.is_daily else day.replace(day=1)

    def all(self) -> list[date]:
        """Every one of them, the oldest first."""
        if self.is_daily:
            count = (self.last_on - self.first_on).days + 1
            return [self.first_on + timedelta(days=number) for number in range(count)]
        start = self.first_on.replace(day=1)
        count = (self.last_on.year - start.year) * 12 + self.last_on.month - start.month + 1
        return [clock.month_step(start, number, 1) for number in range(count)]

    def word(self, span: date) -> str:
        return format_day(span) if self.is_daily else format_month(span)

    def letter(self, span: date) -> str:
        """The word where many stand side by side."""
        return str(span.day) if self.is_daily else month_letter(span)

    @property
    def column(self) -> str:
        return _("Day") if self.is_daily else _("Month")


def share_words(part: int, whole: int) -> str:
    """How much of `whole` a part is, like `12.5%`; nothing of nothing."""
    if not whole:
        return ""
    return format_percent(part / whole, "#,##0.0%", locale=language().replace("-", "_"))


def money_chart(
    names: Sequence[str], labels: Sequence[str], values: Sequence[Sequence[int]], currency: str
) -> charts.Chart:
    """A chart of amounts in minor units."""

    def words(minor: int) -> str:
        return format_short(Money(minor, currency), language())

    return charts.columns(names, labels, values, words, unit_minor(currency))


def count_chart(
    names: Sequence[str], labels: Sequence[str], values: Sequence[Sequence[int]]
) -> charts.Chart:
    """A chart of how many."""
    return charts.columns(names, labels, values, str)


def by_span(
    spans: Spans, found: Iterable[tuple[date, str, int]], words: dict[str, str], currency: str
) -> Report:
    """Amounts of kinds on days as a report: a row for each span, a column for each of the kinds
    that `words` names and that occur, and their sums."""
    minor: defaultdict[tuple[date, str], int] = defaultdict(int)
    for day, kind, amount_minor in found:
        minor[spans.of(day), kind] += amount_minor
    kinds = [kind for kind in words if any(of_kind == kind for _, of_kind in minor)]
    values = [[minor[span, kind] for kind in kinds] for span in spans.all()]

    def row(first: str, amounts: Sequence[int]) -> tuple[Cell, ...]:
        return (first, *(Money(amount, currency) for amount in (*amounts, sum(amounts))))

    sums = [sum(column) for column in zip(*values, strict=True)]
    names = [words[kind] for kind in kinds]
    return Report(
        (spans.column, *names, _("Total")),
        tuple(
            row(spans.word(span), amounts)
            for span, amounts in zip(spans.all(), values, strict=True)
        ),
        money_chart(names, [spans.letter(span) for span in spans.all()], values, currency),
        row(_("Total"), sums),
    )
