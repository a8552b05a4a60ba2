"""The Ray cluster under a program: one that runs, or one that is started for it.

A program's own cluster has more logical CPUs than the machine has cores. CPUs are how Ray counts places, not how it
shares cores, and a deployment takes one place by default: five deployments would never be placed on a laptop with two.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.services import find_bootstrap_address

from meshserve.errors import ControllerUnreachableError
from meshserve.settings import NAMESPACE, Settings

LOCAL_CPUS = 64
"""Logical CPUs of a cluster that is started here, unless the machine has more cores."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster this process is connected to.

    Attributes:
        address: of its head, `host:port`.
        started: it was started by this process, and ends with it.
        nodes: how many machines it has.
    """

    address: str
    started: bool
    nodes: int

    def __str__(self) -> str:
        if self.started:
            return f"a local Ray cluster, started for this program ({self.address})"
        return f"the running Ray cluster at {self.address} ({self.nodes} node{'s' if self.nodes != 1 else ''})"


def join_or_start(address: str = "", runtime_env: Mapping[str, Any] | None = None) -> Cluster:
    """Connects this process to a cluster, starting one when there is none to join. Blocks for seconds.

    Args:
        address: of the cluster to join; empty for the one this process is already connected to, else the one that
            `RAY_ADDRESS` names, else the one that `ray start` started on this machine, else a new one.
        runtime_env: of this program and what it starts, in Ray's terms; for nothing when it is connected already.

    Raises:
        ConnectionError: the cluster to join does not answer.
    """
    if not ray.is_initialized():
        if not (found := address_to_join(address)):
            cpus = max(os.cpu_count() or 1, LOCAL_CPUS)
            _init("local", num_cpus=cpus, include_dashboard=False, runtime_env=runtime_env)
            return _cluster(started=True)
        _join(found, runtime_env=runtime_env)
    return _cluster(started=False)


def join(address: str = "", log_to_driver: bool = True) -> Cluster:
    """Connects this process to a cluster that runs, be it one that another program started for itself.

    Args:
        address: as for `join_or_start`, but the last resort is any cluster found running on this machine.
        log_to_driver: whether this program prints what the processes print that it starts.

    Raises:
        ControllerUnreachableError: none was named and none runs.
        ConnectionError: the cluster to join does not answer.
    """
    if not ray.is_initialized():
        if found := address_to_join(address):
            _join(found, log_to_driver=log_to_driver)
        else:
            try:
                _init("auto", log_to_driver=log_to_driver)
            except ConnectionError as error:
                raise ControllerUnreachableError("no Ray cluster runs on this machine") from error
    return _cluster(started=False)


def address_to_join(address: str = "") -> str:
    """The cluster that `join_or_start` would join; empty when it would start one."""
    if ray.is_initialized():
        return str(ray.get_runtime_context().gcs_address)
    return address or Settings.from_environment().address or _started_on_this_machine()


def _started_on_this_machine() -> str:
    """The address of the cluster that `ray start` noted on this machine, if it still listens there; else empty.

    A cluster that was killed leaves its note behind.
    """
    noted: str | None = find_bootstrap_address(None)
    return noted if noted and _listens(noted) else ""


def _join(address: str, **options: Any) -> None:
    if not _listens(address):
        # Ray would try for minutes.
        raise ConnectionError(
            f"no Ray cluster answers at {address}: start one with `ray start --head`, or name another"
        )
    if _is_here(address):
        # A cluster on this machine asks for this machine's token as soon as there is one. Ray shows it by itself only
        # to a cluster that it has found by itself.
        logging.getLogger("ray").setLevel(logging.ERROR)
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        _init(address, **options)
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}. If it asks for a token, set RAY_AUTH_MODE=token and see `ray get-auth-token`"
        ) from error


def _is_here(address: str) -> bool:
    """Whether `host:port` is on this machine."""
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", ray.util.get_node_ip_address())


def _listens(address: str) -> bool:
    """Whether somebody listens at `host:port`; an address of another form is left to Ray."""
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def leave() -> None:
    """Disconnects this process from Ray; a cluster that it started ends."""
    ray.shutdown()


def is_connected() -> bool:
    """Whether this process is connected to a Ray cluster."""
    return bool(ray.is_initialized())


def driver_runtime_env() -> dict[str, Any]:
    """The runtime environment of this program, as given to `ray.init`; empty for none."""
    return dict(ray.get_runtime_context().runtime_env) if ray.is_initialized() else {}


def _init(address: str, **options: Any) -> None:
    # Ray's own news (which address, which dashboard) would come between the lines of who called this.
    ray.init(address, namespace=NAMESPACE, logging_level=logging.ERROR, **options)


def _cluster(started: bool) -> Cluster:
    nodes = sum(record["Alive"] for record in ray.nodes())
    return Cluster(ray.get_runtime_context().gcs_address, started, nodes)
