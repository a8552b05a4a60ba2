"""What the controller asks of whoever understands configuration files.

What a file means is known where options are defined, in the Python API, which is no part of the controller: its
implementation is named in the controller's boot data and found by that name.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from meshserve.model.control import ApplicationSpec, Build, Declared
from meshserve.model.declared import Declaration


class Declarations(Protocol):
    """Understands configuration files. Nothing here imports the user's modules."""

    @property
    def build_entry(self) -> str:
        """Import path of the function that builds an application, from a BuildRequest to a BuildResponse."""

    def read(self, config_json: str, import_paths: Sequence[str], revision: str) -> Declared:
        """A file. Takes a while, the first time.

        Args:
            config_json: its content.
            import_paths: folders to import from, where they exist.
            revision: names the state of the modules in them; with another one applications are built again.

        Raises:
            ValueError: it is not valid; says what is wrong, and where.
        """

    def runtime_env(self, declaration: Declaration) -> dict[str, object]:
        """The environment that an application is built in."""

    def merge(self, build: Build, declaration: Declaration) -> ApplicationSpec:
        """An application that was built, with what the file says in place of the code's.

        Raises:
            ValueError: the file does not fit the application.
        """


class NamedDeclarations:
    """The implementation that the boot data name. Its module is imported when a file comes: most meshes see none.

    Args:
        path: of the module.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def build_entry(self) -> str:
        """See `Declarations`."""
        return self._module.build_entry

    def read(self, config_json: str, import_paths: Sequence[str], revision: str) -> Declared:
        """See `Declarations`."""
        return self._module.read(config_json, import_paths, revision)

    def runtime_env(self, declaration: Declaration) -> dict[str, object]:
        """See `Declarations`."""
        return self._module.runtime_env(declaration)

    def merge(self, build: Build, declaration: Declaration) -> ApplicationSpec:
        """See `Declarations`."""
        return self._module.merge(build, declaration)

    @property
    def _module(self) -> Declarations:
        module: Any = importlib.import_module(self._path)
        found: Declarations = module
        return found
