"""One application in a configuration file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from meshserve.api.autoscaling_config import AutoscalingPolicy
from meshserve.api.graph import check_route_prefix
from meshserve.api.remote_uris import check_runtime_env
from meshserve.api.schema_deployment import DeploymentSchema
from meshserve.api.schema_logging import LoggingConfig
from meshserve.model.ids import DELIMITER


class ServeApplicationSchema(BaseModel):
    """An application: what to import, and what differs from the code."""

    name: str = Field(default="default", description="Unique in the mesh.")
    route_prefix: str | None = Field(
        default="/", description="The path under which it answers HTTP; null for not at all."
    )
    import_path: str = Field(
        description='The application, or a function that builds one: "package.module:name" or "package.module.name".'
    )
    runtime_env: dict[str, Any] = Field(
        default={}, description="The environment it is built in, and its deployments run in, in Ray's terms."
    )
    host: str = Field(default="0.0.0.0", description="Not here: see http_options of the file.")
    port: int = Field(default=8000, description="Not here: see http_options of the file.")
    deployments: list[DeploymentSchema] = Field(
        default=[], description="Options of deployments in place of those in the code."
    )
    autoscaling_policy: dict[str, Any] | None = Field(
        default=None, description="A policy for all its deployments together: policy_function, policy_kwargs."
    )
    args: dict[str, Any] = Field(default={}, description="For the function that builds the application.")
    logging_config: LoggingConfig | None = Field(default=None, description="Logging of the application.")
    external_scaler_enabled: bool = Field(
        default=False, description="Whether the numbers of replicas are set from outside (ControllerService.Scale)."
    )

    _uris = field_validator("runtime_env")(check_runtime_env)

    @property
    def deployment_names(self) -> list[str]:
        """Of the deployments whose options are given here."""
        return [one.name for one in self.deployments]

    @field_validator("autoscaling_policy", mode="before")
    @classmethod
    def _plain_policy(cls, value: Any) -> Any:
        return asdict(value) if isinstance(value, AutoscalingPolicy) else value

    @field_validator("autoscaling_policy")
    @classmethod
    def _known_policy_fields(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and "policy_function" not in value:
            raise ValueError("autoscaling_policy needs policy_function, an import path.")
        return value

    @field_validator("import_path")
    @classmethod
    def _two_parts(cls, value: str) -> str:
        mark = ":" if ":" in value else "."
        module, _, name = value.partition(":") if mark == ":" else value.rpartition(".")
        if not module or not name or ":" in name:
            raise ValueError(f'Got invalid import path "{value}". {_wrong(value)} E.g.: "package.module:name".')
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if DELIMITER in value:
            raise ValueError(f"The name of an application must not contain {DELIMITER!r}.")
        return value

    @field_validator("route_prefix")
    @classmethod
    def _fixed_path(cls, value: str | None) -> str | None:
        check_route_prefix(value)
        return value

    @field_validator("deployments")
    @classmethod
    def _each_once(cls, value: list[DeploymentSchema]) -> list[DeploymentSchema]:
        names = [one.name for one in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Deployment {twice[0]!r} is listed twice; put its options into one entry.")
        return value

    @model_validator(mode="after")
    def _one_scaler(self) -> ServeApplicationSchema:
        scaled = [f'"{one.name}"' for one in self.deployments if one.is_autoscaling_configured()]
        if self.external_scaler_enabled and scaled:
            raise ValueError(
                "external_scaler_enabled is set to True, but the following deployment(s) have autoscaling configured: "
                f"{', '.join(scaled)}. When using an external autoscaler, built-in autoscaling must be disabled."
            )
        return self


def _wrong(path: str) -> str:
    if path.count(":") > 1:
        return "An import path may have at most one colon."
    if path.startswith(":") or path.endswith(":"):
        return "An import path may not start or end with a colon."
    if path.startswith(".") or path.endswith("."):
        return "An import path may not start or end with a dot."
    return "An import path must contain at least one dot or colon, which separates the module from the application."
