"""Where the files of a declared application come from: a place that every node of the cluster reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_PACKED = ("https", "s3", "gs", "azure", "abfss", "file")
_SCHEMES = (*_PACKED, "gcs", "local")
_ARCHIVES = (".zip", ".whl", ".jar", ".tar.gz", ".tgz")


def check_runtime_env(runtime_env: Any) -> Any:
    """A runtime environment whose working directory and modules every node can fetch.

    Raises:
        ValueError: one of them is a folder of the machine that wrote the file.
    """
    if isinstance(runtime_env, Mapping):
        for uri in (*(runtime_env.get("py_modules") or ()), runtime_env.get("working_dir")):
            if uri is not None and not _is_remote(uri):
                raise ValueError(
                    "runtime_envs in a config file support only remote URIs in working_dir and py_modules "
                    f"({', '.join(f'{scheme}://' for scheme in _SCHEMES)}; archives end in {', '.join(_ARCHIVES)}), "
                    f"not {uri!r}. Modules on this machine are found by --app-dir."
                )
    return runtime_env


def _is_remote(uri: Any) -> bool:
    parts = urlsplit(str(uri))
    named = parts.path or parts.netloc  # a bucket alone may be named like an archive
    return parts.scheme in _SCHEMES and (parts.scheme not in _PACKED or named.endswith(_ARCHIVES))
