"""Results as one SVG chart for the README: what a second of CPU does, compared with beanstalkd."""

import math
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bench.errors import BenchError
from bench.results import Results, Row
from bench.servers import BASELINE

# The servers in the chart, with what the legend calls them.
_SERIES: Final = {"workq-compiled": "workq, compiled", "workq-pure": "workq, pure Python", "redis": "Redis lists"}

_WIDTH: Final = 880
_MARGIN: Final = 28
_PLOT_LEFT: Final = 340
_PLOT_RIGHT: Final = _WIDTH - 90
_PLOT_TOP: Final = 138
_LINE_HEIGHT: Final = 14
_ROW_GAP: Final = 12

# Colours for a light and for a dark page, by the class of what they colour.
_COLOURS: Final = {
    "page": ("#ffffff", "#0d1117"),
    "stripe": ("#f6f8fa", "#151b23"),
    "text": ("#1f2328", "#f0f6fc"),
    "faint": ("#59636e", "#9198a1"),
    "grid": ("#e4e8ec", "#262c36"),
    "base": ("#59636e", "#9198a1"),
    "workq-compiled": ("#0969da", "#58a6ff"),
    "workq-pure": ("#12a594", "#3ddbc0"),
    "redis": ("#8c959f", "#767e89"),
}


def draw(results: Results) -> str:
    """The chart of those scenarios that the baseline went through. Raises `BenchError` if there are none."""
    rows = [row for row in results.rows.values() if row.figures(BASELINE)]
    series = [server for server in _SERIES if any(row.figures(server) for row in rows)]
    if not series:
        raise BenchError(f"a chart needs {BASELINE} and something to compare with it")
    values = [gain for row in rows for server in series if (gain := _gain(row, server)) is not None]
    lowest = math.floor(math.log2(min(*values, 0.5)))
    highest = math.ceil(math.log2(max(*values, 2)))

    def x(value: float) -> float:
        share = (math.log2(value) - lowest) / (highest - lowest)
        return round(_PLOT_LEFT + share * (_PLOT_RIGHT - _PLOT_LEFT), 1)

    row_height = len(series) * _LINE_HEIGHT + _ROW_GAP
    bottom = _PLOT_TOP + len(rows) * row_height
    height = bottom + 76
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=str(_WIDTH),
        height=str(height),
        role="img",
    )
    SubElement(svg, "title").text = f"Commands per second of CPU time, compared with {BASELINE}"
    SubElement(svg, "style").text = _style()
    _rectangle(svg, "page", 0, 0, _WIDTH, height, radius=10)
    _text(svg, "text heading", _MARGIN, 44, "Commands per second of CPU time")
    _text(svg, "faint", _MARGIN, 66, f"As multiples of what {BASELINE} does: right of its line is better")
    _legend(svg, series)

    for index in range(0, len(rows), 2):
        _rectangle(svg, "stripe", _MARGIN - 12, _PLOT_TOP + index * row_height, _WIDTH - 2 * _MARGIN + 24, row_height)
    for exponent in range(lowest, highest + 1):
        at = x(2.0**exponent)
        _line(svg, "base" if exponent == 0 else "grid", at, _PLOT_TOP - 6, at, bottom)
        _text(svg, "faint small", at, bottom + 18, f"{2.0**exponent:g}×", anchor="middle")  # noqa: RUF001
    _text(svg, "faint small strong", x(1), _PLOT_TOP - 12, BASELINE, anchor="middle")
    for index, row in enumerate(rows):
        top = _PLOT_TOP + index * row_height
        middle = top + row_height / 2
        _text(svg, "text strong", _MARGIN, middle - 3, row.title)
        _text(svg, "faint small", _MARGIN, middle + 13, row.detail)
        for position, server in enumerate(series):
            y = top + _ROW_GAP / 2 + (position + 0.5) * _LINE_HEIGHT
            gain = _gain(row, server)
            if gain is None:
                continue
            _line(svg, f"stem {server}", x(1), y, x(gain), y)
            _mark(svg, server, x(gain), y)
            side, anchor = (10, "start") if gain >= 1 else (-10, "end")
            label = _text(svg, "text small strong", x(gain) + side, y + 4, _times(gain), anchor=anchor)
            rate = SubElement(label, "tspan", {"class": "faint regular", "dx": "6"})
            rate.text = f"{1000 / row.figures(server)['server_cpu_us'].median:,.0f}k/s"
    header = results.header
    _text(svg, "faint small", _MARGIN, height - 22, f"{header['machine']}, {header['system']}, {header['date']}")
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _gain(row: Row, server: str) -> float | None:
    """How much more than the baseline `server` does with the same CPU time."""
    ratio = row.ratio(server, BASELINE, "server_cpu_us")
    return 1 / ratio if ratio else None


def _times(value: float) -> str:
    text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"
    return f"{text}×"  # noqa: RUF001  # what readers expect


def _legend(svg: Element, series: Sequence[str]) -> None:
    at = float(_MARGIN)
    for server in series:
        _mark(svg, server, at + 6, 94)
        _text(svg, "text small", at + 18, 98, _SERIES[server])
        at += 40 + 6.6 * len(_SERIES[server])


def _style() -> str:
    light, dark = (
        "".join(
            f"line.{name}{{stroke:{colours[page]}}}" if name in ("grid", "base") else f".{name}{{fill:{colours[page]}}}"
            for name, colours in _COLOURS.items()
        )
        + "".join(f"line.{name}{{stroke:{_COLOURS[name][page]}}}" for name in _SERIES)
        for page in (0, 1)
    )
    return (
        "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:14px}"
        ".heading{font-size:21px;font-weight:600}.small{font-size:12px}.strong{font-weight:600}"
        ".regular{font-weight:400}line.stem{stroke-width:5;stroke-opacity:.4}line.redis{stroke-width:2}line.base{stroke-width:1.5}"
        f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
    )


def _text(svg: Element, kind: str, x: float, y: float, text: str, anchor: str = "start") -> Element:
    element = SubElement(svg, "text", {"class": kind, "x": str(x), "y": str(y), "text-anchor": anchor})
    element.text = text
    return element


def _line(svg: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    SubElement(svg, "line", {"class": kind, "x1": str(x1), "y1": str(y1), "x2": str(x2), "y2": str(y2)})


def _rectangle(svg: Element, kind: str, x: float, y: float, width: float, height: float, radius: float = 4) -> None:
    box = {"x": str(x), "y": str(y), "width": str(width), "height": str(height), "rx": str(radius)}
    SubElement(svg, "rect", {"class": kind, **box})


def _mark(svg: Element, server: str, x: float, y: float) -> None:
    """A shape of its own for each server: colours alone do not tell everybody."""
    if server == "redis":
        points = f"{x - 4.5},{y} {x},{y - 4.5} {x + 4.5},{y} {x},{y + 4.5}"
        SubElement(svg, "polygon", {"class": server, "points": points})
    elif server == "workq-pure":
        _rectangle(svg, server, x - 4, y - 4, 8, 8, radius=1)
    else:
        SubElement(svg, "circle", {"class": server, "cx": str(x), "cy": str(y), "r": "5"})
