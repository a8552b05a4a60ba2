"""The only reader of environment variables, and the fixed numbers of the mesh with their reasons.

One frozen object made once per process; tests make their own. Anything a user should decide is an option of a
deployment, of `start` or of the configuration file; what stands here is machinery.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

NAMESPACE = "meshserve"
"""The Ray namespace of all actors, and the prefix of all keys."""

CONTROLLER_NAME = "MESHSERVE_CONTROLLER"
"""The Ray name of the controller's actor."""

TOKEN_KEY = "meshserve-token"
"""The metadata key of the mesh token."""

INLINE_LIMIT_BYTES = 1 << 20
"""Bodies above this size do not ride the session (DESIGN section 6); measured where the ways cross."""

SHARED_FROM_BYTES = 128 << 10
"""Values from this size on go through shared memory between processes of one machine; measured where the ways cross."""

LARGE_ITEM_BYTES = 16 << 20
"""Items of streams from this size on that are not in shared memory go through Ray's object store: those of output wait
at their replica until they are asked for, those of input are brought to it. 1 GB took 31 s in a session. Either takes
some 10 ms more, in which smaller ones have come."""

CREDIT_BYTES = 4096
"""What one credit of a stream is worth; an item costs at least one."""

INITIAL_CREDITS = 1024
"""The first allowance of a stream: 4 MiB, or 1,024 small items in flight."""

SESSION_MESSAGE_BYTES = 1 << 20
"""A session message is closed at about this size, so that frames behind a large one wait shortly."""

SLOW_STARTUP_S = 30.0
"""A replica that takes so long to start is called slow in the status of its deployment."""

PROXY_MIN_DRAIN_S = 30.0
"""A proxy that is no longer needed stays at least so long: load balancers in front need that to notice."""

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""The most gRPC can carry; used inside the mesh, where the session's own limits apply."""


