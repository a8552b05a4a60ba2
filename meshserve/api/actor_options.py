"""What a replica's process asks of the cluster: resources, runtime environment, placement group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from meshserve.api.checks import json_value, mapping, number

_ALLOWED = (
    "accelerator_type",
    "memory",
    "num_cpus",
    "num_gpus",
    "resources",
    "runtime_env",
    "label_selector",
    "fallback_strategy",
)
_BUNDLES = 'Bundles must be a non-empty list of resource dictionaries. For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'
_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def checked_actor_options(value: Any) -> dict[str, Any]:
    """`ray_actor_options` with its default, one CPU.

    Raises:
        TypeError: it is not a dict, or an entry is of the wrong type.
        ValueError: there is no such entry, or one is out of its range.
    """
    options = mapping("ray_actor_options", value if value is not None else {})
    unknown = sorted(set(options) - set(_ALLOWED))
    if unknown:
        allowed = ", ".join(_ALLOWED)
        raise ValueError(f"Specifying {unknown[0]!r} in ray_actor_options is not allowed. Allowed options: {allowed}.")
    for name in ("memory", "num_cpus", "num_gpus"):
        if options.get(name) is not None:
            number(f"ray_actor_options[{name!r}]", options[name], least=0)
    for name in ("resources", "runtime_env", "label_selector"):
        if options.get(name) is not None:
            options[name] = mapping(f"ray_actor_options[{name!r}]", options[name])
    for name, amount in (options.get("resources") or {}).items():
        if name in ("CPU", "GPU", "memory"):
            raise ValueError(f"ray_actor_options['resources'] cannot hold {name!r}: it has an entry of its own.")
        number(f"ray_actor_options['resources'][{name!r}]", amount, least=0)
    plain = {name: entry for name, entry in options.items() if entry is not None}
    json_value("ray_actor_options", plain)
    return {"num_cpus": 1, **plain}


def checked_bundles(value: Any) -> tuple[Mapping[str, float], ...]:
    """`placement_group_bundles`; raises as `checked_actor_options`."""
    bundles = _list("placement_group_bundles", value)
    if value is not None and not bundles:
        raise ValueError(f"{_BUNDLES} Got an empty list instead.")
    for bundle in bundles:
        if not bundle or not any(bundle.values()):
            raise ValueError(
                f"Bundles cannot be an empty dictionary or resources with only 0 values. Bundles: {list(bundles)}"
            )
        for name, amount in bundle.items():
            if isinstance(amount, bool) or not isinstance(amount, Real):
                raise ValueError(f"{_BUNDLES} Got {amount!r} as {name}.")
            number(f"placement_group_bundles: {name}", amount, least=0)
    return bundles


def checked_strategy(value: Any) -> str:
    """`placement_group_strategy`; raises ValueError."""
    if value is None:
        return "PACK"
    if value not in _STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {value}. Supported strategies are: {', '.join(_STRATEGIES)}."
        )
    return str(value)


def checked_selector(value: Any) -> tuple[Mapping[str, str], ...]:
    """`placement_group_bundle_label_selector`; raises as `checked_actor_options`."""
    return _list("placement_group_bundle_label_selector", value)


def _list(name: str, value: Any) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a list of dicts, not {value!r}.")
    return tuple(mapping(name, entry) for entry in value)


def check_fit(actor: Mapping[str, Any], bundles: Sequence[Mapping[str, float]]) -> None:
    """The replica runs in the first bundle: what it asks for must be there.

    Raises:
        ValueError: it is not.
    """
    wanted = {"CPU": actor.get("num_cpus", 0), "GPU": actor.get("num_gpus", 0), **(actor.get("resources") or {})}
    asked = {name: name for name in wanted} | {"CPU": "num_cpus", "GPU": "num_gpus"}
    for name, amount in wanted.items():
        if amount > bundles[0].get(name, 0):
            raise ValueError(
                "The replica is placed in the first of placement_group_bundles, so the resource requirements for the "
                "actor must be a subset of the first bundle. "
                f"`{asked[name]}` for the actor is {amount:g}, but the bundle only has {bundles[0].get(name, 0):g} "
                f"`{name}` specified."
            )
