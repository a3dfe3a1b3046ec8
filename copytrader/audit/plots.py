"""Plots as SVG text: numbers in, markup out, nothing loaded from anywhere.

Every text that comes in is escaped; colours are those of the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

_WIDTH, _HEIGHT = 440, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 12, 26


def columns(groups: Sequence[tuple[str, Sequence[float]]], series: Sequence[str], what: str) -> str:
    """Draw groups of standing bars side by side, one bar for each series; bars below zero hang."""
    low = min([0.0, *(value for _, values in groups for value in values)])
    high = max([0.0, *(value for _, values in groups for value in values)])
    whole = all(float(value).is_integer() for _, values in groups for value in values)
    axis = _Axis(low, high, _HEIGHT - _BOTTOM, _TOP, whole=whole)
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    bar = min(slot * 0.8 / max(len(series), 1), 28)
    parts = [axis.lines()]
    for place, (label, values) in enumerate(groups):
        start = _LEFT + slot * place + (slot - bar * len(values)) / 2
        for number, value in enumerate(values):
            top, bottom = sorted((axis.at(value), axis.at(0)))
            title = f"{label}, {series[number]}: {value:g}" if series else f"{label}: {value:g}"
            left, wide = start + bar * number, max(bar - 1, 1)
            parts.append(
                f'<rect class="s{number % 6}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                f'height="{max(bottom - top, 0):.1f}"><title>{escape(title)}</title></rect>'
            )
    parts += _labels([label for label, _ in groups], slot)
    return _figure(parts, what, _HEIGHT)


def histogram(values: Sequence[float], marks: Sequence[tuple[str, float]], what: str, bins: int = 24) -> str:
    """Draw how values are distributed, with upright lines at the marked ones."""
    low, high = min(values), max(values)
    width = (high - low) / bins or 1.0
    counts = [0.0] * bins
    for value in values:
        counts[min(int((value - low) / width), bins - 1)] += 1
    axis = _Axis(0, max(counts), _HEIGHT - _BOTTOM, _TOP, whole=True)
    room = _WIDTH - _LEFT - _RIGHT
    parts = [axis.lines()]
    for place, count in enumerate(counts):
        title = f"{low + place * width:.2f} to {low + (place + 1) * width:.2f}: {count:g}"
        parts.append(
            f'<rect class="s0" x="{_LEFT + room * place / bins:.1f}" y="{axis.at(count):.1f}" '
            f'width="{room / bins - 1:.1f}" height="{axis.at(0) - axis.at(count):.1f}">'
            f"<title>{escape(title)}</title></rect>"
        )
    for number, (label, value) in enumerate(marks):
        x = _LEFT + room * min((value - low) / (width * bins), 1)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        side, gap = ("end", -4) if x > _WIDTH * 0.7 else ("start", 4)
        parts.append(
            f'<text class="markname" x="{x + gap:.1f}" y="{_TOP + 11 + 14 * number}" text-anchor="{side}">'
            f"{escape(label)} {value:.2f}</text>"
        )
    ends = ((low, "start", _LEFT), (low + width * bins, "end", _WIDTH - _RIGHT))
    parts += [
        f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{side}">{value:.2f} ms</text>'
        for value, side, x in ends
    ]
    return _figure(parts, what, _HEIGHT)


def rows(items: Sequence[tuple[str, float]], what: str) -> str:
    """Draw lying bars, each with its name above and its number behind."""
    step, most = 34, max((value for _, value in items), default=1) or 1
    parts = []
    for place, (label, value) in enumerate(items):
        y = place * step + 14
        length = (_WIDTH - 70) * value / most
        parts.append(f'<text x="2" y="{y}">{escape(label)}</text>')
        parts.append(f'<rect class="s0" x="2" y="{y + 4}" width="{length:.1f}" height="12"/>')
        parts.append(f'<text x="{length + 8:.1f}" y="{y + 14}">{value:g}</text>')
    return _figure(parts, what, step * len(items) + 8)


class _Axis:
    """An upright axis from a low to a high number, with round steps; whole ones where things are counted."""

    def __init__(self, low: float, high: float, bottom: float, top: float, *, whole: bool) -> None:
        self.step = _round_step((high - low) or 1.0)
        if whole:
            self.step = max(self.step, 1.0)
        self.low = floor(low / self.step) * self.step
        self.high = max(ceil(high / self.step) * self.step, self.low + self.step)
        self._bottom, self._top = bottom, top

    def at(self, value: float) -> float:
        return self._bottom - (self._bottom - self._top) * (value - self.low) / (self.high - self.low)

    def lines(self) -> str:
        steps = round((self.high - self.low) / self.step)
        values = [self.low + self.step * number for number in range(steps + 1)]
        return "".join(
            f'<line class="{"zero" if abs(value) < self.step / 2 else "grid"}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
            f'y1="{self.at(value):.1f}" y2="{self.at(value):.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{self.at(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
            for value in values
        )


def _round_step(span: float) -> float:
    """Return a step of 1, 2 or 5 with zeros that cuts a span in about four."""
    rough = span / 4
    power = 10.0 ** floor(log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _labels(names: Sequence[str], slot: float) -> list[str]:
    """Name the groups below, as many of them as there is room for."""
    every = max(ceil(len(names) * 66 / (_WIDTH - _LEFT - _RIGHT)), 1)
    return [
        f'<text x="{_LEFT + slot * (place + 0.5):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{escape(name)}</text>"
        for place, name in enumerate(names)
        if place % every == 0
    ]


def _figure(parts: Sequence[str], what: str, height: float) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(what)}">'
        f"<title>{escape(what)}</title>{''.join(parts)}</svg>"
    )
