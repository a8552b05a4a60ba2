"""From bound applications to specifications."""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from meshserve import Application, DeploymentHandle, deployment, ingress
from meshserve.api.builder import application_of
from meshserve.api.deploy import RunTarget, specify
from meshserve.api.graph import Run, build
from meshserve.errors import MeshServeException
from meshserve.model.control import ApplicationSpec
from meshserve.model.ids import DeploymentId


@deployment
class Leaf:
    def __init__(self, value: Any = None) -> None:
        self.value = value


@deployment
class Root:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


@dataclasses.dataclass
class Box:
    inner: Any


def names(spec: ApplicationSpec) -> list[str]:
    return [one.id.name for one in spec.deployments]


def bound(spec: ApplicationSpec, name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    code = next(one.code for one in spec.deployments if one.id.name == name)
    loaded: tuple[Any, tuple[Any, ...], dict[str, Any]] = cloudpickle.loads(code)
    return loaded


def test_the_bound_deployment_is_the_ingress_and_carries_its_arguments() -> None:
    spec = build(Leaf.bind(7), Run("app", "/prefix"))

    assert (spec.name, spec.ingress, spec.route_prefix) == ("app", "Leaf", "/prefix")
    target, args, kwargs = bound(spec, "Leaf")
    assert (target.__name__, args, kwargs) == ("Leaf", (7,), {})


def test_applications_anywhere_in_the_arguments_become_handles() -> None:
    first, second, third = Leaf.bind(1), Leaf.options(name="Second").bind(2), Leaf.options(name="Third").bind(3)

    spec = build(Root.bind([first], {"deep": (second,)}, boxed=Box(third)), Run("app"))

    assert names(spec) == ["Leaf", "Second", "Third", "Root"]
    _, args, kwargs = bound(spec, "Root")
    handles = [args[0][0], args[1]["deep"][0], kwargs["boxed"].inner]
    assert all(isinstance(handle, DeploymentHandle) for handle in handles)
    assert [str(handle.deployment_id) for handle in handles] == ["app#Leaf", "app#Second", "app#Third"]
    assert spec.deployments[-1].uses == tuple(DeploymentId("app", name) for name in ("Leaf", "Second", "Third"))


def test_the_same_bound_object_is_one_deployment() -> None:
    shared = Leaf.bind()

    spec = build(Root.bind(shared, Root.options(name="Middle").bind(shared)), Run("app"))

    assert names(spec) == ["Leaf", "Middle", "Root"]


def test_two_bound_objects_of_one_name_are_two_deployments() -> None:
    spec = build(Root.bind(Leaf.bind(1), Leaf.bind(2), Leaf.bind(3)), Run("app"))

    assert names(spec) == ["Leaf", "Leaf_1", "Leaf_2", "Root"]
    assert [bound(spec, name)[1] for name in names(spec)[:3]] == [(1,), (2,), (3,)]


def test_deployments_log_as_the_application_does_unless_they_say_otherwise() -> None:
    own = Root.options(name="Own", logging_config={"log_level": "INFO"})
    (spec,) = specify([RunTarget(own.bind(Leaf.bind(1)), logging_config={"log_level": "DEBUG"})])
    levels = {one.id.name: (one.options.logging_config or {})["log_level"] for one in spec.deployments}
    assert levels == {"Own": "INFO", "Leaf": "DEBUG"}


def test_every_build_is_a_new_version_shared_by_its_deployments() -> None:
    app = Root.bind(Leaf.bind())

    first, second = build(app, Run("app")), build(app, Run("app"))

    assert len({one.code_version for one in first.deployments}) == 1
    assert first.deployments[0].code_version != second.deployments[0].code_version


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match=r"serialize the deployment 'Root' .* constructor argument 'boxed' is a lock"):
        build(Root.bind(Leaf.bind(), boxed=Box([threading.Lock()])), Run("app"))


def test_a_variable_that_cannot_be_pickled_is_named_where_the_deployment_is_made() -> None:
    lock = threading.Lock()

    def function() -> bool:
        return lock.locked()

    with pytest.raises(TypeError, match=r"variable 'lock', which 'function' uses, is a lock.* non-serializable"):
        deployment(function)


