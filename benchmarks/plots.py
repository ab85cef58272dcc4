"""Curves as SVG, written by hand: two logarithmic axes, a line and a colour for each name."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 860, 440
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 44, 290, 48
_COLOURS = (
    "#1b6ca8", "#d1495b", "#3c8d5a", "#8e5ea2", "#e08e2b", "#4d4d4d", "#17a2a2", "#b5651d",
    "#6f42c1", "#9aa627", "#c2185b", "#607d8b", "#2e7d32",
)  # fmt: skip
Curve = Sequence[tuple[float, float]]


def curves(title: str, x_label: str, y_label: str, lines: Mapping[str, Curve]) -> str:
    """Return a picture of ``lines``; points of 0 or less are left out."""
    points = [(x, y) for line in lines.values() for x, y in line if x > 0 and y > 0]
    across = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 22, title, size=15),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x_label, anchor="middle"),
        _text(_LEFT - 4, 38, y_label, anchor="start", colour="#555"),
    ]
    for value in across.ticks():
        x = across.place(value)
        parts.append(_line([(x, _TOP), (x, _HEIGHT - _BOTTOM)], "#e4e4e4"))
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, _number(value), anchor="middle"))
    for value in up.ticks():
        y = up.place(value)
        parts.append(_line([(_LEFT, y), (_WIDTH - _RIGHT, y)], "#e4e4e4"))
        parts.append(_text(_LEFT - 6, y + 4, _number(value), anchor="end"))
    for position, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[position % len(_COLOURS)]
        drawn = [(across.place(x), up.place(y)) for x, y in line if x > 0 and y > 0]
        parts.append(_line(drawn, colour, width=2))
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in drawn
        ]
        y = _TOP + 8 + 20 * position
        x = _WIDTH - _RIGHT + 16
        parts.append(_line([(x, y), (x + 18, y)], colour, width=2))
        parts.append(_text(x + 24, y + 4, name))
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """A logarithmic axis from ``start`` to ``end`` in pixels, of whole decades."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values, default=1)))
        self._high = max(math.ceil(math.log10(max(values, default=10))), self._low + 1)
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        part = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _line(points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 12,
    colour: str = "#222",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' fill="{colour}">{escape(text)}</text>'
    )
