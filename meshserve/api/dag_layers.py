"""Where the boxes of a picture go: in layers, the ingress on top, whatever is needed below all that need it.

The usual way to draw a graph that has a direction (Sugiyama, Tagawa and Toda, 1981): a box's layer is its longest way
from the top; a line that passes layers gets a point in each of them; within a layer the order is by the average place
of the neighbours, a few times up and down, which takes out most crossings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from meshserve.api.dag_picture import Line, Picture

SWEEPS = 8
"""Times up and down; more change nothing in graphs of a size that can be read."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Boxes and points on lines, each a number: a box's index in the picture, then the points.

    Attributes:
        rows: the layers from top to bottom, each from left to right.
        paths: of each line of the picture, from the box that needs to the box that is needed.
    """

    rows: tuple[tuple[int, ...], ...]
    paths: tuple[tuple[int, ...], ...]


def layers_of(picture: Picture) -> Layers:
    """Arranges a picture's boxes and lines."""
    depths = _depths(len(picture.boxes), picture.lines)
    rows: list[list[int]] = [[] for _ in range(max(depths) + 1)]
    for box, depth in enumerate(depths):
        rows[depth].append(box)
    paths, points = [], len(picture.boxes)
    for line in picture.lines:
        between = range(depths[line.user] + 1, depths[line.needed])
        path = [line.user, *range(points, points + len(between)), line.needed]
        for point, depth in zip(path[1:-1], between, strict=True):
            rows[depth].append(point)
        points += len(between)
        paths.append(tuple(path))
    return Layers(_ordered(rows, paths), tuple(paths))


def _depths(boxes: int, lines: Sequence[Line]) -> list[int]:
    """The length of the longest way from the top to each box."""
    depths = [0] * boxes
    moved = True
    while moved:
        moved = False
        for line in lines:
            if depths[line.needed] <= depths[line.user]:
                depths[line.needed] = depths[line.user] + 1
                moved = True
    return depths


def _ordered(rows: list[list[int]], paths: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for path in paths:
        for upper, lower in pairwise(path):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    for _ in range(SWEEPS):
        for fixed, row in pairwise(rows):
            _sort(row, above, fixed)
        for fixed, row in pairwise(reversed(rows)):
            _sort(row, below, fixed)
    return tuple(map(tuple, rows))


def _sort(row: list[int], neighbours: Mapping[int, Sequence[int]], fixed: Sequence[int]) -> None:
    """Sorts a row by the average place of each one's neighbours in the row that stays; without any it keeps its own."""
    places = {one: place / max(1, len(fixed) - 1) for place, one in enumerate(fixed)}
    own = {one: place / max(1, len(row) - 1) for place, one in enumerate(row)}

    def wish(one: int) -> float:
        near = [places[other] for other in neighbours.get(one, ())]
        return sum(near) / len(near) if near else own[one]

    row.sort(key=wish)
