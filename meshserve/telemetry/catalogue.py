"""Every metric of the mesh.

Labels added to all series of a process when they are shown: `component` (proxy, replica, controller) and, in a replica,
`replica`, and `application` and `deployment` where the metric has none of its own. So `replica` is always who counted,
while `application` and `deployment` of the router and the session name whom the calls are for.
"""

from __future__ import annotations

from meshserve.telemetry.declared import (
    BYTES,
    COUNT_BUCKETS,
    LATENCY_BUCKETS,
    SECONDS,
    START_BUCKETS,
    Declared,
    counter,
    gauge,
    histogram,
)

_APP = "application"
_TO = ("application", "deployment")
_HTTP = ("application", "route", "method")
_GRPC = ("grpc_type", "grpc_service", "grpc_method")

# -- ingress ---------------------------------------------------------------------------------------------------------

HTTP_REQUESTS = counter(
    "meshserve_http_requests_total",
    "HTTP requests answered. `route` is the pattern or the prefix, empty when none matched; `method` OTHER for one "
    "that HTTP does not know.",
    *_HTTP,
    "status",
)
HTTP_DURATION = histogram(
    "meshserve_http_request_duration_seconds",
    "From a request's head to the end of its response.",
    *_HTTP,
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)
INGRESS_IN_FLIGHT = gauge("meshserve_ingress_requests_in_flight", "Requests that are not over.", "protocol")

GRPC_STARTED = counter("grpc_server_started_total", "Calls begun at the gRPC ingress.", *_GRPC)
GRPC_HANDLED = counter("grpc_server_handled_total", "Calls ended at the gRPC ingress, by code.", *_GRPC, "grpc_code")
GRPC_HANDLING = histogram(
    "grpc_server_handling_seconds",
    "From a call's begin to its end at the gRPC ingress.",
    *_GRPC,
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)

# -- the caller's side -------------------------------------------------------------------------------------------------

ROUTER_CALLS = counter("meshserve_router_calls_total", "Calls made from this process to a deployment.", *_TO)
ROUTER_WAIT = histogram(
    "meshserve_router_wait_seconds",
    "How long calls waited for a replica; one that found a replica at once counts as 0.",
    *_TO,
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)
ROUTER_QUEUED = gauge("meshserve_router_queued_calls", "Calls that wait for a replica.", *_TO)
ROUTER_RUNNING = gauge("meshserve_router_running_calls", "Calls at replicas.", *_TO)
ROUTER_REPLICAS = gauge("meshserve_router_replicas", "Replicas this process routes to.", *_TO)
ROUTER_REJECTIONS = counter(
    "meshserve_router_rejections_total", "Calls that a full replica sent back, and that went to another one.", *_TO
)
ROUTER_FAILURES = counter(
    "meshserve_router_failures_total",
    "Calls that ended without a result, by kind: user, cancelled, deadline, backpressure, unavailable, replica_lost, "
    "invalid, internal.",
    *_TO,
    "kind",
)

SESSION_FRAMES = histogram(
    "meshserve_session_message_frames",
    "Frames per message sent on sessions; `side` is caller or replica.",
    "side",
    *_TO,
    buckets=COUNT_BUCKETS,
)
SESSION_SENT = counter(
    "meshserve_session_sent_bytes_total", "Payload sent on sessions, without frames' heads.", "side", *_TO, unit=BYTES
)
SESSION_OPENED = counter("meshserve_sessions_opened_total", "Sessions begun from this process.", *_TO)
SESSION_BROKEN = counter("meshserve_sessions_broken_total", "Sessions that broke instead of being closed.", *_TO)
SESSION_WAITING = gauge("meshserve_session_waiting_streams", "Streams that wait for credits to send more.", *_TO)

# -- the replica -------------------------------------------------------------------------------------------------------

REPLICA_CALLS = counter(
    "meshserve_replica_calls_total",
    "Calls that user code ended, by outcome: ok, or the kind of failure.",
    *_TO,
    "method",
    "outcome",
)
REPLICA_DURATION = histogram(
    "meshserve_replica_call_duration_seconds",
    "From a call's acceptance to its end; waiting for a thread counts.",
    *_TO,
    "method",
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)
REPLICA_ONGOING = gauge("meshserve_replica_ongoing_calls", "Calls accepted and not ended.", *_TO)
REPLICA_LIMIT = gauge("meshserve_replica_max_ongoing_calls", "Calls a replica accepts at a time.", *_TO)
REPLICA_REFUSED = counter(
    "meshserve_replica_refused_calls_total", "Calls not accepted: full, draining or expired.", *_TO, "reason"
)

