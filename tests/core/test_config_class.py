"""Classes of configuration have the errors and methods of pydantic's models."""

import inspect
import json
import pickle

import pytest
from pydantic import ValidationError

from meshserve import deployment
from meshserve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    BackpressureConfig,
    ControllerOptions,
    HTTPOptions,
    LoggingConfig,
    RequestRouterConfig,
    gRPCOptions,
)


def policy(context):
    return 1, {}


@pytest.mark.parametrize(
    ("make", "place", "text"),
    [
        (lambda: AutoscalingConfig(min_replicas=-1), ("min_replicas",), "min_replicas must be at least 0"),
        (lambda: AutoscalingConfig(min_replicas="one"), ("min_replicas",), "must be an integer"),
        (
            lambda: AutoscalingConfig(min_replicas=3, max_replicas=2),
            ("max_replicas",),
            r"greater than or equal to min_replicas \(3\)",
        ),
        (
            lambda: AutoscalingConfig(policy={"policy_function": 3}),
            ("policy_function",),
            "policy_function must be a function",
        ),
        (lambda: BackpressureConfig(misspelt=3), (), "misspelt"),
        (lambda: HTTPOptions(port=-1), ("port",), "port must be from 0"),
        (lambda: HTTPOptions(ssl_keyfile="key"), (), "Both ssl_keyfile and ssl_certfile must be provided together"),
        (lambda: gRPCOptions(port="x"), ("port",), "must be an integer"),
        (lambda: LoggingConfig(encoding="XML"), ("encoding",), "TEXT, JSON"),
        (lambda: BackpressureConfig(status_code=500), ("status_code",), "429 or 503"),
        (lambda: RequestRouterConfig(max_backoff_s=0), ("max_backoff_s",), "above 0"),
        (lambda: ControllerOptions(runtime_env={"pip": []}), ("runtime_env",), "env_vars only"),
        (lambda: BackpressureConfig().copy(update={"status_code": 1}), ("status_code",), "status_code must be"),
    ],
)
def test_what_is_wrong_is_a_validation_error_with_its_field(make, place, text):
    with pytest.raises(ValidationError, match=text) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    [mistake] = caught.value.errors()
    assert mistake["loc"] == place
    assert isinstance(caught.value.__cause__, TypeError | ValueError)


@pytest.mark.parametrize(
    ("name", "value", "place", "text"),
    [
        ("autoscaling_config", {"min_replicas": "one"}, ("min_replicas",), "min_replicas must be an integer"),
        ("autoscaling_config", {"min_replicas": -1}, ("min_replicas",), "min_replicas must be at least 0"),
        ("max_ongoing_requests", "many", (), "max_ongoing_requests must be an integer"),
    ],
)
def test_wrong_options_of_deployments_are_validation_errors_with_the_option(name, value, place, text):
    with pytest.raises(ValidationError, match=text) as caught:
        deployment(**{name: value})(policy)
    assert [mistake["loc"] for mistake in caught.value.errors()] == [(name, *place)]


def test_numbers_may_be_written_as_text_as_arguments_of_builders_are():
    made = deployment(num_replicas="3", max_ongoing_requests=7.0, health_check_period_s="2.5")(policy)
    assert (made.num_replicas, made.max_ongoing_requests, made.health_check_period_s) == (3, 7, 2.5)
    config = AutoscalingConfig(min_replicas="1", max_replicas="4", target_ongoing_requests="1.5")
    assert config == AutoscalingConfig(min_replicas=1, max_replicas=4, target_ongoing_requests=1.5)
    with pytest.raises(ValidationError, match=r"must be an integer, not 1\.5"):
        deployment(num_replicas=1.5)(policy)


def test_options_that_are_rays_have_plain_errors():
    with pytest.raises(TypeError, match="num_cpus"):
        deployment(ray_actor_options={"num_cpus": "many"})(policy)