@pytest.mark.parametrize(
    ("name", "prefix", "error"),
    [
        ("", "/", MeshServeException),
        ("a#b", "/", ValueError),
        ("app", "no-slash", ValueError),
        ("app", "/slash/", ValueError),
        ("app", "/{braces}", ValueError),
    ],
)
def test_bad_names_and_prefixes_are_refused(name: str, prefix: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        build(Leaf.bind(), Run(name, prefix))


def test_two_classes_that_answer_http_in_one_application_are_refused() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None: ...

    inner = deployment(ingress(answer)(), name="inner").bind()
    with pytest.raises(MeshServeException, match='multiple FastAPI deployments in application "app": inner, outer'):
        build(deployment(ingress(answer)(), name="outer").bind(inner), Run("app"))


def test_only_applications_are_run() -> None:
    with pytest.raises(TypeError, match=r"expects an `Application` returned by"):
        build(Leaf, Run("app"))  # type: ignore[arg-type]  # wrong on purpose


def test_an_external_scaler_and_autoscaling_exclude_each_other() -> None:
    app = Leaf.options(autoscaling_config={"max_replicas": 2}).bind()

    with pytest.raises(ValueError, match="external_scaler_enabled"):
        build(app, Run("app", external_scaler_enabled=True))


def test_the_programs_runtime_environment_fills_in_what_a_deployment_leaves_open() -> None:
    own = Leaf.options(name="Own", ray_actor_options={"runtime_env": {"env_vars": {"A": "1"}}}).bind()
    program = {"working_dir": "s3://bucket/code.zip", "env_vars": {"B": "2"}}

    spec = build(Root.bind(own), Run("app", runtime_env=program))

    environments = {one.id.name: one.options.ray_actor_options["runtime_env"] for one in spec.deployments}
    assert environments == {
        "Own": {"env_vars": {"A": "1"}, "working_dir": "s3://bucket/code.zip"},
        "Root": program,
    }


def test_applications_that_run_together_have_their_own_names_and_prefixes() -> None:
    one = RunTarget(target=Leaf.bind(), name="one", route_prefix="/one")

    assert [spec.name for spec in specify([one, RunTarget(target=Leaf.bind(), name="two", route_prefix=None)])] == [
        "one",
        "two",
    ]
    with pytest.raises(ValueError, match="name"):
        specify([one, one])
    with pytest.raises(ValueError, match="route_prefix"):
        specify([one, RunTarget(target=Leaf.bind(), name="two", route_prefix="/one")])
    with pytest.raises(ValueError, match="at least one"):
        specify([])


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"route_prefix": "x"}, ValueError, "'x', must start with a forward slash"),
        ({"route_prefix": "/x/"}, ValueError, "'/x/', may not end with a trailing '/'"),
        ({"route_prefix": "/{x}"}, ValueError, "may not contain wildcards"),
        ({"route_prefix": "/x?y"}, ValueError, r"may not contain '\?' or '#'"),
        ({"route_prefix": 5}, TypeError, "must be a path, as text, or None, not 5"),
        ({"name": 5}, TypeError, "name of an application must be text, not 5"),
    ],
)
def test_a_wrong_prefix_or_name_is_refused(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        specify([RunTarget(**{"target": Leaf.bind(), **given})])


def test_a_builder_gets_its_arguments_as_its_model_reads_them() -> None:
    from pydantic import BaseModel

    class Arguments(BaseModel):
        count: int

    def typed(arguments: Arguments) -> Application:
        return Leaf.bind(arguments.count)

    typed.__annotations__["arguments"] = Arguments

    def plain(arguments: dict[str, str]) -> Application:
        return Leaf.bind(arguments)

    assert application_of(typed, {"count": "3"})._bound_deployment.init_args == (3,)
    assert application_of(plain, {"count": "3"})._bound_deployment.init_args == ({"count": "3"},)
    with pytest.raises(ValueError, match="count"):
        application_of(typed, {"count": "many"})


def test_a_builder_may_name_its_arguments_in_words_nobody_knows_or_as_an_older_model() -> None:
    from pydantic import v1

    class Older(v1.BaseModel):
        count: int

    def quoted(arguments: "OfNoScope") -> Application:  # type: ignore[name-defined]  # noqa: F821 - on purpose
        return Leaf.bind(arguments["count"])

    def older(arguments: Older) -> Application:
        return Leaf.bind(arguments.count)

    older.__annotations__["arguments"] = Older
    assert application_of(quoted, {"count": "3"})._bound_deployment.init_args == ("3",)
    assert application_of(older, {"count": "3"})._bound_deployment.init_args == (3,)


def unbuildable() -> Iterator[tuple[Any, dict[str, str], type[Exception]]]:
    def two(first: object, second: object) -> None: ...

    def nothing(arguments: object) -> None: ...

    yield Leaf.bind(), {"key": "value"}, ValueError
    yield Leaf, {}, TypeError
    yield 3, {}, TypeError
    yield two, {}, TypeError
    yield nothing, {}, TypeError


@pytest.mark.parametrize(("target", "arguments", "error"), list(unbuildable()))
def test_what_builds_no_application_is_refused(
    target: object, arguments: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        application_of(target, arguments)
