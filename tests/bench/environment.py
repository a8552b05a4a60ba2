"""What must be on the machine before a target can run: virtual environments and a few Debian packages.

Environments are cached under `.bench/` and rebuilt when what they were built from changes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from bench.target import Target

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".bench"


class SetupError(Exception):
    """Something could not be installed; the message says what and shows the installer's last words."""


def cache_directory(name: str) -> Path:
    """A directory under `.bench/`, which keeps itself out of git."""
    directory = CACHE / name
    directory.mkdir(parents=True, exist_ok=True)
    ignore = CACHE / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return directory


def python_for(target: Target) -> Path:
    """The interpreter of the target's environment, installed first where that is needed."""
    directory = cache_directory(target.venv)
    python = directory / "bin" / "python"
    stamp = directory / "built-from"
    wanted = _fingerprint(target)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    stamp.unlink(missing_ok=True)
    venv.create(directory, with_pip=True, symlinks=True)
    requirements = [item.format(repository=REPOSITORY) for item in target.requirements]
    _install([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    stamp.write_text(wanted)
    return python


def ensure_programs(programs: Mapping[str, str]) -> None:
    """Installs the Debian packages of those programs that are missing."""
    packages = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if not packages:
        return
    apt = ["apt-get"] if os.geteuid() == 0 else ["sudo", "-n", "apt-get"]
    _install([*apt, "update", "-qq"])
    _install([*apt, "install", "-y", "-qq", "--no-install-recommends", *packages])


def _fingerprint(target: Target) -> str:
    """What the environment depends on: the interpreter, the requirements and, for our own package, its metadata."""
    parts = [sys.version, *target.requirements]
    metadata = REPOSITORY / "pyproject.toml"
    if "-e" in target.requirements and metadata.exists():
        parts.append(metadata.read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _install(command: list[str]) -> None:
    print("installing:", " ".join(command), file=sys.stderr)
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SetupError(f"{' '.join(command)} failed: {' | '.join(done.stdout.strip().splitlines()[-3:])}")