@pytest.mark.parametrize("older", ["target_num_ongoing_requests_per_replica", "target_num_ongoing_requests"])
def test_a_field_of_an_older_name_is_read_with_a_warning(older):
    with pytest.warns(DeprecationWarning, match="is now called `target_ongoing_requests`"):
        assert AutoscalingConfig(**{older: 7}).target_ongoing_requests == 7
    with pytest.warns(DeprecationWarning, match=older):
        made = deployment(autoscaling_config={older: 7})(policy)
    assert made.autoscaling_config.target_ongoing_requests == 7


def test_a_policy_function_is_also_read_by_its_older_name():
    with pytest.warns(DeprecationWarning, match="is now called `policy_function`"):
        read = AutoscalingConfig(policy={"name": "policies:mine"})
    assert read.policy == AutoscalingPolicy("policies:mine")


@pytest.mark.parametrize("kind", [AutoscalingConfig, AutoscalingPolicy, HTTPOptions, RequestRouterConfig, gRPCOptions])
def test_a_field_of_another_release_is_left_out_with_a_warning(kind):
    with pytest.warns(UserWarning, match="ignores 'new_field'"):
        made = kind(new_field=1)
    assert made == kind() and "new_field" not in made.model_fields_set


def test_the_warning_of_an_unknown_field_names_the_nearest():
    with pytest.warns(UserWarning, match="Did you mean 'max_replicas'"):
        AutoscalingConfig(max_replica=3)


def test_a_policy_knows_whether_it_is_the_default():
    assert AutoscalingConfig().policy.is_default_policy_function()
    assert not AutoscalingConfig(policy={"policy_function": policy}).policy.is_default_policy_function()


def test_a_configuration_can_be_dumped_and_read_back():
    config = AutoscalingConfig(max_replicas=5, aggregation_function="max", policy=AutoscalingPolicy(policy))
    dumped = config.model_dump()
    assert dumped == config.dict()
    assert dumped["max_replicas"] == 5 and dumped["upscale_delay_s"] == 30.0
    assert dumped["policy"] == {"policy_function": f"{__name__}:policy", "policy_kwargs": {}}
    assert AutoscalingConfig(**dumped) == config
    assert AutoscalingConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert AutoscalingConfig.parse_obj(dumped) == config
    assert config.model_dump(mode="json")["aggregation_function"] == "max"
    assert json.loads(config.json()) == json.loads(config.model_dump_json())


def test_a_dump_can_be_of_some_fields():
    options = HTTPOptions(port=8001, root_path="")
    assert options.model_fields_set == {"port", "root_path"}
    assert options.model_dump(exclude_unset=True) == {"port": 8001, "root_path": ""}
    assert options.model_dump(exclude_defaults=True) == {"port": 8001}
    assert options.model_dump(include={"port", "workers"}) == {"port": 8001, "workers": 1}
    assert "request_timeout_s" not in options.model_dump(exclude_none=True, exclude={"port"})
    assert "port" not in options.model_dump(exclude={"port"})


def test_a_copy_has_what_was_given_and_what_is_changed():
    config = BackpressureConfig(retry_after_s=2.0)
    changed = config.model_copy(update={"status_code": 429})
    assert changed == BackpressureConfig(status_code=429, retry_after_s=2.0)
    assert changed.model_fields_set == {"retry_after_s", "status_code"}
    assert config.copy() == config
    kept = {"env_vars": {"A": "1"}}
    controller = ControllerOptions(runtime_env=kept)
    assert controller.model_copy().runtime_env is kept
    assert controller.model_copy(deep=True).runtime_env is not kept


def test_the_fields_are_seen_by_those_who_ask():
    assert list(inspect.signature(BackpressureConfig).parameters) == ["status_code", "retry_after_s"]
    assert pickle.loads(pickle.dumps(BackpressureConfig(status_code=429))) == BackpressureConfig(status_code=429)


def test_a_deployment_takes_its_configurations_back():
    config = AutoscalingConfig(max_replicas=3)
    assert deployment(autoscaling_config=config.model_dump())(policy).autoscaling_config.max_replicas == 3
    assert AutoscalingConfig.model_validate(config) is config
