"""Writing graphs down: what may be bound to what, and what is built from it."""

import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pytest

from meshserve import Application, DeploymentHandle, deployment
from meshserve.api.graph import Run, build
from meshserve.dag import CallNode, InputNode, MeshServeDAGHandle
from meshserve.drivers import DAGDriver
from meshserve.model.control import ApplicationSpec
from meshserve.user.dag_graph import Around, FromCall, FromInput, Given, Graph


@deployment
class Model:
    def __init__(self, weight: Any = 1) -> None:
        self.weight = weight

    def predict(self, value: Any) -> Any:
        return value * self.weight


@deployment
def prepare(value: Any = 0) -> Any:
    return value + 1


@deployment
def combine(*values: Any, **named: Any) -> Any:
    return sum(values) + sum(named.values())


@deployment
class Driver:
    def __init__(self, *graphs: Any, **named: Any) -> None:
        self.graphs = graphs


@dataclass
class Box:
    inner: Any


def built(app: Application) -> ApplicationSpec:
    return build(app, Run("app"))


def names(app: Application) -> list[str]:
    return [one.id.name for one in built(app).deployments]


def constructor_arguments(app: Application) -> tuple[Any, ...]:
    spec = built(app)
    _, args, _ = cloudpickle.loads(spec.deployments[-1].code)
    assert isinstance(args, tuple)
    return args


def graph_of(app: Application) -> Graph:
    (handle,) = constructor_arguments(Driver.bind(app))
    assert isinstance(handle, MeshServeDAGHandle)
    return handle._graph


def test_methods_and_functions_are_bound_with_the_arguments_of_their_calls() -> None:
    with InputNode() as inp:
        call = combine.bind(Model.bind(2).predict.bind(prepare.bind(inp)), extra=5)

    graph = graph_of(call)

    assert [(str(one.deployment), one.method) for one in graph.calls] == [
        ("app#prepare", "__call__"),
        ("app#Model", "predict"),
        ("app#combine", "__call__"),
    ]
    assert [one.args for one in graph.calls] == [(FromInput(0),), (FromCall(0),), (FromCall(1),)]
    assert graph.calls[-1].kwargs == (("extra", Given(5)),)


def test_a_node_used_twice_is_one_call_of_one_deployment() -> None:
    with InputNode() as inp:
        shared = prepare.bind(inp)
        model = Model.bind()
        diamond = combine.bind(model.predict.bind(shared), model.predict.bind(shared), shared)

    graph = graph_of(diamond)

    assert [one.deployment.name for one in graph.calls] == ["prepare", "Model", "Model", "combine"]
    assert graph.calls[-1].args == (FromCall(1), FromCall(2), FromCall(0))
    assert names(Driver.bind(diamond)) == ["prepare", "Model", "combine", "Driver"]


def test_each_bound_function_is_a_deployment_of_its_own() -> None:
    with InputNode() as inp:
        graph = combine.bind(prepare.bind(inp), prepare.bind(inp))

    assert names(Driver.bind(graph)) == ["prepare", "prepare_1", "combine", "Driver"]


def test_nodes_are_found_inside_containers_and_objects() -> None:
    with InputNode() as inp:
        call = combine.bind([prepare.bind(inp), {"part": inp.x}], boxed=Box(inp["y"]))

    graph = graph_of(call)

    (listed,), ((_, boxed),) = graph.calls[-1].args, graph.calls[-1].kwargs
    assert isinstance(listed, Around) and listed.parts == (FromCall(0), FromInput(1))
    assert isinstance(boxed, Around) and boxed.parts == (FromInput(2),)
    assert [read.key for read in graph.reads] == [None, "x", "y"]


def test_a_bound_class_among_the_arguments_of_a_call_is_a_handle_there() -> None:
    with InputNode() as inp:
        graph = graph_of(combine.bind(inp, Model.bind()))

    handle = graph.calls[-1].args[1]
    assert isinstance(handle, Given) and isinstance(handle.value, DeploymentHandle)
    assert handle.value.deployment_name == "Model"


def test_a_function_bound_without_arguments_is_a_handle_to_a_constructor_and_a_call_to_a_call() -> None:
    (handle,) = constructor_arguments(Driver.bind(prepare.bind()))
    assert isinstance(handle, DeploymentHandle)

    graph = graph_of(combine.bind(prepare.bind()))
    assert [one.deployment.name for one in graph.calls] == ["prepare", "combine"]