LARGEST_BODY_BYTES = MAX_MESSAGE_BYTES - (64 << 20)
"""The largest body that rides a session where there is no other way; a message that gRPC refuses would end the session
for all calls in it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment decides.

    Attributes:
        local_testing_mode: run applications in this process without Ray.
        log_level: the level of the mesh's own log.
        new_handle_api: whether handles are DeploymentHandles; the legacy ones else.
        address: the Ray cluster to join; empty to start one.
        log_max_bytes: a log file that would be longer is put aside (Ray's own setting for its logs).
        log_backups: how many of those are kept.
        log_encoding: "TEXT" or "JSON", where `logging_config` does not say.
        log_to_stderr: whether logs go to standard error as well; what is printed is logged if not.
        tracing_exporter: import path of a function that gives OpenTelemetry span processors; naming one turns
            tracing on.
        shared_memory_bytes: the most a process takes for large values that others on the machine read in place; 0 for
            none at all.
        tracing_ratio: of requests to trace, within 0 and 1.
        prometheus_host: where autoscaling policies find Prometheus; empty for nowhere.
        prometheus_headers: sent along with their queries, as JSON.
        http_host: where the HTTP ingress listens when `HTTPOptions` do not say.
        http_keep_alive_s: how long the HTTP ingress keeps idle connections, whatever `HTTPOptions` say; 0 for what
            they say.
        http_middlewares: import path of a function that gives Starlette middlewares for the HTTP ingress.
        controller_callback: import path of a function that the controller's process calls when it starts.
        proxy_min_drain_s: how long a proxy that is no longer needed stays at least. Read where the mesh is started.
        slow_startup_s: a replica that takes so long to start is called slow in the status of its deployment. Read by
            the controller.
        user_code_apart: user code has a loop and a thread of its own; else it shares the I/O loop, which saves four
            changes of thread a call and lets code that blocks keep everything waiting. Read by replicas.
        pack_replicas: fill machines one after the other with replicas; else they are spread. Read by the controller.
        prefer_same_node: proxies prefer replicas on their node. Read by proxies.
        prefer_same_zone: callers prefer replicas in their availability zone. Read by every caller.
        actor_check_period_s: how often the health of shared actors is checked. Read by the controller, as the next two.
        actor_check_timeout_s: how long an answer may take.
        actor_strikes: after so many failures in a row such an actor is made anew.
    """

    local_testing_mode: bool = False
    log_level: str = "INFO"
    new_handle_api: bool = True
    address: str = ""
    log_max_bytes: int = 512 << 20
    log_backups: int = 5
    log_encoding: str = "TEXT"
    log_to_stderr: bool = True
    tracing_exporter: str = ""
    tracing_ratio: float = 0.01
    prometheus_host: str = ""
    prometheus_headers: str = ""
    http_host: str = "127.0.0.1"
    http_keep_alive_s: int = 0
    http_middlewares: str = ""
    controller_callback: str = ""
    proxy_min_drain_s: float = PROXY_MIN_DRAIN_S
    slow_startup_s: float = SLOW_STARTUP_S
    user_code_apart: bool = True
    pack_replicas: bool = False
    prefer_same_node: bool = True
    prefer_same_zone: bool = True
    actor_check_period_s: float = 10.0
    actor_check_timeout_s: float = 30.0
    actor_strikes: int = 3
    shared_memory_bytes: int = 1 << 30

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the settings once; a missing variable keeps the default."""
        legacy = environ.get("RAY_SERVE_ENABLE_NEW_HANDLE_API", "1")
        local = environ.get("RAY_SERVE_FORCE_LOCAL_TESTING_MODE", "0")
        # What one variable switches off together, where their own say nothing.
        comfort = "0" if environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED", "0") == "1" else "1"
        return Settings(
            local_testing_mode=environ.get("MESHSERVE_FORCE_LOCAL_TESTING_MODE", local) == "1",
            log_level=environ.get("MESHSERVE_LOG_LEVEL", "INFO").upper(),
            new_handle_api=environ.get("MESHSERVE_ENABLE_NEW_HANDLE_API", legacy) == "1",
            address=environ.get("RAY_ADDRESS", ""),
            log_max_bytes=int(environ.get("RAY_ROTATION_MAX_BYTES", 512 << 20)),
            log_backups=int(environ.get("RAY_ROTATION_BACKUP_COUNT", 5)),
            log_encoding="JSON" if environ.get("RAY_SERVE_LOG_ENCODING", "").upper() == "JSON" else "TEXT",
            log_to_stderr=environ.get("RAY_SERVE_LOG_TO_STDERR", comfort) != "0",
            tracing_exporter=environ.get("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", ""),
            tracing_ratio=float(environ.get("RAY_SERVE_TRACING_SAMPLING_RATIO", 0.01)),
            prometheus_host=environ.get("RAY_PROMETHEUS_HOST", ""),
            prometheus_headers=environ.get("RAY_PROMETHEUS_HEADERS", ""),
            http_host=environ.get("RAY_SERVE_DEFAULT_HTTP_HOST") or "127.0.0.1",
            http_keep_alive_s=int(environ.get("RAY_SERVE_HTTP_KEEP_ALIVE_TIMEOUT_S") or 0),
            http_middlewares=environ.get("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", ""),
            controller_callback=environ.get("RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH", ""),
            proxy_min_drain_s=float(environ.get("RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S") or PROXY_MIN_DRAIN_S),
            slow_startup_s=float(environ.get("RAY_SERVE_SLOW_STARTUP_WARNING_S") or SLOW_STARTUP_S),
            user_code_apart=environ.get("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", comfort) == "1",
            pack_replicas=environ.get("RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY", "0") == "1",
            prefer_same_node=environ.get("RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING", "1") == "1",
            prefer_same_zone=environ.get("RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING", "1") == "1",
            actor_check_period_s=float(environ.get("RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S", 10)),
            actor_check_timeout_s=float(environ.get("RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_TIMEOUT_S", 30)),
            actor_strikes=int(environ.get("RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_UNHEALTHY_THRESHOLD", 3)),
            shared_memory_bytes=int(environ.get("MESHSERVE_SHARED_MEMORY_BYTES", 1 << 30)),
        )
