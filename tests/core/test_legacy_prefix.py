"""The route prefix as an option of a deployment, as older releases had it."""

import subprocess
import sys
from typing import Any

import pytest

from meshserve import deployment
from meshserve.api.graph import Run, build


class Model:
    def __init__(self, *parts: Any) -> None: ...


def test_the_ingress_says_where_unless_whoever_runs_it_does() -> None:
    app = deployment(route_prefix="/old")(Model).bind()

    assert build(app, Run("app")).route_prefix == "/old"
    assert build(app, Run("app", "/new")).route_prefix == "/new"
    assert build(app, Run("app", None)).route_prefix is None
    assert build(deployment(Model).options(route_prefix=None).bind(), Run("app")).route_prefix is None
    assert build(deployment(Model).bind(), Run("app")).route_prefix == "/"


def test_it_is_checked_like_any_prefix() -> None:
    with pytest.raises(ValueError, match="must start with a forward slash"):
        build(deployment(route_prefix="old")(Model).bind(), Run("app"))


def test_only_the_ingress_has_one() -> None:
    inner = deployment(name="Inner", route_prefix="/inner")(Model).bind()

    with pytest.raises(ValueError, match=r"Only the ingress .* Inner has one too"):
        build(deployment(Model).bind(inner), Run("app"))
    without = deployment(name="Inner", route_prefix=None)(Model).bind()
    assert build(deployment(Model).bind(without), Run("app")).route_prefix == "/"


def test_it_warns_once_in_a_process_and_names_the_replacement() -> None:
    program = (
        "import warnings, meshserve as serve\n"
        "warnings.simplefilter('always')\n"
        "for name in 'ab': serve.deployment(name=name, route_prefix='/' + name)(lambda: None)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr.count("DeprecationWarning") == 1
    assert "<string>:3" in done.stderr and "run(app, route_prefix=...)" in done.stderr
