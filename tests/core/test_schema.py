"""What configuration files may say, checked before anything is sent anywhere."""

import logging

import pytest
from pydantic import ValidationError

from meshserve.api.legacy_start import check_legacy
from meshserve.config import AutoscalingConfig, ControllerOptions
from meshserve.schema import (
    DeploymentSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
    TracingConfig,
)

ARCHIVE = "https://example.com/module.zip"


def deployment(**fields):
    return DeploymentSchema.model_validate({"name": "Model", **fields})


def application(**fields):
    return ServeApplicationSchema.model_validate({"import_path": "module:app", **fields})


def file(*applications, **fields):
    return ServeDeploySchema.model_validate({"applications": list(applications), **fields})


def app(name="app", route_prefix="/app", **fields):
    return {"name": name, "route_prefix": route_prefix, "import_path": "module:app", **fields}


def test_what_is_not_written_is_not_dumped():
    written = {"name": "Model", "num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5}}
    assert deployment(**written).model_dump(exclude_unset=True) == written
    assert file(app()).model_dump(exclude_unset=True) == {"applications": [app()]}


@pytest.mark.parametrize(
    "fields",
    [
        {"num_replicas": "auto", "autoscaling_config": {"min_replicas": 3}},
        {"num_replicas": None, "autoscaling_config": AutoscalingConfig(max_replicas=3)},
        {"num_replicas": 5, "autoscaling_config": None},
        {"max_queued_requests": -1},
        {"user_config": ["any", {"json": None}]},
        {"placement_group_bundles": [{"CPU": 1}, {"CPU": 1}], "placement_group_bundle_label_selector": [{"a": "b"}]},
        {"request_router_config": {"request_router_class": "not_here.yet:Router"}},
        {"logging_config": {"log_level": "DEBUG"}},
        {"route_prefix": "/of-an-older-release"},
        {"autoscaling_config": {"policy": {"name": "not_here.yet:policy"}}},
        {"ray_actor_options": {"runtime_env": {"working_dir": "s3://does_not_exist.zip"}}},
        {"ray_actor_options": {"runtime_env": {"working_dir": ARCHIVE, "env_vars": {"A": "1"}}}},
    ],
)
def test_options_of_a_deployment_that_are_accepted(fields):
    deployment(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_replicas": 0}, "greater than 0"),
        ({"num_replicas": "many"}, "auto"),
        ({"num_replicas": 2, "autoscaling_config": {"max_replicas": 3}}, "Manually setting num_replicas"),
        ({"max_ongoing_requests": 0}, "max_ongoing_requests"),
        ({"max_queued_requests": 1.5}, "max_queued_requests"),
        ({"max_queued_requests": 0}, "or a positive integer"),
        ({"health_check_period_s": 0}, "health_check_period_s"),
        ({"graceful_shutdown_timeout_s": -1}, "graceful_shutdown_timeout_s"),
        ({"autoscaling_config": {"max_replica": 3}}, "max_replicas"),
        ({"backpressure_config": {"status_code": 404}}, "429 or 503"),
        ({"ray_actor_options": {"num_cpus": -1}}, "num_cpus"),
        ({"ray_actor_options": {"runtime_env": {"working_dir": "."}}}, "remote URIs"),
        ({"max_replicas_per_node": 2, "placement_group_bundles": [{"CPU": 1}]}, "is not allowed when"),
        ({"placement_group_bundle_label_selector": [{"a": "b"}]}, "placement_group_bundles is not provided"),
        ({"logging_config": {"encoding": "XML"}}, "encoding"),
        ({"rolling_update_percentage": 1.5}, "rolling_update_percentage"),
    ],
)
def test_options_of_a_deployment_that_are_refused_say_why(fields, said):
    with pytest.raises(ValidationError, match=said):
        deployment(**fields)


def test_actor_options_keep_what_was_written():
    assert RayActorOptionsSchema.model_validate({}).model_dump()["resources"] == {}
    environment = {"working_dir": ARCHIVE, "py_modules": ["s3://bucket/package.zip"], "pip": ["numpy"]}
    assert RayActorOptionsSchema.model_validate({"runtime_env": environment}).runtime_env == environment


@pytest.mark.parametrize("path", ["module.graph", "a.b.c", "module:graph", "a.b:graph"])
def test_import_paths(path):
    assert application(import_path=path).import_path == path


