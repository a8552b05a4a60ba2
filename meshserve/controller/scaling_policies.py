"""The policies of users, one for each deployment or application, for as long as it is named the same way.

Importing runs the user's code and may be slow: call this in a thread, never on the I/O thread.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshserve.core.scaling_policy import bind_policy
from meshserve.model.autoscaling import AutoscalingContext
from meshserve.model.ids import DeploymentId
from meshserve.rpc.import_path import import_from, import_object


@dataclass(frozen=True, slots=True)
class PolicyName:
    """Where a policy is found and what it is given.

    Attributes:
        kwargs_json: its keyword arguments, as JSON text with sorted keys.
        import_paths: folders to import it from, where they exist.
        pickled: the policy itself by cloudpickle as base64 text, when it cannot be imported; else empty.
    """

    function: str
    kwargs_json: str = "{}"
    import_paths: tuple[str, ...] = ()
    pickled: str = ""

    @staticmethod
    def of(function: str, kwargs: Mapping[str, Any], import_paths: tuple[str, ...], pickled: str = "") -> PolicyName:
        """The name of a policy with these arguments."""
        return PolicyName(function, json.dumps(dict(kwargs), sort_keys=True), import_paths, pickled)


def make_policy(name: PolicyName) -> Callable[..., Any]:
    """Imports and binds a policy.

    Raises:
        Exception: whatever importing user code or constructing a policy class raises.
    """
    import_from(name.import_paths)
    found = pickle.loads(base64.b64decode(name.pickled)) if name.pickled else import_object(name.function)
    return bind_policy(found, json.loads(name.kwargs_json))


def in_wall_time(policy: Callable[..., Any], ahead_s: float) -> Callable[..., Any]:
    """A policy that is told times since the epoch, as its author reads clocks, whatever the controller counts.

    Args:
        policy: of a deployment (told one context) or of an application (told many).
        ahead_s: how far the wall's clock is ahead of the controller's.
    """

    def ask(told: AutoscalingContext | Mapping[DeploymentId, AutoscalingContext]) -> Any:
        if isinstance(told, AutoscalingContext):
            return policy(told.shifted(ahead_s))
        return policy({deployment: context.shifted(ahead_s) for deployment, context in told.items()})

    return ask
