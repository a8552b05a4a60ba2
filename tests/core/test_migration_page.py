"""The page on coming from Ray Serve: what it names exists."""

import importlib
import re
from pathlib import Path

import meshserve
from meshserve.settings import Settings
from meshserve.telemetry import catalogue
from meshserve.telemetry.declared import Declared

PAGE = (Path(meshserve.__file__).parent / "docs" / "migration.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]


def rows(title: str) -> list[tuple[str, str]]:
    """The left and right cells of a section's table, without its head."""
    cells = re.findall(r"^\| (.*?) \| (.*?) \|$", section(title), re.MULTILINE)
    return [(left, right) for left, right in cells[1:]]


def test_every_metric_it_names_is_declared() -> None:
    declared = {one.name for one in vars(catalogue).values() if isinstance(one, Declared)}

    found = 0
    for left, right in rows("Metrics"):
        for name in re.findall(r"`(\w+)`", left if right.startswith("the same") else right):
            found += 1
            assert name in declared or f"meshserve_{name}" in declared, name
    assert found > 20


def test_every_module_it_names_can_be_imported() -> None:
    listed = re.search(r"is `meshserve\.X` for (.*?)\. `RayServeException`", PAGE, re.DOTALL)
    assert listed is not None
    for name in re.findall(r"`(\w+)`", listed[1]):
        importlib.import_module(f"meshserve.{name}")


def test_every_variable_it_says_is_read_is_read() -> None:
    values = {
        "RAY_SERVE_ENABLE_NEW_HANDLE_API": "0",
        "MESHSERVE_ENABLE_NEW_HANDLE_API": "0",
        "MESHSERVE_FORCE_LOCAL_TESTING_MODE": "1",
        "MESHSERVE_LOG_LEVEL": "DEBUG",
        "RAY_ADDRESS": "there",
        "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "module:function",
        "RAY_SERVE_TRACING_SAMPLING_RATIO": "0.5",
        "RAY_SERVE_DEFAULT_HTTP_HOST": "0.0.0.0",
        "RAY_SERVE_HTTP_KEEP_ALIVE_TIMEOUT_S": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "module:function",
        "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": "module:function",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_ROTATION_MAX_BYTES": "1",
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "RAY_SERVE_FORCE_LOCAL_TESTING_MODE": "1",
        "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_TIMEOUT_S": "1",
        "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_UNHEALTHY_THRESHOLD": "1",
        "RAY_SERVE_SLOW_STARTUP_WARNING_S": "1",
        "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY": "1",
        "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
        "RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_LOG_ENCODING": "JSON",
    }
    table = rows("Environment variables")

    named = {
        name
        for left, right in table
        for name in re.findall(r"`((?:MESHSERVE|RAY)_\w+)`", right + (left if right.startswith("the same") else ""))
    }

    assert named == set(values)
    for name, value in values.items():
        assert Settings.from_environment({name: value}) != Settings.from_environment({}), name


def test_throughput_optimized_leaves_to_each_variable_what_it_says_itself() -> None:
    optimized = Settings.from_environment({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"})
    but = {"RAY_SERVE_LOG_TO_STDERR": "1", "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "1"}

    assert not optimized.user_code_apart and not optimized.log_to_stderr
    assert Settings.from_environment({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", **but}) == Settings.from_environment({})
