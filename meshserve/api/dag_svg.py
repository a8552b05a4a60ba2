"""A picture as SVG, without any program but this one.

A solid line is a result on its way up, a dashed one a handle that calls down.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from meshserve.api.dag_layers import Layers, layers_of
from meshserve.api.dag_picture import Box, BoxKind, Line, Picture

CHARACTER, BOX_HEIGHT, NOTED_HEIGHT, GAP, ROW_GAP, MARGIN = 7.8, 34, 48, 28, 62, 24
"""Sizes in SVG's units: of a character of 13 px monospace, of boxes without and with a note, of what is between."""

Point = tuple[float, float]

_STYLE = """
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1b2733; text-anchor: middle; }
.note, .label { font-size: 11px; fill: #51606f; }
.label { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
.box { stroke-width: 1.4; }
.deployment { fill: #e8eefc; stroke: #3f63c8; }
.call { fill: #e9f6ec; stroke: #3a8a52; }
.input { fill: #fdf3dc; stroke: #b5852a; }
.line { fill: none; stroke: #6b7a89; stroke-width: 1.4; }
.handle { stroke-dasharray: 5 4; }
"""

_TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
    '<path d="M0 0 L8 4 L0 8 z" fill="#6b7a89"/></marker>'
)


def as_svg(picture: Picture) -> str:
    """The picture as an SVG document."""
    layers = layers_of(picture)
    centers, width, height = _placed(picture, layers)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<style>{_STYLE}</style><defs>{_TIP}</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    lines = list(zip(picture.lines, layers.paths, strict=True))
    ways = [_ends([centers[one] for one in path], line, picture.boxes) for line, path in lines]
    parts += [_line(line, way) for line, way in zip(picture.lines, ways, strict=True)]
    parts += [_label(line, way) for line, way in zip(picture.lines, ways, strict=True) if line.label]
    parts += [_box(box, centers[index]) for index, box in enumerate(picture.boxes)]
    return "\n".join([*parts, "</svg>", ""])


def _width(picture: Picture, one: int) -> float:
    """Of a box, or of a point on a line."""
    if one >= len(picture.boxes):
        return GAP / 2
    return _box_width(picture.boxes[one])


def _box_width(box: Box) -> float:
    return max(70.0, 24 + CHARACTER * max(len(box.title), 0.85 * len(box.note)))


def _placed(picture: Picture, layers: Layers) -> tuple[dict[int, Point], float, float]:
    """The center of everything, and the size of the whole."""
    widths = [sum(_width(picture, one) + GAP for one in row) - GAP for row in layers.rows]
    whole = max(widths)
    centers: dict[int, Point] = {}
    for depth, (row, width) in enumerate(zip(layers.rows, widths, strict=True)):
        left = MARGIN + (whole - width) / 2
        y = MARGIN + NOTED_HEIGHT / 2 + depth * (NOTED_HEIGHT + ROW_GAP)
        for one in row:
            own = _width(picture, one)
            centers[one] = left + own / 2, y
            left += own + GAP
    height = 2 * MARGIN + len(layers.rows) * (NOTED_HEIGHT + ROW_GAP) - ROW_GAP
    return centers, whole + 2 * MARGIN, height


def _height(box: Box) -> int:
    return NOTED_HEIGHT if box.note else BOX_HEIGHT


def _box(box: Box, center: Point) -> str:
    x, y = center
    width, height = _box_width(box), _height(box)
    radius = 3 if box.kind is BoxKind.DEPLOYMENT else height / 2
    title_y = y + 4.5 - (8 if box.note else 0)
    note = f'<text class="note" x="{x:.1f}" y="{y + 13:.1f}">{escape(box.note)}</text>' if box.note else ""
    return (
        f'<rect class="box {box.kind.value}" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" '
        f'height="{height}" rx="{radius}"/><text x="{x:.1f}" y="{title_y:.1f}">{escape(box.title)}</text>{note}'
    )


def _ends(points: Sequence[Point], line: Line, boxes: Sequence[Box]) -> list[Point]:
    """The points of a line, its ends moved from the centers of boxes to their edges."""
    (first_x, first_y), *between, (last_x, last_y) = points
    start = first_x, first_y + _height(boxes[line.user]) / 2 + 2
    end = last_x, last_y - _height(boxes[line.needed]) / 2 - 2
    return [start, *between, end]


def _line(line: Line, points: Sequence[Point]) -> str:
    x, y = points[0]
    way = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in points[1:]:
        middle = (y + to_y) / 2
        way += f" C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    tip = 'marker-start="url(#tip)"' if line.is_result else 'marker-end="url(#tip)"'
    return f'<path class="line{"" if line.is_result else " handle"}" d="{way}" {tip}/>'


def _label(line: Line, points: Sequence[Point]) -> str:
    x, y = (points[0][0] + points[1][0]) / 2, points[0][1] + ROW_GAP / 2
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(line.label)}</text>'
