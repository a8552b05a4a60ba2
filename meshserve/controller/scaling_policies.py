"""The policies of users, imported once for as long as they are named the same way.

Importing runs the user's code and may be slow: call this in a thread, never on the I/O thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshserve.core.scaling_policy import bind_policy
from meshserve.rpc.import_path import import_from, import_object


@dataclass(frozen=True, slots=True)
class PolicyName:
    """Where a policy is found and what it is given.

    Attributes:
        kwargs_json: its keyword arguments, as JSON text with sorted keys.
        import_paths: folders to import it from, where they exist.
    """

    function: str
    kwargs_json: str
    import_paths: tuple[str, ...] = ()


def import_policy(name: PolicyName, kwargs: dict[str, Any]) -> Callable[..., Any]:
    """Imports and binds a policy.

    Raises:
        Exception: whatever importing user code or constructing a policy class raises.
    """
    import_from(name.import_paths)
    return bind_policy(import_object(name.function), kwargs)
