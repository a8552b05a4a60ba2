"""Builds the clients: each language with its own tools, versions pinned by its own lock file.

Sources are copied to `.clients/` at the top of the repository, which git ignores, and built there, so that nothing
generated or downloaded gets among the tracked files. What is built stays until its sources change.

A tool that is missing skips its tests; with MESHSERVE_TEST_CLIENTS=all, as in CI, it fails them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import google.rpc
import pytest

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".clients"
_PROTOS = _HERE.parent / "wire"
_PROTO = "rpcs/v1/shapes.proto"
_GOOGLE_PROTOS = Path(next(iter(google.rpc.__path__))).parents[1]


@dataclass(frozen=True)
class Build:
    """How a client comes to be.

    Attributes:
        tools: commands that have to be there.
        build: builds it in a folder that holds its sources.
        command: starts it, given that folder.
    """

    tools: tuple[str, ...]
    build: Callable[[Path], None]
    command: Callable[[Path], list[str]]


def built(name: str) -> list[str]:
    """The command that starts a client, which is built when it has to be.

    Args:
        name: of `BUILDS` or `TOOLS`, and of a folder beside this file.
    """
    build = (BUILDS | TOOLS)[name]
    if missing := [tool for tool in build.tools if shutil.which(tool) is None]:
        without(f"{name}: not installed: {', '.join(missing)}")
    folder, stamp = _CACHE / name, _CACHE / f"{name}.built"
    wanted = _digest(name)
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        shutil.copytree(_HERE / name, folder, dirs_exist_ok=True)
        build.build(folder)
        stamp.write_text(wanted)
    return build.command(folder)


def installed(tool: str) -> str:
    """A command that the system has to have."""
    return shutil.which(tool) or without(f"{tool} is not installed")


def without(problem: str) -> NoReturn:
    """Skips a test that cannot run on this machine, or fails it where all have to."""
    if os.environ.get("MESHSERVE_TEST_CLIENTS") == "all":
        pytest.fail(f"{problem}, and MESHSERVE_TEST_CLIENTS=all insists", pytrace=False)
    pytest.skip(problem)


def _digest(name: str) -> str:
    """Changes with everything that a build depends on."""
    digest = hashlib.sha256()
    sources = sorted(path for path in (_HERE / name).rglob("*") if path.is_file())
    for path in (Path(__file__), _PROTOS / _PROTO, *sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(folder: Path, *command: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(command)} failed in {folder}\n{done.stdout}\n{done.stderr}"


def _go(folder: Path) -> None:
    plugins = folder / "plugins"
    _run(folder, "go", "install", "tool", GOBIN=str(plugins))
    (folder / "shapes").mkdir(exist_ok=True)
    module = "meshserve.dev/tests/clients"
    options = f"module={module},M{_PROTO}={module}/shapes"
    output = [f"--{plugin}_{word}" for plugin in ("go", "go-grpc") for word in (f"out={folder}", f"opt={options}")]
    paths = os.pathsep.join((str(plugins), os.environ["PATH"]))
    _run(folder, sys.executable, "-m", "grpc_tools.protoc", f"-I{_PROTOS}", *output, _PROTO, PATH=paths)
    _run(folder, "go", "build", "-o", "client", ".")


def _java(folder: Path) -> None:
    _run(folder, "mvn", "--batch-mode", "--quiet", "process-classes", f"-Dprotos={_PROTOS}")


def _node(folder: Path) -> None:
    _run(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def _rust(folder: Path) -> None:
    # tonic's generator wants a `protoc`, and the one that is there is a Python module.
    protoc = folder / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    _run(folder, "cargo", "build", "--locked", "--quiet", PROTOC=str(protoc), PROTOS=str(_PROTOS))


def _go_tool(folder: Path) -> None:
    _run(folder, "go", "install", "tool", GOBIN=str(folder))


def _triton(folder: Path) -> None:
    _run(folder, sys.executable, "-m", "venv", "environment")
    _run(folder, "environment/bin/pip", "install", "--quiet", "--no-deps", "--requirement", "requirements.txt")


BUILDS = {
    "go": Build(("go",), _go, lambda folder: [str(folder / "client")]),
    "java": Build(
        ("mvn", "java", "javac"),
        _java,
        lambda folder: [
            *("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
            *("-cp", f"{folder}/target/classes:{folder}/target/dependency/*", "Client"),
        ],
    ),
    "node": Build(
        ("node", "npm"),
        _node,
        lambda folder: ["env", f"PROTOS={_PROTOS}", f"GOOGLE_PROTOS={_GOOGLE_PROTOS}", "node", f"{folder}/client.js"],
    ),
    "rust": Build(("cargo", "cc"), _rust, lambda folder: [str(folder / "target" / "debug" / "client")]),
}
"""Clients, by language."""

TOOLS = {
    "grpcurl": Build(("go",), _go_tool, lambda folder: [str(folder / "grpcurl")]),
    "ghz": Build(("go",), _go_tool, lambda folder: [str(folder / "ghz")]),
    "grpc_health_probe": Build(("go",), _go_tool, lambda folder: [str(folder / "grpc-health-probe")]),
    "triton": Build((), _triton, lambda folder: [f"{folder}/environment/bin/python", f"{folder}/client.py"]),
}
"""Tools that the system does not bring."""