BATCH_SIZE = histogram("meshserve_batch_size", "Members of batches of a function.", "function", buckets=COUNT_BUCKETS)
BATCH_WAIT = histogram(
    "meshserve_batch_wait_seconds",
    "How long the first member of a batch waited for it to begin.",
    "function",
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)
BATCH_DURATION = histogram(
    "meshserve_batch_duration_seconds",
    "How long the function ran for a batch.",
    "function",
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)
BATCH_QUEUED = gauge("meshserve_batch_queued_calls", "Calls that wait for a batch.", "function")

MODEL_REQUESTS = counter(
    "meshserve_model_requests_total", "Models asked for: hit, or miss when it had to be loaded.", "result"
)
MODEL_LOAD = histogram("meshserve_model_load_seconds", "Loading a model.", unit=SECONDS, buckets=START_BUCKETS)
MODEL_UNLOAD = histogram("meshserve_model_unload_seconds", "Destroying a model.", unit=SECONDS, buckets=START_BUCKETS)
MODEL_FAILURES = counter("meshserve_model_load_failures_total", "Models that could not be loaded.")
MODELS_HELD = gauge("meshserve_models_held", "Models in memory or being loaded.")

# -- the controller ----------------------------------------------------------------------------------------------------

CONTROL_TURNS = histogram(
    "meshserve_control_loop_duration_seconds",
    "One turn of the control loop: events folded, a plan made.",
    unit=SECONDS,
    buckets=LATENCY_BUCKETS,
)
CONTROL_ACTIONS = counter("meshserve_control_actions_total", "Actions the control loop has ordered.", "action")
CONTROL_FAILURES = counter(
    "meshserve_control_failures_total",
    "What the control loop heard that went wrong, other than starts and health checks of replicas.",
    "event",
)
REPLICA_STARTS = histogram(
    "meshserve_replica_start_duration_seconds",
    "From the decision to start a replica to its being ready.",
    *_TO,
    unit=SECONDS,
    buckets=START_BUCKETS,
)
REPLICA_START_FAILURES = counter("meshserve_replica_start_failures_total", "Replicas that did not start.", *_TO)
HEALTH_FAILURES = counter("meshserve_replica_health_check_failures_total", "Health checks that failed.", *_TO)
SCALING_TARGET = gauge("meshserve_autoscaling_target_replicas", "Replicas the autoscaler wants.", *_TO)
SCALING_LOAD = gauge("meshserve_autoscaling_calls", "Calls the autoscaler counts, queued and running.", *_TO)
DEPLOYMENT_TARGET = gauge("meshserve_deployment_target_replicas", "Replicas wanted.", *_TO)
DEPLOYMENT_REPLICAS = gauge("meshserve_deployment_replicas", "Replicas there are, by state.", *_TO, "state")
DEPLOYMENT_STATUS = gauge("meshserve_deployment_status", "1 for the status a deployment is in.", *_TO, "status")
APPLICATION_STATUS = gauge("meshserve_application_status", "1 for the status an application is in.", _APP, "status")
PROXY_STATUS = gauge("meshserve_proxy_status", "1 for the status a proxy is in.", "node_id", "status")

# -- every process -----------------------------------------------------------------------------------------------------

LOOP_LAG = histogram(
    "meshserve_event_loop_lag_seconds",
    "How much later than due a timer rang, every two seconds; `loop` is io or user.",
    "loop",
    unit=SECONDS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
LOG_DROPPED = counter("meshserve_log_dropped_lines_total", "Log lines dropped because the file could not keep up.")
SCRAPE_PROCESSES = gauge(
    "meshserve_scrape_processes", "Processes of this node in this answer: fresh, or stale (last known values).", "state"
)

CATALOGUE: tuple[Declared, ...] = tuple(value for value in tuple(globals().values()) if isinstance(value, Declared))
"""All of the above, in this order."""

BY_NAME: dict[str, Declared] = {declared.name: declared for declared in CATALOGUE}

FROM_PROMETHEUS_CLIENT = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
    "python_gc_collections_total",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_info",
)
"""What the library says of every process besides."""