@pytest.mark.parametrize("path", ["", ".", ":", "module", "module.", ".module", "a:b:c", "a.b:c:"])
def test_what_is_no_import_path_is_refused(path):
    with pytest.raises(ValidationError, match="import_path"):
        application(import_path=path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"import_path": None}, "import_path"),
        ({"route_prefix": "app"}, "must start with a forward slash"),
        ({"route_prefix": "/app/"}, "may not end with a trailing '/'"),
        ({"route_prefix": "/{app}"}, "may not contain wildcards"),
        ({"name": "a#b"}, "#"),
        ({"runtime_env": {"py_modules": ["/home/me/module"]}}, "--app-dir"),
        ({"deployments": [{"name": "A"}, {"name": "A"}]}, "listed twice"),
        ({"autoscaling_policy": {"policy": "module:policy"}}, "policy_function"),
        (
            {"external_scaler_enabled": True, "deployments": [{"name": "scaled", "num_replicas": "auto"}]},
            'external_scaler_enabled is set to True.*"scaled"',
        ),
    ],
)
def test_applications_that_are_refused_say_why(fields, said):
    with pytest.raises(ValidationError, match=said):
        application(**fields)


@pytest.mark.parametrize(
    ("applications", "fields", "said"),
    [
        ([app("one", "/1"), app("one", "/2"), app("two", "/3")], {}, 'application "one"'),
        ([app("one", "/same"), app("two", "/same")], {}, 'route prefix "/same"'),
        ([app("")], {}, "nonempty"),
        ([app(host="127.0.0.1")], {}, "host.*http_options"),
        ([app(port=8001)], {}, "port.*http_options"),
        ([], {"target_capacity": 100.1}, "target_capacity"),
        ([], {"http_options": {"port": 70000}}, "port"),
        ([], {"http_options": {"ssl_keyfile": "key.pem"}}, "ssl_certfile"),
        ([], {"http_options": {"workers": "two"}}, "workers must be an integer, not 'two'"),
        ([], {"grpc_options": {"max_metadata_bytes": "1k"}}, "max_metadata_bytes must be a number, not '1k'"),
        ([], {"proxy_location": "Everywhere"}, "EveryNode"),
        ([], {"controller_options": {"runtime_env": {"pip": ["numpy"]}}}, "env_vars"),
        ([], {"controller_options": {"runtime_env": {"env_vars": {"": "x"}}}}, "env_vars"),
    ],
)
def test_files_that_are_refused_say_why(applications, fields, said):
    with pytest.raises(ValidationError, match=said):
        file(*applications, **fields)


def test_an_option_of_the_ingress_that_there_is_not_is_told() -> None:
    with pytest.warns(UserWarning, match="HTTPOptions ignores 'prot', no field of it. Did you mean 'port'"):
        ServeDeploySchema.model_validate({"http_options": {"prot": 8001}, "applications": []})


def test_a_file_needs_applications_and_may_have_several_without_a_prefix():
    with pytest.raises(ValidationError, match="applications"):
        ServeDeploySchema.model_validate({"http_options": {"port": 8001}})
    file(app("one", None), app("two", None), grpc_options={"grpc_servicer_functions": ["not_here.yet"]})


@pytest.mark.parametrize("capacity", [None, 0, 50, 33.33, 100.0])
def test_target_capacity_is_a_percentage(capacity):
    assert file(target_capacity=capacity).target_capacity == capacity


def test_logging_is_kept_in_one_form():
    read = LoggingConfig(log_level=logging.DEBUG, encoding="JSON", additional_log_standard_attrs=["name", "name"])
    assert (read.log_level, read.encoding, read.additional_log_standard_attrs) == ("DEBUG", "JSON", ["name"])
    assert LoggingConfig().log_level == "INFO"
    assert LoggingConfig(log_level="DEBUG").model_dump(exclude_unset=True) == {"log_level": "DEBUG"}
    for wrong in ({"logging_level": 10}, {"encoding": "XML"}, {"additional_log_standard_attrs": "name"}):
        with pytest.raises(ValidationError):
            LoggingConfig.model_validate(wrong)


def test_tracing_is_as_the_environment_says_unless_written(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "module:spans")
    assert TracingConfig().enabled
    assert TracingConfig(enabled=False).exporter_import_path == "module:spans"
    with pytest.raises(ValidationError, match="sampling_ratio"):
        TracingConfig(sampling_ratio=2)


def test_arguments_of_older_releases_say_what_to_write_instead():
    with pytest.raises(ValueError, match=r"http_options=\{'port': 8001\}"):
        check_legacy({"http_port": 8001})
    with pytest.raises(ValueError, match="ingress"):
        check_legacy({"http_middlewares": []})
    with pytest.raises(TypeError, match="htp_options"):
        check_legacy({"htp_options": {}})
    with pytest.warns(DeprecationWarning, match="detached"):
        check_legacy({"detached": True})


def test_the_controller_takes_variables_of_its_environment_and_nothing_else():
    assert ControllerOptions(runtime_env={"env_vars": {"A": "1"}}).runtime_env == {"env_vars": {"A": "1"}}
    for wrong in ({"pip": ["numpy"]}, {"env_vars": {"A": 1}}, {"env_vars": {"": "1"}}):
        with pytest.raises(ValueError, match="env_vars"):
            ControllerOptions(runtime_env=wrong)
