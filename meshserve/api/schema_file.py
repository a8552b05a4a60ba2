"""A whole configuration file, as `meshserve deploy` and `ControllerService.ApplyConfig` take it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from meshserve.api.config_class import ConfigType
from meshserve.api.controller_options import ControllerOptions
from meshserve.api.ingress_options import HTTPOptions, ProxyLocation, gRPCOptions
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_logging import LoggingConfig, TracingConfig


class HTTPOptionsSchema(BaseModel):
    """The HTTP ingress; what is not described here is described at `meshserve.config.HTTPOptions`."""

    model_config = ConfigDict(extra="allow")

    host: str = Field(default="0.0.0.0", description="The address to listen on.")
    port: int = Field(default=8000, description="The port to listen on.")
    root_path: str = Field(default="", description="The path under which the mesh is mounted behind another server.")
    request_timeout_s: float | None = Field(default=None, description="How long a request may take; null for ever.")
    keep_alive_timeout_s: int = Field(default=90, description="How long an idle connection is kept.")
    ssl_keyfile: str | None = Field(default=None, description="File of the private key, for HTTPS.")
    ssl_certfile: str | None = Field(default=None, description="File of the certificate.")
    ssl_keyfile_password: str | None = Field(default=None, description="Of the private key.")
    ssl_ca_certs: str | None = Field(default=None, description="File of the authorities of client certificates.")

    @model_validator(mode="after")
    def _as_in_python(self) -> HTTPOptionsSchema:
        _check(HTTPOptions, self.model_dump())
        return self

    def known(self) -> dict[str, Any]:
        """The fields that `HTTPOptions` has; others are of other releases."""
        fields = HTTPOptions.__dataclass_fields__
        return {name: value for name, value in self.model_dump().items() if name in fields}


class gRPCOptionsSchema(BaseModel):  # noqa: N801 - the peer's name
    """The gRPC ingress; what is not described here is described at `meshserve.config.gRPCOptions`."""

    model_config = ConfigDict(extra="allow")

    port: int = Field(default=9000, description="The port to listen on.")
    grpc_servicer_functions: list[str] = Field(
        default=[], description="Import paths of add_...Servicer_to_server of each service to offer."
    )
    request_timeout_s: float | None = Field(default=None, description="How long a call may take; null for ever.")
    enable_reflection: bool = Field(default=True, description="Whether clients may ask for the services' descriptions.")

    @model_validator(mode="after")
    def _as_in_python(self) -> gRPCOptionsSchema:
        # What is named by import paths is imported by the proxies.
        _check(gRPCOptions, {**self.model_dump(), "grpc_servicer_functions": (), "interceptors": ()})
        return self

    def known(self) -> dict[str, Any]:
        """The fields that `gRPCOptions` has; others are of other releases."""
        fields = gRPCOptions.__dataclass_fields__
        return {name: value for name, value in self.model_dump().items() if name in fields}


class ServeDeploySchema(BaseModel):
    """Everything that should run: applications, and the proxies in front of them."""

    proxy_location: ProxyLocation = Field(
        default=ProxyLocation.EveryNode, description="Which nodes have a proxy: EveryNode, HeadOnly or Disabled."
    )
    http_options: HTTPOptionsSchema = Field(default_factory=HTTPOptionsSchema, description="The HTTP ingress.")
    grpc_options: gRPCOptionsSchema = Field(default_factory=gRPCOptionsSchema, description="The gRPC ingress.")
    controller_options: ControllerOptions | None = Field(default=None, description="The controller's process.")
    logging_config: LoggingConfig | None = Field(default=None, description="Logging of the mesh's own processes.")
    tracing_config: TracingConfig | None = Field(default=None, description="Whether requests are traced.")
    applications: list[ServeApplicationSchema] = Field(description="The applications.")
    target_capacity: float | None = Field(
        default=None, ge=0, le=100, description="A percentage by which all numbers of replicas are scaled."
    )

    @field_validator("applications")
    @classmethod
    def _told_apart(cls, value: list[ServeApplicationSchema]) -> list[ServeApplicationSchema]:
        if any(not one.name for one in value):
            raise ValueError("Application names must be nonempty.")
        if twice := _twice([one.name for one in value]):
            raise ValueError(f"Found multiple configs for application {twice}. Please remove all duplicates.")
        if twice := _twice([one.route_prefix for one in value if one.route_prefix is not None]):
            raise ValueError(
                f"Found duplicate applications for route prefix {twice}. Please ensure each application's route_prefix "
                "is unique."
            )
        return value

    @model_validator(mode="after")
    def _ingress_is_the_files(self) -> ServeDeploySchema:
        for one in self.applications:
            for name in ("host", "port"):
                if name in one.model_fields_set:
                    raise ValueError(
                        f'{name.capitalize()} "{getattr(one, name)}" is set in the config for application '
                        f"`{one.name}`. Please remove it and set {name} in the top level deploy config only, in "
                        "http_options."
                    )
        return self

    @staticmethod
    def get_empty_schema_dict() -> dict[str, Any]:
        """The file that runs nothing."""
        return {"applications": []}


def _check(kind: ConfigType, fields: dict[str, Any]) -> None:
    """Checks fields as in Python, with errors that a pydantic model may raise; warns of fields there are not."""
    try:
        kind.made(**fields)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _twice(values: Sequence[str]) -> str:
    """What is there more than once, as text; empty for nothing."""
    return ", ".join(f'"{value}"' for value, times in Counter(values).items() if times > 1)
