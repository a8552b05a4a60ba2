"""What users write for deployments, read and refused."""

import base64
import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from meshserve import Deployment, deployment
from meshserve.api.graph import Run, build
from meshserve.autoscaling_policy import default_autoscaling_policy
from meshserve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    BackpressureConfig,
    LoggingConfig,
    RequestRouterConfig,
    gRPCOptions,
)
from meshserve.model.autoscaling import AutoscalingContext
from meshserve.model.options import AutoscalingOptions, BackpressureOptions, DeploymentOptions
from meshserve.v1.generic_pb2_grpc import add_CallServiceServicer_to_server


def wants_two(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    return 2, {}


class Model:
    def __call__(self) -> str:
        return "hello"


def test_a_bare_decorator_takes_the_name_of_the_class_and_all_defaults() -> None:
    made = deployment(Model)

    assert (made.name, made.func_or_class) == ("Model", Model)
    assert (made.num_replicas, made.max_ongoing_requests, made.max_queued_requests) == (1, 5, -1)
    assert made.user_configured_option_names == frozenset()
    assert repr(made) == "Deployment(name=Model)"


def test_written_options_are_remembered_by_name() -> None:
    made = deployment(num_replicas=3, name="other", user_config={"a": [1, None]})(Model)

    assert made.name == "other"
    assert made.num_replicas == 3
    assert made.user_config == {"a": [1, None]}
    assert made.user_configured_option_names == {"num_replicas", "user_config"}


def test_options_gives_a_changed_copy_and_leaves_the_original() -> None:
    first = deployment(num_replicas=3)(Model)
    second = first.options(max_ongoing_requests=7, name="second")

    assert (first.name, first.max_ongoing_requests) == ("Model", 5)
    assert (second.name, second.max_ongoing_requests, second.num_replicas) == ("second", 7, 3)
    assert second.user_configured_option_names == {"num_replicas", "max_ongoing_requests"}


def test_deployments_are_equal_when_everything_written_is() -> None:
    assert deployment(num_replicas=2)(Model) == deployment(num_replicas=2)(Model)
    assert deployment(num_replicas=2)(Model) != deployment(num_replicas=3)(Model)
    assert deployment(Model) != deployment(Model).options(name="other")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_replicas": 0}, ValueError, "at least 1"),
        ({"num_replicas": "many"}, ValueError, "'auto'"),
        ({"num_replicas": 2, "autoscaling_config": {"max_replicas": 4}}, ValueError, "Manually setting num_replicas"),
        ({"max_ongoing_requests": None}, ValueError, "must be non-null"),
        ({"max_ongoing_requests": 0}, ValueError, "at least 1"),
        ({"max_queued_requests": 0}, ValueError, "or a positive integer"),
        ({"max_queued_requests": -2}, ValueError, "or a positive integer"),
        ({"max_replicas_per_node": 101}, ValueError, r"range of \[1, 100\]"),
        ({"max_replicas_per_node": 1.5}, TypeError, "Get invalid type 'float'"),
        ({"user_config": {1, 2}}, ValueError, "JSON"),
        ({"health_check_period_s": 0}, ValueError, "above 0"),
        ({"health_check_timeout_s": -1}, ValueError, "above 0"),
        ({"graceful_shutdown_timeout_s": -1}, ValueError, "at least 0"),
        ({"graceful_shutdown_wait_loop_s": "two"}, ValidationError, "number"),
        ({"max_constructor_retry_count": 0}, ValueError, "at least 1"),
        ({"rolling_update_percentage": 1.5}, ValueError, "at most 1"),
        ({"max_surge_percent": 101}, ValueError, "from 0 to 100"),
        ({"logging_config": "DEBUG"}, ValidationError, "LoggingConfig"),
        ({"logging_config": {"encoding": "XML"}}, ValueError, "TEXT, JSON"),
        ({"logging_config": {"level": "INFO"}}, ValueError, "no field 'level'"),
        ({"backpressure_config": {"status_code": 500}}, ValueError, "429 or 503"),
        ({"request_router_config": {"request_router_class": "no.such:Router"}}, ImportError, "no"),
        (
            {"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}},
            ValueError,
            r"greater than or equal to min_replicas \(3\)",
        ),
        (
            {"autoscaling_config": {"max_replicas": 2, "initial_replicas": 3}},
            ValueError,
            r"equal to initial_replicas \(3\)",
        ),
        ({"ray_actor_options": 1}, TypeError, "dict"),
        ({"ray_actor_options": {"cpus": 1}}, ValueError, "Specifying 'cpus' in ray_actor_options is not allowed"),
        ({"ray_actor_options": {"num_cpus": -1}}, ValueError, "at least 0"),
        ({"ray_actor_options": {"resources": {"CPU": 1}}}, ValueError, "entry of its own"),
        ({"placement_group_strategy": "SPREAD"}, ValueError, "`placement_group_bundles` must also be provided"),
        ({"placement_group_bundle_label_selector": [{"a": "b"}]}, ValueError, "must also be provided"),
        ({"placement_group_bundles": []}, ValueError, "must be a non-empty list"),
        ({"placement_group_bundles": [{"CPU": "1"}]}, ValueError, "must be a non-empty list"),
        ({"placement_group_bundles": [{"CPU": 0}]}, ValueError, "with only 0 values"),
        ({"placement_group_bundles": [{"CPU": 0.5}]}, ValueError, "subset of the first bundle"),
        ({"placement_group_bundles": [{"CPU": 1}], "max_replicas_per_node": 1}, ValueError, "is not allowed when"),
        ({"placement_group_bundles": [{"CPU": 1}], "placement_group_strategy": "ROW"}, ValueError, "PACK"),
        (
            {"placement_group_bundles": [{"CPU": 1}] * 3, "placement_group_bundle_label_selector": [{}, {}]},
            ValueError,
            "each of the 3",
        ),
        ({"name": 3}, TypeError, "must be a string"),
        ({"name": "a#b"}, ValueError, "'#'"),
        ({"version": "1"}, ValueError, "has been removed"),
        ({"num_replica": 1}, TypeError, "no option 'num_replica'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        deployment(**options)(Model)  # type: ignore[call-overload]  # wrong on purpose


def test_only_callables_can_be_deployments() -> None:
    with pytest.raises(TypeError, match="not of 3"):
        deployment(3)  # type: ignore[call-overload]  # wrong on purpose


def test_a_deployment_is_neither_made_nor_called_directly() -> None:
    with pytest.raises(RuntimeError, match="@deployment"):
        Deployment()
    with pytest.raises(RuntimeError, match=r"Model.bind"):
        deployment(Model)()


def test_a_function_takes_no_constructor_arguments() -> None:
    @deployment
    def function() -> None: ...

    build(function.bind(), Run("app"))
    with pytest.raises(ValueError, match="no constructor"):
        build(function.bind(1), Run("app"))


def test_rolling_update_percentage_belongs_to_the_decorator_only() -> None:
    made = deployment(rolling_update_percentage=0.5)(Model)

    assert made.rolling_update_percentage == 0.5
    with pytest.raises(TypeError, match="no option"):
        made.options(rolling_update_percentage=0.1)  # type: ignore[call-arg]  # wrong on purpose


def test_auto_is_one_to_a_hundred_overlaid_with_what_was_written() -> None:
    plain = deployment(num_replicas="auto")(Model)
    as_dict = deployment(num_replicas="auto", autoscaling_config={"min_replicas": 2})(Model)
    config = AutoscalingConfig(max_replicas=5, target_ongoing_requests=3)
    as_object = deployment(num_replicas="auto", autoscaling_config=config)(Model)

    assert plain.autoscaling_config == AutoscalingOptions(min_replicas=1, max_replicas=100)
    assert as_dict.autoscaling_config == AutoscalingOptions(min_replicas=2, max_replicas=100)
    assert as_object.autoscaling_config == AutoscalingOptions(max_replicas=5, target_ongoing_requests=3)


def test_a_policy_goes_by_its_import_path_or_by_value_when_it_has_none() -> None:
    by_path = AutoscalingConfig(policy={"policy_function": wants_two}).to_options()
    assert (by_path.policy_function, by_path.policy_pickle) == (f"{__name__}:wants_two", "")

    by_value = AutoscalingConfig(policy=AutoscalingPolicy(lambda context: (3, {}), {"by": 1}))
    options = by_value.to_options()
    assert pickle.loads(base64.b64decode(options.policy_pickle))(None) == (3, {})
    assert AutoscalingConfig.of_options(options).to_options() == options


@pytest.mark.parametrize(
    "name",
    [
        default_autoscaling_policy,
        "meshserve.autoscaling_policy:default_autoscaling_policy",
        "ray.serve.autoscaling_policy.replica_queue_length_autoscaling_policy",
    ],
)
def test_the_default_policy_is_known_by_its_names(name: Any) -> None:
    assert AutoscalingConfig(policy={"policy_function": name}).to_options() == AutoscalingOptions()


def test_a_policy_is_callable_or_named_and_its_arguments_are_json() -> None:
    with pytest.raises(ValueError, match="a function, a class or text"):
        AutoscalingPolicy(3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="policy_kwargs"):
        AutoscalingPolicy("m:f", {"x": object()})


def test_a_target_that_replicas_cannot_reach_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    deployment(max_ongoing_requests=5, autoscaling_config={"target_ongoing_requests": 5})(Model)
    assert not caplog.records
    deployment(max_ongoing_requests=5, autoscaling_config={"target_ongoing_requests": 6})(Model)
    assert "target_ongoing_requests (6) is above max_ongoing_requests (5)" in caplog.text


def test_a_window_not_longer_than_its_interval_is_warned_of() -> None:
    with pytest.warns(FutureWarning, match="look_back_period_s"):
        AutoscalingConfig(look_back_period_s=5)


def test_factors_are_found_by_all_their_names() -> None:
    config = AutoscalingConfig(smoothing_factor=0.5, upscale_smoothing_factor=2, downscaling_factor=0.3)
    assert (config.get_upscaling_factor(), config.get_downscaling_factor()) == (2, 0.3)
    assert AutoscalingConfig(smoothing_factor=0.5).get_upscaling_factor() == 0.5


def test_of_a_fixed_count_and_autoscaling_the_one_written_last_counts() -> None:
    automatic = deployment(autoscaling_config={"max_replicas": 4})(Model)

    fixed = automatic.options(num_replicas=2)
    again = fixed.options(autoscaling_config={"max_replicas": 3})

    assert (fixed.num_replicas, fixed.autoscaling_config) == (2, None)
    assert again.autoscaling_config == AutoscalingOptions(max_replicas=3)


def test_one_cpu_is_asked_for_unless_written_otherwise() -> None:
    assert deployment(ray_actor_options={"num_gpus": 1})(Model).ray_actor_options == {"num_cpus": 1, "num_gpus": 1}
    assert deployment(ray_actor_options={"num_cpus": 0})(Model).ray_actor_options == {"num_cpus": 0}


def test_configuration_objects_and_dicts_mean_the_same() -> None:
    written = deployment(
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=2),
        request_router_config=RequestRouterConfig(request_router_class="round_robin"),
        logging_config=LoggingConfig(log_level=10),
    )(Model)
    same = deployment(
        backpressure_config={"status_code": 429, "retry_after_s": 2},
        request_router_config={"request_router_class": "round_robin"},
        logging_config={"log_level": "debug"},
    )(Model)

    assert written == same
    assert written.backpressure_config == BackpressureOptions(429, 2)
    assert written.logging_config["log_level"] == "DEBUG"


def test_none_restores_the_default_where_none_is_allowed() -> None:
    written = deployment(num_replicas=3, ray_actor_options={"num_cpus": 2}, max_replicas_per_node=1)(Model)

    restored = written.options(num_replicas=None, ray_actor_options=None, max_replicas_per_node=None)

    assert restored.num_replicas == DeploymentOptions().num_replicas
    assert restored.ray_actor_options == {"num_cpus": 1}
    assert restored.max_replicas_per_node is None


def test_servicer_functions_of_the_grpc_options_are_paths_and_can_be_had_as_functions():
    path = "meshserve.v1.generic_pb2_grpc.add_CallServiceServicer_to_server"
    assert gRPCOptions().grpc_servicer_functions == []
    options = gRPCOptions(grpc_servicer_functions=[path])
    assert options.grpc_servicer_functions == [path]
    assert options.grpc_servicer_func_callable == [add_CallServiceServicer_to_server]
    with pytest.raises(ModuleNotFoundError, match="can't be imported"):
        gRPCOptions(grpc_servicer_functions=["no.such.module.add_it"])
    with pytest.raises(ValueError, match="is not a callable function"):
        gRPCOptions(grpc_servicer_functions=["meshserve.settings.NAMESPACE"])
