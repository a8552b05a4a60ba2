"""`deployment_actors` as users write them, in Python and in files."""

import base64
import threading

import cloudpickle
import pytest

from meshserve import deployment, get_deployment_actor, get_deployment_actor_context
from meshserve.api.build_process import build_application
from meshserve.api.graph import Run, build
from meshserve.api.merging import merged
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_export import entry_of
from meshserve.config import DeploymentActorConfig
from meshserve.context import DeploymentActorContext
from meshserve.exceptions import MeshServeException
from meshserve.model.control import Build
from meshserve.model.ids import DeploymentId
from meshserve.model.options import ActorOptions
from meshserve.schema import DeploymentSchema
from meshserve.v1 import build_pb2
from meshserve.wire.control import application_from_proto
from meshserve.wire.options import options_from_json, options_to_json

HERE = __name__


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start


class Other(Counter):
    pass


@deployment(deployment_actors=[{"name": "counter", "actor_class": f"{HERE}:Counter", "init_kwargs": {"start": 1}}])
class Model:
    pass


plain_app = Model.bind()


def unpickled(text: str):
    return cloudpickle.loads(base64.b64decode(text))


def test_a_class_travels_by_value_and_is_named_by_its_path():
    config = DeploymentActorConfig(name="counter", actor_class=Counter, init_args=[1])
    assert (config.actor_class, config.init_args) == (f"{HERE}:Counter", (1,))
    assert config.get_actor_class()(3).count == 3
    options = config.to_options()
    assert (options.init_args, options.init_kwargs, options.arguments_pickle) == ((1,), {}, "")
    assert b"__init__" in base64.b64decode(options.class_pickle), "its module need not be there"


def test_arguments_that_json_cannot_carry_are_pickled():
    options = DeploymentActorConfig(name="x", actor_class=Counter, init_kwargs={"start": (1, 2)}).to_options()
    assert (options.init_args, options.init_kwargs) == ((), {})
    assert unpickled(options.arguments_pickle) == ((), {"start": (1, 2)})


def test_a_class_named_by_its_path_is_imported_when_the_application_is_built():
    [read] = Model.deployment_actors
    assert read == ActorOptions("counter", f"{HERE}:Counter", init_kwargs={"start": 1})
    [built] = build(plain_app, Run("app")).deployments[0].options.deployment_actors
    assert unpickled(built.class_pickle)(2).count == 2


def test_options_survive_their_way_through_json():
    options = build(plain_app, Run("app")).deployments[0].options
    assert options_from_json(options_to_json(options)) == options


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"name": 3}, ValueError, "name of a deployment actor must be text"),
        ({"name": ""}, ValueError, "must not be empty"),
        ({"actor_class": 3}, ValueError, "must be a class or an import path"),
        ({"actor_class": "Counter"}, ValueError, "must be a class or an import path"),
        ({"init_args": "abc"}, ValueError, "init_args must be a list or tuple"),
        ({"init_kwargs": [1]}, ValueError, "init_kwargs must be a dict"),
        ({"actor_options": {"lifetime": "detached"}}, ValueError, "'lifetime', which the mesh decides"),
        ({"actor_options": {"num_cpus": object()}}, ValueError, "JSON-serializable"),
        ({"init_args": [threading.Lock()]}, ValueError, "cannot be pickled"),
        ({"misspelt": 1}, ValueError, "has no field 'misspelt'"),
        (
            {"actor_options": {"runtime_env": {"env_vars": {"RAY_SERVE_INTERNAL_DEPLOYMENT_NAME": "x"}}}},
            ValueError,
            "must not set RAY_SERVE_INTERNAL_DEPLOYMENT_NAME",
        ),
    ],
)
def test_mistakes_are_refused(changes, error, text):
    with pytest.raises(error, match=text):
        deployment(deployment_actors=[{"name": "counter", "actor_class": Counter, **changes}])(Counter)


