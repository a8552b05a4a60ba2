"""One deployment in a configuration file: options that stand in place of those in the code.

Each option is checked by the reader that checks it in Python (`options.READERS`), so that a file and a decorator accept
the same values. What was not written is `DEFAULT.VALUE`, and `model_dump(exclude_unset=True)` gives what was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StrictInt, field_validator, model_validator

from meshserve.api.autoscaling_config import AutoscalingConfig, automatic
from meshserve.api.checks import config, plain_config
from meshserve.api.default import DEFAULT
from meshserve.api.deployment_actors import DeploymentActorConfig
from meshserve.api.gang_config import EXCLUDES_PER_NODE, EXCLUDES_STRATEGY, GangSchedulingConfig, not_whole
from meshserve.api.options import AUTO, READERS
from meshserve.api.remote_uris import check_runtime_env
from meshserve.api.router_config import BackpressureConfig, RequestRouterConfig
from meshserve.api.schema_logging import LoggingConfig

UNSET: Any = DEFAULT.VALUE

DictFirst = Field(union_mode="left_to_right")
"""Of a dict and a class: a dict stays one. Trying the class would import what it names."""


class RayActorOptionsSchema(BaseModel):
    """What each replica asks of the cluster."""

    runtime_env: dict[str, Any] = Field(default={}, description="The environment replicas run in, in Ray's terms.")
    num_cpus: float | None = Field(default=None, ge=0, description="CPUs of a replica; null for one.")
    num_gpus: float | None = Field(default=None, ge=0, description="GPUs of a replica.")
    memory: float | None = Field(default=None, ge=0, description="Memory of a replica in bytes.")
    resources: dict[str, Any] = Field(default={}, description="Custom resources of a replica, by name.")
    accelerator_type: str | None = Field(default=None, description="The accelerator a replica's node must have.")
    label_selector: dict[str, str] | None = Field(default=None, description="Labels a replica's node must have.")
    fallback_strategy: list[dict[str, Any]] | None = Field(
        default=None, description="What to ask for instead when no node fits."
    )

    _uris = field_validator("runtime_env")(check_runtime_env)


class DeploymentSchema(BaseModel):
    """Options of one deployment; those left out are the code's."""

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    name: str = Field(description="The deployment's name in the application.")
    num_replicas: PositiveInt | str | None = Field(default=UNSET, description='How many replicas, or "auto".')
    max_ongoing_requests: int = Field(default=UNSET, gt=0, description="Calls a replica accepts at a time.")
    max_queued_requests: StrictInt = Field(
        default=UNSET, description="Calls that may wait in each caller for a replica; -1 for no limit."
    )
    backpressure_config: Annotated[dict[str, Any] | BackpressureConfig, DictFirst] = Field(
        default=UNSET, description="How a full queue is answered over HTTP: status_code, retry_after_s."
    )
    user_config: Any = Field(default=UNSET, description="Given to the method reconfigure, also while replicas run.")
    autoscaling_config: Annotated[dict[str, Any] | AutoscalingConfig | None, DictFirst] = Field(
        default=UNSET, description="When to change the number of replicas; null for never."
    )
    graceful_shutdown_wait_loop_s: float = Field(
        default=UNSET, ge=0, description="How long a replica that is to end waits for calls, and waits again."
    )
    graceful_shutdown_timeout_s: float = Field(default=UNSET, ge=0, description="After this time it is killed.")
    health_check_period_s: float = Field(default=UNSET, gt=0, description="How often a replica's health is checked.")
    health_check_timeout_s: float = Field(default=UNSET, gt=0, description="How long an answer may take.")
    ray_actor_options: RayActorOptionsSchema = Field(
        default=UNSET, description="What each replica asks of the cluster; replaces all of the code's."
    )
    placement_group_bundles: list[dict[str, float]] = Field(
        default=UNSET, description="Resources reserved for each replica, which runs in the first bundle."
    )
    placement_group_strategy: str = Field(default=UNSET, description="PACK, SPREAD, STRICT_PACK or STRICT_SPREAD.")
    placement_group_bundle_label_selector: list[dict[str, str]] = Field(
        default=UNSET, description="Labels of the nodes for the bundles; one for all, or one for each."
    )
    max_replicas_per_node: int = Field(default=UNSET, description="At most so many replicas on a node, 1 to 100.")
    logging_config: LoggingConfig = Field(default=UNSET, description="Logging of the deployment.")
    request_router_config: Annotated[dict[str, Any] | RequestRouterConfig, DictFirst] = Field(
        default=UNSET, description="Which policy picks replicas."
    )
    gang_scheduling_config: GangSchedulingConfig | None = Field(
        default=UNSET, description="Replicas that start and end together; num_replicas is a multiple of its gang_size."
    )
    deployment_actors: list[Annotated[dict[str, Any] | DeploymentActorConfig, DictFirst]] | None = Field(
        default=UNSET, description="Actors that the replicas share; in place of all of the code's."
    )
    rolling_update_percentage: float = Field(
        default=UNSET, gt=0, le=1, description="The share of the replicas that an update replaces at a time."
    )
    max_surge_percent: int = Field(
        default=UNSET, ge=0, le=100, description="How many replicas more than wanted an update may start, in percent."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_number_of_replicas(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        count, autoscaling = values.get("num_replicas"), values.get("autoscaling_config")
        if isinstance(count, int) and autoscaling not in (None, DEFAULT.VALUE):
            raise ValueError("Manually setting num_replicas is not allowed when autoscaling_config is provided.")
        if isinstance(count, str) and count != AUTO:
            raise ValueError(f'`num_replicas` must be an int or "auto", but got: {count}')
        return values

    @field_validator("gang_scheduling_config", mode="before")
    @classmethod
    def _as_gangs(cls, value: Any) -> Any:
        if value is None or value is DEFAULT.VALUE:
            return value
        try:
            return config("gang_scheduling_config", value, GangSchedulingConfig)
        except (TypeError, NotImplementedError) as error:
            raise ValueError(str(error)) from error  # pydantic takes ValueErrors only

    @field_validator("*", mode="after")
    @classmethod
    def _as_in_python(cls, value: Any, info: Any) -> Any:
        """The reader of the option accepts it, if it reads anything."""
        if info.field_name == "name" or value is DEFAULT.VALUE or value == AUTO:
            return value
        if info.field_name not in READERS:
            if value is None:
                return value
            raise ValueError("meshserve does not have this option; leave it out.")
        if info.field_name == "autoscaling_config" and info.data.get("num_replicas") == AUTO:
            automatic(_written("autoscaling_config", value))
        elif info.field_name != "request_router_config":  # its class is imported where the application is built
            _read(info.field_name, value)
        return value

    @model_validator(mode="after")
    def _placement(self) -> DeploymentSchema:
        bundles, selector = self.placement_group_bundles, self.placement_group_bundle_label_selector
        if _is_given(self.max_replicas_per_node) and _is_given(bundles):
            raise ValueError("Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
        if _is_given(selector):
            if not _is_given(bundles):
                raise ValueError(
                    "Setting bundle_label_selector is not allowed when placement_group_bundles is not provided."
                )
            if len(selector) not in (1, len(bundles)):
                raise ValueError(
                    "The `placement_group_bundle_label_selector` list must contain either a single selector (to apply "
                    "to all bundles) or match the number of `placement_group_bundles`. "
                    f"Got {len(selector)} selectors for {len(bundles)} bundles."
                )
        return self

    @model_validator(mode="after")
    def _whole_gangs(self) -> DeploymentSchema:
        gangs = self.gang_scheduling_config
        if gangs is None or not _is_given(gangs):
            return self
        if _is_given(self.max_replicas_per_node):
            raise ValueError(EXCLUDES_PER_NODE)
        if _is_given(self.placement_group_strategy):
            raise ValueError(EXCLUDES_STRATEGY)
        counts = {"num_replicas": self.num_replicas}
        if self.num_replicas == AUTO and self.autoscaling_config is not None and _is_given(self.autoscaling_config):
            counts = {
                f"autoscaling_config.{name}": count
                for name, count in _written("autoscaling_config", self.autoscaling_config).items()
                if name in ("min_replicas", "max_replicas", "initial_replicas")
            }
        for name, count in counts.items():
            if isinstance(count, int) and count % gangs.gang_size:
                raise ValueError(not_whole(name, count, gangs.gang_size))
        return self

    def is_autoscaling_configured(self) -> bool:
        """Whether the number of replicas follows the load."""
        return self.num_replicas == AUTO or (self.autoscaling_config is not None and _is_given(self.autoscaling_config))

    def overrides(self) -> dict[str, Any]:
        """The options that were written, as plain values."""
        return {
            name: _written(name, getattr(self, name))
            for name in self.model_fields_set - {"name"}
            if _is_given(getattr(self, name))
        }


def _is_given(value: Any) -> bool:
    return value is not DEFAULT.VALUE


def _written(name: str, value: Any) -> Any:
    """What was written, in today's names: older releases call a policy's `policy_function` its `name`."""
    plain = plain_config(value)
    policy = plain.get("policy") if name == "autoscaling_config" and isinstance(plain, Mapping) else None
    if isinstance(policy, Mapping) and "name" in policy:
        others = {field: value for field, value in policy.items() if field != "name"}
        return {**plain, "policy": {"policy_function": policy["name"], **others}}
    return plain


def _read(name: str, value: Any) -> None:
    try:
        READERS[name](_written(name, value))
    except TypeError as error:
        raise ValueError(str(error)) from error  # pydantic takes ValueErrors only