def test_graphs_are_handles_in_every_constructor_not_only_in_that_of_the_root() -> None:
    with InputNode() as inp:
        inner = Driver.options(name="Inner").bind(prepare.bind(inp))

    spec = built(Driver.bind(inner))

    _, (handle,), _ = cloudpickle.loads(next(one.code for one in spec.deployments if one.id.name == "Inner"))
    assert isinstance(handle, MeshServeDAGHandle)
    inner_spec = next(one for one in spec.deployments if one.id.name == "Inner")
    assert [one.name for one in inner_spec.uses] == ["prepare"]


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    with InputNode() as inp:
        call = prepare.bind(inp)
        model = Model.bind()
        for _ in range(3000):
            call = model.predict.bind(call)

    assert len(graph_of(call).calls) == 3001


def test_a_cycle_through_a_container_is_refused() -> None:
    arguments: list[Any] = []
    call = combine.bind(arguments, InputNode())
    arguments.append(call)

    with pytest.raises(ValueError, match="its own argument"):
        graph_of(call)


def test_one_graph_has_one_input() -> None:
    with InputNode() as first, InputNode() as second:
        call = combine.bind(first, second)

    with pytest.raises(AssertionError, match="only one unique InputNode"):
        graph_of(call)


def test_two_graphs_of_a_driver_may_have_an_input_each() -> None:
    with InputNode() as first, InputNode() as second:
        app = DAGDriver.bind({"/a": prepare.bind(first), "/b": prepare.bind(second)})

    assert names(app) == ["prepare", "prepare_1", "DAGDriver"]


def test_the_input_takes_no_arguments_but_its_type() -> None:
    InputNode(input_type=int)
    with pytest.raises(ValueError, match="no arguments"):
        InputNode(1)
    with pytest.raises(ValueError, match="no arguments"):
        InputNode(kind=int)


def test_parts_of_the_input_are_first_level_and_one_node_each() -> None:
    with InputNode() as inp:
        assert inp[0] is inp[0]
        assert inp["a"] is inp.a  # the first way it was written decides how it is read
        assert not inp.a.by_attribute
    with pytest.raises(AssertionError, match="position or by text"):
        inp[1.5]  # type: ignore[index]  # wrong on purpose
    with pytest.raises(TypeError):
        inp[0][1]  # type: ignore[index]  # wrong on purpose
    with pytest.raises(TypeError):
        list(inp)


def test_what_is_bound_is_bound_once_and_not_called() -> None:
    with InputNode() as inp:
        application, call = Model.bind(), Model.bind().predict.bind(inp)

    for bound in (application, call, prepare.bind(inp)):
        with pytest.raises(AttributeError, match="cannot be used again"):
            bound.bind()
        with pytest.raises(AttributeError, match="not running"):
            bound.remote()
    with pytest.raises(AttributeError, match="not running"):
        application.predict.remote()


def test_a_method_that_the_class_lacks_is_an_attribute_error() -> None:
    for wrong in (Model.bind(), prepare.bind(), prepare.bind(InputNode())):
        with pytest.raises(AttributeError):
            wrong.no_such_method  # noqa: B018 - the access is the test
    assert not hasattr(Model.bind(), "weight")  # an attribute of instances, not a method


def test_nodes_do_not_pickle() -> None:
    with InputNode() as inp:
        nodes = [inp, inp[0], prepare.bind(inp), Model.bind().predict]

    for node in nodes:
        with pytest.raises(TypeError, match=r"pickled|not bound"):
            pickle.dumps(node)


def test_an_unbound_method_and_an_input_mean_nothing_to_a_constructor() -> None:
    with pytest.raises(TypeError, match="is not bound"):
        built(Driver.bind(Model.bind().predict))
    with pytest.raises(TypeError, match="input was given to the constructor"):
        built(Driver.bind(InputNode()))


def test_an_argument_that_cannot_be_sent_names_the_call() -> None:
    import threading

    with pytest.raises(TypeError, match=r"combine.bind.* argument 'lock'"):
        graph_of(combine.bind(InputNode(), lock=threading.Lock()))


def test_a_graph_is_not_blamed_for_what_stands_beside_it() -> None:
    import threading

    with InputNode() as inp, pytest.raises(TypeError, match=r"constructor argument 2 is a lock"):
        built(Driver.bind(prepare.bind(inp), threading.Lock()))


def test_a_graph_may_be_the_root() -> None:
    with InputNode() as inp:
        spec = built(Model.bind().predict.bind(inp))

    assert ([one.id.name for one in spec.deployments], spec.ingress) == (["Model", "GraphIngress"], "GraphIngress")


def test_a_function_bound_with_plain_values_is_no_root() -> None:
    with pytest.raises(ValueError, match="no constructor"):
        built(prepare.bind(5))
    assert names(DAGDriver.bind(prepare.bind(5))) == ["prepare", "DAGDriver"]


def test_a_call_is_an_application_for_what_runs_applications() -> None:
    assert isinstance(prepare.bind(InputNode()), Application)
    assert isinstance(prepare.bind(InputNode()), CallNode)
    assert not isinstance(prepare.bind(), CallNode)
