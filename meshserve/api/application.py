"""Applications: bound deployments; and the calls between them that are bound as well, which make deployment graphs.

    model = Model.bind("weights")                # an application
    prepared = preprocess.bind(inp)              # a function with arguments of its call: a call, and an application
    answer = model.predict.bind(prepared, top=3) # a method with arguments of its call: the same

A call given to another call is that call's result there; see `meshserve.dag`. A call is an application whose root is
the call: when it is run, a deployment that serves it is put in front.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

if TYPE_CHECKING:
    from meshserve.api.deployment import Deployment


class Application:
    """A bound deployment with everything it was bound to; what `run` runs.

    `application.method.bind(...)` binds a call of one of its methods.
    """

    def __init__(self, bound_deployment: Deployment) -> None:
        self._bound_deployment = bound_deployment

    def __getattr__(self, name: str) -> BoundMethod:
        """A method of the deployment's class.

        Raises:
            AttributeError: the class has no such method; or this is an attempt to bind or to call what is bound.
        """
        if name in ("bind", "remote"):
            _refuse(self, name)
        bound: Deployment | None = vars(self).get("_bound_deployment")
        target = None if bound is None else bound.func_or_class
        is_protocol = name.startswith("__") and name != "__call__"
        if not inspect.isclass(target) or is_protocol or not callable(getattr(target, name, None)):
            raise AttributeError(
                f"'Application' object has no attribute {name!r}: {self!r} has no method of that name."
            )
        return BoundMethod(self, name)

    def __repr__(self) -> str:
        return f"Application({vars(self).get('_bound_deployment')!r})"


class BoundMethod:
    """A method of a bound deployment, to be bound in its turn.

    Args:
        application: the deployment.
        name: of the method.
    """

    def __init__(self, application: Application, name: str) -> None:
        self._application = application
        self._name = name

    def bind(self, *args: Any, **kwargs: Any) -> CallNode:
        """A call of the method.

        Args:
            args: arguments of the call. Inputs and other calls among them, also inside containers and objects, are
                replaced at every execution of the graph.
            kwargs: the same by name.
        """
        return CallNode(self._application, self._name, args, kwargs)

    def remote(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not for what is not running; raises AttributeError."""
        _refuse(self, "remote")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not bound: write .{self._name}.bind(...).")

    def __repr__(self) -> str:
        return f"{self._application!r}.{self._name}"


class CallNode(Application):
    """One call of a deployment graph: made once per execution, however many others it is an argument of.

    Args:
        target: the deployment that is called.
        method: its method; `__call__` for a function.
        call_args: the arguments of the call.
        call_kwargs: the arguments by name.
    """

    def __init__(
        self, target: Application, method: str, call_args: tuple[Any, ...], call_kwargs: dict[str, Any]
    ) -> None:
        super().__init__(target._bound_deployment)
        self.target = target
        self.method = method
        self.call_args = call_args
        self.call_kwargs = call_kwargs
        self._stable_uuid = uuid4().hex

    def get_stable_uuid(self) -> str:
        """What identifies the node; the key in `get_intermediate_object_refs`."""
        return self._stable_uuid

    def __getattr__(self, name: str) -> NoReturn:
        """A call has no methods; raises AttributeError."""
        if name in ("bind", "remote"):
            _refuse(self, name)
        raise AttributeError(f"{self!r} has no attribute {name!r}.")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: give it to another bind(), or run it.")

    def __repr__(self) -> str:
        name = vars(self)["_bound_deployment"].name
        return f"{name}.bind(...)" if self.method == "__call__" else f"{name}.{self.method}.bind(...)"


def _refuse(what: object, name: str) -> NoReturn:
    """Binding and calling are done once each: binding before anything runs, calling by a handle of what runs."""
    why = (
        f"{what!r} is bound already; bind() cannot be used again on it."
        if name == "bind"
        else f"{what!r} is not running: run the application, and call remote() on the handle run() returns."
    )
    raise AttributeError(f"{type(what).__name__!r} object has no attribute {name!r}: {why}")
