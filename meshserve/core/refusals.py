"""What the control API refuses, and why. Checked against desired state at the instant a change is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from meshserve.model.control import ApplicationSpec, Declared, Desired
from meshserve.model.ids import DELIMITER, DeploymentId


class RefusalKind(Enum):
    """What would have to change for the request to be accepted."""

    INVALID = "the request"
    NOT_FOUND = "what it names has to exist"
    TAKEN = "what it claims has to be given up by another"
    NOT_NOW = "the state of the mesh"


class Refused(Exception):
    """A change of desired state that is not made.

    Args:
        reason: for programs, in capitals.
        message: for people.
        facts: what the message speaks of.
        where: the field of the request that is wrong; empty for none.
    """

    def __init__(
        self, kind: RefusalKind, reason: str, message: str, facts: Mapping[str, str] | None = None, where: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
        self.message = message
        self.facts = facts or {}
        self.where = where


@dataclass(frozen=True, slots=True)
class _Invalid:
    """One thing that is wrong with an application."""

    reason: str
    message: str
    where: str
    facts: Mapping[str, str] = field(default_factory=dict)


def check_open(desired: Desired) -> None:
    """Raises Refused when the mesh takes no more applications."""
    if desired.shutting_down:
        raise Refused(RefusalKind.NOT_NOW, "SHUTTING_DOWN", "The mesh is shutting down; start it again to use it.")


def check_applications(desired: Desired, specs: Sequence[ApplicationSpec]) -> None:
    """Raises Refused for applications that cannot be set."""
    check_open(desired)
    for spec in specs:
        for problem in (_name_problem(spec), _deployments_problem(spec), _prefix_problem(spec)):
            if problem is not None:
                facts = {"app": spec.name, **problem.facts}
                raise Refused(RefusalKind.INVALID, problem.reason, problem.message, facts, problem.where)
    _check_unique(specs)
    for spec in specs:
        _check_prefix_free(desired, spec, {other.name for other in specs})


def _name_problem(spec: ApplicationSpec) -> _Invalid | None:
    if not spec.name:
        return _Invalid("EMPTY_NAME", "An application has an empty name; give it one.", "applications.name")
    if DELIMITER in spec.name:
        text = f"Application name {spec.name!r} contains {DELIMITER!r}, which separates names; choose another."
        return _Invalid("BAD_NAME", text, "applications.name")
    return None


def _deployments_problem(spec: ApplicationSpec) -> _Invalid | None:
    names = Counter(one.id.name for one in spec.deployments)
    where = "applications.deployments"
    bad = next((name for name in names if not name or DELIMITER in name), None)
    if bad is not None:
        text = f"Deployment name {bad!r} of application {spec.name!r} is empty or contains {DELIMITER!r}."
        return _Invalid("BAD_NAME", text, where, {"deployment": bad})
    twice = next((name for name, times in names.items() if times > 1), None)
    if twice is not None:
        text = f"Application {spec.name!r} has two deployments called {twice!r}."
        return _Invalid("DUPLICATE_DEPLOYMENT", text, where, {"deployment": twice})
    if spec.ingress not in names:
        text = f"Application {spec.name!r} names {spec.ingress!r} as its ingress, but has only {sorted(names)}."
        return _Invalid("NO_INGRESS", text, "applications.ingress_deployment", {"deployment": spec.ingress})
    if spec.external_scaler_enabled and any(one.options.autoscaling_config for one in spec.deployments):
        text = f"Application {spec.name!r} is scaled from outside, so none of its deployments can be autoscaled."
        return _Invalid("TWO_SCALERS", text, "applications.external_scaler_enabled")
    return None


def _prefix_problem(spec: ApplicationSpec) -> _Invalid | None:
    prefix = spec.route_prefix
    if prefix is None:
        return None
    rule = ""
    if not prefix.startswith("/"):
        rule = "must start with '/'"
    elif prefix != "/" and prefix.endswith("/"):
        rule = "must not end with '/'"
    elif "{" in prefix or "}" in prefix:
        rule = "must not contain '{' or '}'"
    if not rule:
        return None
    text = f"Route prefix {prefix!r} of application {spec.name!r} {rule}."
    return _Invalid("BAD_ROUTE_PREFIX", text, "applications.route_prefix", {"route_prefix": prefix})


def _check_unique(specs: Sequence[ApplicationSpec]) -> None:
    for what, values in (
        ("name", [spec.name for spec in specs]),
        ("route prefix", [spec.route_prefix for spec in specs if spec.route_prefix is not None]),
    ):
        twice = next((value for value, times in Counter(values).items() if times > 1), None)
        if twice is not None:
            reason = f"DUPLICATE_{what.upper().replace(' ', '_')}"
            raise Refused(RefusalKind.INVALID, reason, f"Two of the applications have the {what} {twice!r}.")


def _check_prefix_free(desired: Desired, spec: ApplicationSpec, replaced: set[str]) -> None:
    for name, other in desired.applications.items():
        taken = spec.route_prefix is not None and other.spec.route_prefix == spec.route_prefix
        if taken and name not in replaced and not other.deleting:
            text = (
                f"Route prefix {spec.route_prefix!r} of application {spec.name!r} is already used by application "
                f"{name!r}; choose another one or delete that application first."
            )
            facts = {"app": spec.name, "route_prefix": spec.route_prefix or "", "used_by": name}
            raise Refused(RefusalKind.TAKEN, "ROUTE_PREFIX_TAKEN", text, facts, "applications.route_prefix")


def check_declared(desired: Desired, file: Declared) -> None:
    """Raises Refused for a configuration file that cannot be applied; that it is valid was checked before."""
    check_open(desired)
    names = {one.name for one in file.applications}
    leaving = {name for name, one in desired.applications.items() if one.declaration is not None}
    for one in file.applications:
        wanted = ApplicationSpec(one.name, (), "", one.route_prefix)
        _check_prefix_free(desired, wanted, names | leaving)


def check_scale(desired: Desired, deployment: DeploymentId) -> None:
    """Raises Refused for a deployment whose count cannot be set from outside."""
    check_open(desired)
    application = desired.applications.get(deployment.app)
    facts = {"app": deployment.app, "deployment": deployment.name}
    if application is None or deployment not in desired.deployments:
        text = f"There is no deployment {deployment.name!r} in an application {deployment.app!r}."
        raise Refused(RefusalKind.NOT_FOUND, "NO_SUCH_DEPLOYMENT", text, facts)
    if application.deleting or desired.deployments[deployment].deleting:
        text = f"Deployment {deployment} is being deleted."
        raise Refused(RefusalKind.NOT_NOW, "DEPLOYMENT_IS_BEING_DELETED", text, facts)
    if not application.spec.external_scaler_enabled:
        text = f"Application {deployment.app!r} was not set with external_scaler_enabled, which scaling it needs."
        raise Refused(RefusalKind.NOT_NOW, "EXTERNAL_SCALER_DISABLED", text, facts)
