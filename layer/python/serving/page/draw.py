"""Plots as SVG. Their colours come from the page's style."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from serving.bundle.plots import Curve, Histogram

__all__ = ["bars", "histogram", "lines", "spark"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 230, 190, 38, 32


def lines(
    title: str, curves: Mapping[str, Curve], x_name: str, y_name: str, *, guide: bool = False
) -> str:
    """
    Draw curves in one plot.

    Args:
        title: What a screen reader says.
        curves: By name; several names are shown in a legend.
        x_name: Of the axis.
        y_name: Of the axis.
        guide: Whether the diagonal is drawn.
    """
    xs = [x for curve in curves.values() for x in curve.x]
    ys = [y for curve in curves.values() for y in curve.y]
    share = all(0 <= value <= 1 for value in (*xs, *ys))
    x_ends = (0.0, 1.0) if share else (min(xs), max(xs))
    y_ends = (0.0, 1.0) if share else (min(ys), max(ys))
    parts = _axes(x_ends, y_ends, x_name, y_name)
    if share:
        size = _HEIGHT - _BOTTOM - 8
        across = "".join(f"M{_LEFT} {8 + size * n / 4:g}H{_WIDTH - 8}" for n in (1, 2, 3))
        parts.insert(0, f'<path class="axis" d="{across}"/>')
        parts.append(_tick(8 + size // 2 + 4, "0.5"))
    if guide:
        low, high = max(x_ends[0], y_ends[0]), min(x_ends[1], y_ends[1])
        ends = Curve([low, high], [low, high])
        parts.append(f'<path class="guide" d="{_path(ends, x_ends, y_ends)}"/>')
    for i, (name, curve) in enumerate(curves.items()):
        parts.append(f'<path class="line l{i}" d="{_path(curve, x_ends, y_ends)}"/>')
        if len(curves) > 1:
            y = _HEIGHT - _BOTTOM - 6 - 14 * (len(curves) - 1 - i)
            parts.append(f'<path class="line l{i}" d="M{_WIDTH - 90} {y - 4}h20"/>')
            parts.append(f'<text x="{_WIDTH - 66}" y="{y}">{escape(_short(name, 10))}</text>')
    return _svg(title, _WIDTH, _HEIGHT, parts)


def histogram(title: str, found: Histogram, x_name: str) -> str:
    """Draw a histogram with its axis. A bar's area is the count."""
    ends = found.edges[0], found.edges[-1]
    parts = _axes(ends, None, x_name, "rows")
    parts += _columns(_areas(found), _LEFT, 8, _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - 8)
    return _svg(title, _WIDTH, _HEIGHT, parts)


def spark(title: str, found: Histogram | Mapping[str, int]) -> str:
    """Draw a small histogram without axes, of numbers or of categories."""
    if isinstance(found, Histogram):
        places = _areas(found)
    else:
        most, count = max(found.values()), len(found)
        places = [(i / count, 1 / count, n / most) for i, n in enumerate(found.values())]
    return _svg(title, 150, 35, _columns(places, 0, 2, 150, 32))


def bars(title: str, values: Mapping[str, float]) -> str:
    """Draw a horizontal bar for each of *values*."""
    most = max(map(abs, values.values())) or 1.0
    parts = []
    for i, (name, value) in enumerate(values.items()):
        y = 22 * i
        wide = abs(value) / most * 110
        parts.append(
            f'<text x="110" y="{y + 15}" text-anchor="end">{escape(_short(name, 18))}</text>'
            f'<rect class="{"bar" if value >= 0 else "down"}" x="116" y="{y + 3}" '
            f'width="{wide:.1f}" height="16" rx="2"/>'
            f'<text class="soft" x="{122 + wide:.1f}" y="{y + 15}">{value:.4f}</text>'
        )
    return _svg(title, 300, 22 * len(values), parts)


def _svg(title: str, width: int, height: int, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(
    x: tuple[float, float], y: tuple[float, float] | None, x_name: str, y_name: str
) -> list[str]:
    right, bottom = _WIDTH - 8, _HEIGHT - _BOTTOM
    parts = [
        f'<path class="axis" d="M{_LEFT} {bottom}H{right}M{_LEFT} 8V{bottom}"/>',
        f'<text class="soft" x="{_LEFT}" y="{bottom + 13}">{x[0]:.4g}</text>',
        f'<text class="soft" x="{right}" y="{bottom + 13}" text-anchor="end">{x[1]:.4g}</text>',
        _name(x_name, f"translate({(_LEFT + right) // 2} {bottom + 27})"),
        _name(y_name, f"translate(11 {bottom // 2 + 4}) rotate(-90)"),
    ]
    if y is not None:
        parts += [_tick(bottom, f"{y[0]:.3g}"), _tick(16, f"{y[1]:.3g}")]
    return parts


def _tick(y: int, text: str) -> str:
    return f'<text class="soft" x="{_LEFT - 4}" y="{y}" text-anchor="end">{text}</text>'


def _name(text: str, transform: str) -> str:
    middle = f'class="soft" transform="{transform}" text-anchor="middle"'
    return f"<text {middle}>{escape(text)}</text>"


def _path(curve: Curve, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> str:
    width, height = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - 8
    x_size = x_ends[1] - x_ends[0] or 1.0
    y_size = y_ends[1] - y_ends[0] or 1.0
    points = (
        f"{_LEFT + (x - x_ends[0]) / x_size * width:.0f} "
        f"{8 + (1 - (y - y_ends[0]) / y_size) * height:.0f}"
        for x, y in zip(curve.x, curve.y, strict=True)
    )
    return "M" + "L".join(points)


def _columns(
    places: list[tuple[float, float, float]], left: int, top: int, width: int, height: int
) -> list[str]:
    return [
        f'<rect class="bar" x="{left + x * width:.1f}" y="{top + (1 - y) * height:.1f}" '
        f'width="{max(0.5, w * width - 1):.1f}" height="{y * height:.1f}"/>'
        for x, w, y in places
    ]


def _areas(found: Histogram) -> list[tuple[float, float, float]]:
    """Return each bar's place, width and height, as shares of the whole."""
    low, size = found.edges[0], found.edges[-1] - found.edges[0] or 1.0
    widths = [(b - a) / size or 1.0 for a, b in zip(found.edges, found.edges[1:], strict=False)]
    heights = [count / width for count, width in zip(found.counts, widths, strict=True)]
    most = max(heights) or 1.0
    return [
        ((edge - low) / size, width, height / most)
        for edge, width, height in zip(found.edges, widths, heights, strict=False)
    ]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
