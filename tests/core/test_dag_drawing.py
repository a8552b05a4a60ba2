"""Drawings of applications: the text, the layers, the image, the command."""

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from meshserve import Application, deployment
from meshserve.api.dag_layers import layers_of
from meshserve.api.dag_picture import Box, BoxKind, Line, Picture, as_text, picture_of
from meshserve.api.dag_svg import as_svg
from meshserve.cli.main import main
from meshserve.dag import InputNode
from meshserve.drivers import DAGDriver

SVG = "{http://www.w3.org/2000/svg}"


@deployment(num_replicas=2)
class Model:
    def __init__(self, weight: int, store: Any = None) -> None:
        self.weight = weight

    def predict(self, value: Any, threshold: float = 0.0) -> Any:
        return value * self.weight


@deployment(autoscaling_config={"min_replicas": 1, "max_replicas": 4})
class Store:
    pass


@deployment
def prepare(image: Any) -> Any:
    return image


@deployment(name="a<b>")
def combine(*values: Any) -> Any:
    return values


def ensemble() -> Application:
    store = Store.bind()
    with InputNode() as inp:
        prepared = prepare.bind(inp["image"])
        first = Model.bind(1, store).predict.bind(prepared, threshold=inp.threshold)
        return combine.bind(first, [Model.bind(2, store=store).predict.bind(prepared)])


def test_the_text_is_a_tree_of_what_each_needs() -> None:
    app = DAGDriver.bind({"/ensemble": ensemble()})

    assert as_text(picture_of(app)).splitlines() == [
        "DAGDriver",
        "└── /ensemble = a<b>",
        "    ├── Model.predict (2 replicas)",
        "    │   ├── prepare",
        "    │   │   └── input['image']",
        "    │   ├── threshold = input.threshold",
        "    │   └── Store (1 to 4 replicas)",
        "    └── Model_1.predict (2 replicas)",
        "        ├── prepare (see above)",
        "        └── store = Store (1 to 4 replicas)",
    ]


def test_an_application_without_a_graph_is_drawn_by_its_handles() -> None:
    @deployment
    class Ingress:
        def __init__(self, *parts: Any, **named: Any) -> None: ...

    assert as_text(picture_of(Ingress.bind([Model.bind(1)], store=Store.bind()))).splitlines() == [
        "Ingress",
        "├── Model (2 replicas)",
        "└── store = Store (1 to 4 replicas)",
    ]


def test_a_graph_without_a_driver_is_drawn_with_its_ingress() -> None:
    assert as_text(picture_of(ensemble())).splitlines()[0] == "GraphIngress"


def test_the_image_is_valid_and_shows_every_box_and_label() -> None:
    picture = picture_of(DAGDriver.bind({"/ensemble": ensemble()}))

    root = ElementTree.fromstring(as_svg(picture))

    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert sorted(filter(None, texts)) == sorted(
        [
            *(box.title for box in picture.boxes),
            *(box.note for box in picture.boxes if box.note),
            *(line.label for line in picture.lines if line.label),
        ]
    )
    classes = [element.get("class", "") for element in root.iter()]
    assert classes.count("line") + classes.count("line handle") == len(picture.lines)
    assert classes.count("line handle") == 2  # the two that hold the store


def boxes_in(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each."""
    found = []
    for element in root.iter(f"{SVG}rect"):
        if element.get("class", "").startswith("box"):
            x, y, width, height = (float(element.get(name, "")) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def graphs() -> st.SearchStrategy[Picture]:
    """Pictures in which every box but the first is needed by an earlier one."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> Picture:
        count = draw(st.integers(1, 12))
        pairs = [(draw(st.integers(0, needed - 1)), needed) for needed in range(1, count)]
        pairs += [
            (first, second)
            for first, second in draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))))
            if first < second
        ]
        boxes = tuple(Box("x" * draw(st.integers(1, 30)), "", BoxKind.CALL) for _ in range(count))
        return Picture(boxes, tuple(Line(user, needed, "", True) for user, needed in pairs))

    return draw_one()


@given(graphs())
def test_whatever_is_needed_lies_below_and_no_two_boxes_overlap(picture: Picture) -> None:
    layers = layers_of(picture)
    depth_of = {one: depth for depth, row in enumerate(layers.rows) for one in row}

    for line, path in zip(picture.lines, layers.paths, strict=True):
        assert depth_of[line.user] < depth_of[line.needed]
        assert [depth_of[one] for one in path] == list(range(depth_of[line.user], depth_of[line.needed] + 1))
    drawn = boxes_in(ElementTree.fromstring(as_svg(picture)))
    assert len(drawn) == len(picture.boxes)
    for index, (left, top, right, bottom) in enumerate(drawn):
        for other_left, other_top, other_right, other_bottom in drawn[:index]:
            assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top


@given(graphs())
def test_every_box_is_in_the_text_and_shown_in_full_once(picture: Picture) -> None:
    rows = as_text(picture).splitlines()

    assert len(rows) == 1 + len(picture.lines)


def test_lines_that_need_not_cross_do_not() -> None:
    boxes = tuple(Box(name, "", BoxKind.CALL) for name in "rabcd")
    pairs = [(0, 1), (0, 2), (2, 3), (1, 4)]  # c below b, d below a, but found in the other order

    layers = layers_of(Picture(boxes, tuple(Line(user, needed, "", True) for user, needed in pairs)))

    assert layers.rows in (((0,), (1, 2), (4, 3)), ((0,), (2, 1), (3, 4)))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "drawn_app.py").write_text(
        "import meshserve as serve\n"
        "from meshserve.dag import InputNode\n"
        "@serve.deployment\n"
        "def greet(name): return name\n"
        "with InputNode() as inp: app = greet.bind(inp)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_the_command_prints_a_text_or_writes_a_file(module: Path) -> None:
    command = ["graph", "drawn_app:app", "--app-dir", str(module)]
    file = module / "drawn.svg"

    printed = CliRunner().invoke(main, command)
    written = CliRunner().invoke(main, [*command, "-o", str(file)])
    image = CliRunner().invoke(main, [*command, "--format", "svg"])

    assert printed.output == "GraphIngress\n└── greet\n    └── input\n"
    assert written.output == f"Written to {file}.\n"
    assert ElementTree.fromstring(file.read_text()).tag == f"{SVG}svg"
    assert image.output.strip() == file.read_text().strip()


def test_the_command_says_what_is_wrong(module: Path) -> None:
    missing = CliRunner().invoke(main, ["graph", "drawn_app:nothing", "--app-dir", str(module)])
    image = CliRunner().invoke(main, ["graph", "drawn_app:app", "-o", "drawn.png", "--app-dir", str(module)])

    assert missing.exit_code == 1 and "drawn_app:nothing cannot be drawn" in missing.output
    assert image.exit_code == 2 and "name the file .svg" in image.output