def test_names_are_unique_in_a_deployment():
    with pytest.raises(ValueError, match=r"unique names. Duplicate name\(s\): \['counter'\]"):
        Model.options(deployment_actors=[DeploymentActorConfig(name="counter", actor_class=Counter)] * 2)
    with pytest.raises(ValueError, match="must be a list"):
        Model.options(deployment_actors={"name": "counter"})
    assert Model.options(deployment_actors=None).deployment_actors == ()


def test_reserved_variables_of_the_replicas_are_refused_with_actors_only():
    environment = {"runtime_env": {"env_vars": {"RAY_SERVE_INTERNAL_DEPLOYMENT_APP_NAME": "x"}}}
    assert deployment(ray_actor_options=environment)(Counter).ray_actor_options["runtime_env"]
    with pytest.raises(ValueError, match="must not set RAY_SERVE_INTERNAL_DEPLOYMENT_APP_NAME"):
        Model.options(ray_actor_options=environment)


def test_the_mesh_keeps_what_is_its_own():
    options = {"name": "mine", "max_restarts": 3, "num_cpus": 0}
    config = DeploymentActorConfig(name="x", actor_class=Counter, actor_options=options)
    assert config.actor_options == {"num_cpus": 0}


def declared(*actors: dict[str, object]) -> tuple[ActorOptions, ...]:
    """The actors of an application whose file says this."""
    schema = ServeApplicationSchema.model_validate(
        {"import_path": f"{HERE}:plain_app", "deployments": [{"name": "Model", "deployment_actors": list(actors)}]}
    )
    request = build_pb2.BuildRequest(config_json=schema.model_dump_json(exclude_unset=True), code_version="v1")
    answer = build_pb2.BuildResponse.FromString(build_application(request.SerializeToString()))
    assert not answer.failure, answer.failure
    built = Build("v1", application_from_proto(answer.spec), "", dict(answer.by_value))
    return merged(built, schema, ()).deployments[0].options.deployment_actors


def test_a_file_replaces_the_actors_of_the_code():
    [actor] = declared({"name": "other", "actor_class": f"{HERE}:Other", "init_args": [5]})
    assert (actor.name, actor.actor_class, actor.init_args) == ("other", f"{HERE}:Other", (5,))
    assert unpickled(actor.class_pickle)(5).count == 5
    assert declared() == ()


def test_a_class_that_is_not_there_fails_the_build():
    schema = {"import_path": f"{HERE}:plain_app", "deployments": [{"name": "Model"}]}
    schema["deployments"] = [{"name": "Model", "deployment_actors": [{"name": "x", "actor_class": "no_module:X"}]}]
    text = ServeApplicationSchema.model_validate(schema).model_dump_json(exclude_unset=True)
    answer = build_application(build_pb2.BuildRequest(config_json=text).SerializeToString())
    assert "no module named 'no_module'" in build_pb2.BuildResponse.FromString(answer).failure


def test_a_file_is_checked_without_importing_classes():
    actors = [{"name": "x", "actor_class": "not_here.yet:X"}]
    assert DeploymentSchema.model_validate({"name": "Model", "deployment_actors": actors}).deployment_actors == actors
    with pytest.raises(ValueError, match="unique names"):
        DeploymentSchema.model_validate({"name": "Model", "deployment_actors": actors * 2})


def test_build_writes_actors_that_a_file_can_name():
    [actor] = entry_of("Model", Model)["deployment_actors"]
    assert actor == {"name": "counter", "actor_class": f"{HERE}:Counter", "init_kwargs": {"start": 1}}

    class Local:
        pass

    local = Model.options(deployment_actors=[DeploymentActorConfig(name="x", actor_class=Local)])
    assert "deployment_actors" not in entry_of("Model", local), "it stays in the code"


def test_only_replicas_have_actors_and_only_actors_are_some():
    with pytest.raises(MeshServeException, match="may only be called from within"):
        get_deployment_actor("counter")
    with pytest.raises(MeshServeException, match="may only be called from within"):
        get_deployment_actor_context()
    context = DeploymentActorContext(DeploymentId("app", "Model"), "counter", "v1")
    assert (context.app_name, context.deployment) == ("app", "Model")
