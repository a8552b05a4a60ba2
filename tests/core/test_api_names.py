"""Names under which ported programs find what is public."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

import meshserve
from meshserve.user.context import current_replica


def test_public_names_are_found_in_the_api_module_too():
    from meshserve.api import get_replica_context, shutdown

    assert get_replica_context is meshserve.get_replica_context and shutdown is meshserve.shutdown


def test_public_modules_are_there_without_being_imported():
    program = "import meshserve as serve; print(serve.context.get_replica_context, serve.gang.GangContext)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "GangContext" in done.stdout, done.stderr
    assert all(find_spec(f"meshserve.{name}") is not None for name in meshserve._MODULES)


def test_the_decorator_keeps_its_name_when_the_module_of_that_name_is_imported():
    program = (
        "from meshserve.deployment import Application, Deployment; import meshserve as serve\n"
        "made = serve.deployment('named')(len); print(made, isinstance(made, Deployment))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "Deployment(name=named) True\n", done.stderr


def test_what_is_not_public_is_not_found_there():
    with pytest.raises(ImportError, match="nothing_of_ours"):
        from meshserve.api import nothing_of_ours  # noqa: F401


def test_every_public_name_is_there():
    assert all(getattr(meshserve, name) is not None for name in meshserve.__all__)


def test_what_ported_code_asks_of_its_context_by_private_names():
    from meshserve.context import _get_internal_replica_context, _get_serve_request_context

    assert _get_internal_replica_context is current_replica
    assert (_get_serve_request_context().request_id, _get_serve_request_context().app_name) == ("", "")
