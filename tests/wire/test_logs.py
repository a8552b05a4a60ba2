"""The log of a process: who writes, what of a request is on each line, the access log, and options while it runs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conditions import until
from controller_mesh import application, local_mesh
from grpc_app import Shapes
from grpc_mesh import GrpcMesh
from http_mesh import eventually, serving
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import CallContext, CallKind
from meshserve.routing.service import CallFailed
from meshserve.settings import Settings
from meshserve.telemetry import log_writer
from meshserve.telemetry.access_log import ACCESS
from meshserve.telemetry.current import ask_for_request
from meshserve.telemetry.exposition import set_process_labels
from meshserve.telemetry.log_options import Identity, LogOptions
from meshserve.telemetry.log_writer import LogWriter
from meshserve.telemetry.logs import ProcessLog, configure_log, log_path, start_process, stop_process_log
from meshserve.telemetry.notices import EVENTS, NOTICES
from meshserve.user.context import get_request_context
from meshserve.v1 import controller_pb2, proxy_control_pb2

WHO = replace(Identity.of_replica("shop", "Model", "r1"), process={"worker_id": "w1", "actor_name": "a1"})
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
log = logging.getLogger("meshserve.test")
ported = logging.getLogger("ray.serve")


class Model:
    async def echo(self, value: Any) -> Any:
        log.info("async %s", value)
        return value

    def sync_echo(self, value: Any) -> Any:
        ported.warning("sync %s", value)
        return value

    async def fail(self) -> None:
        raise KeyError("nope")

    async def hang(self) -> None:
        await asyncio.sleep(60)

    async def __call__(self, request: Any) -> str:
        if "fail" in request.query_params:
            raise KeyError("nope")
        log.info("asked", extra={"user": "ann"})
        return "hello"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where this process's log is, for as long as a test runs."""
    start_process(WHO, str(tmp_path))
    ask_for_request(get_request_context)
    yield tmp_path / "meshserve"
    ask_for_request(lambda: None)
    stop_process_log()
    set_process_labels({})


def process_log() -> ProcessLog:
    """The handler that this process's log is."""
    (found,) = [handler for handler in logging.getLogger("meshserve").handlers if isinstance(handler, ProcessLog)]
    return found


def lines(folder: Path, name: str = "replica_shop_Model_r1.log") -> list[str]:
    """What the log has now."""
    process_log().flush()
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def about(folder: Path, text: str) -> list[str]:
    return [line for line in lines(folder) if text in line]


# -- lines -----------------------------------------------------------------------------------------------------------


def test_a_line_says_level_time_who_and_message(folder: Path) -> None:
    log.warning("disk %d%% full", 90)
    (line,) = lines(folder)
    assert line.startswith("WARNING ") and line.endswith(" shop_Model r1 -- disk 90% full")


def test_ported_code_logs_under_the_name_it_knows(folder: Path) -> None:
    ported.info("as before")
    assert lines(folder)[0].endswith("-- as before")


def test_what_is_logged_for_a_request_has_its_id_on_the_loop_and_on_a_thread(folder: Path) -> None:
    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            await mesh.router.unary(call("echo", 1, context=CallContext("id-1")))
            await mesh.router.unary(call("sync_echo", 2, context=CallContext("id-2")))

    check()
    assert about(folder, "async 1")[0].endswith("shop_Model r1 id-1 -- async 1")
    assert about(folder, "sync 2")[0].endswith("shop_Model r1 id-2 -- sync 2")


def test_an_exception_is_logged_with_its_traceback(folder: Path) -> None:
    try:
        raise KeyError("nope")
    except KeyError:
        log.exception("it failed")
    text = "\n".join(lines(folder))
    assert "-- it failed\nTraceback" in text and text.endswith("KeyError: 'nope'")


def test_json_lines_have_who_the_request_and_what_was_given_besides(folder: Path) -> None:
    configure_log({"encoding": "JSON", "additional_log_standard_attrs": ["funcName"]})
    with serving(Model) as served:
        served.client.get("/", headers={"x-request-id": "id-9"})
    (line,) = [json.loads(one) for one in about(folder, '"asked"')]
    assert line["user"] == "ann" and line["funcName"] == "__call__" and line["levelname"] == "INFO"
    assert line["request_id"] == "id-9" and line["route"] == "/"
    assert (line["application"], line["deployment"], line["replica"]) == ("shop", "Model", "r1")
    assert line["component_name"] == "replica" and line["filename"] == "test_logs.py"
    assert (line["worker_id"], line["actor_name"]) == ("w1", "a1") and line["timestamp_ns"] > 0


def test_a_message_that_does_not_fit_its_arguments_does_not_end_who_logs(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process_log().handle(logging.LogRecord("meshserve", logging.INFO, __file__, 1, "%d", ("no number",), None))
    log.info("still here")
    assert lines(folder)[-1].endswith("-- still here") and "no number" in capfd.readouterr().err


def test_messages_go_to_standard_error_and_of_many_requests_some(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log.info("seen by the driver")
    log.info("in the file only", extra={"log_to_stderr": False})
    for _ in range(100):
        ACCESS.add((0.0, "id", "", "CALL", "echo", "OK", 0.1))
    assert len(about(folder, "CALL echo OK")) == 100 and about(folder, "in the file only")
    error = capfd.readouterr().err
    assert "seen by the driver" in error and "in the file only" not in error
    assert 0 < error.count("CALL echo OK") < 50


def test_what_is_printed_is_logged_where_standard_error_is_not_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_SERVE_LOG_TO_STDERR", "0")
    monkeypatch.setenv("RAY_SERVE_LOG_ENCODING", "JSON")
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # both are put back when the test is over
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    start_process(WHO, str(tmp_path))
    print("from print", end="")
    print(" in two parts")
    sys.stderr.write("one\ntwo\n")
    log.info("from the logger")
    ACCESS.add((0.0, "id", "", "CALL", "echo", "OK", 0.1))
    found = [json.loads(line) for line in lines(tmp_path / "meshserve")]
    stop_process_log()
    set_process_labels({})
    messages = [line["message"] for line in found]
    assert messages == ["from print in two parts", "one", "two", "from the logger", "CALL echo OK 100.0ms"]
    assert capfd.readouterr() == ("", "")


def test_fields_that_ported_code_gives_are_known(folder: Path) -> None:
    configure_log({"encoding": "JSON"})
    ported.info("asked", extra={"k1": 1, "ray_serve_extra_fields": {"k2": "two"}, "serve_access_log": True})
    line = json.loads(lines(folder)[0])
    assert (line["k1"], line["k2"]) == (1, "two") and "serve_access_log" not in line
    configure_log({"encoding": "JSON", "enable_access_log": False})
    ported.info("a request", extra={"serve_access_log": True})
    assert not about(folder, "a request")


def test_code_finds_the_file_through_the_logger_and_its_level_silences_requests(folder: Path) -> None:
    path = ported.handlers[1].target.baseFilename  # type: ignore[attr-defined]
    assert path == log_path()
    ported.setLevel(logging.ERROR)
    ACCESS.add((0.0, "id", "", "CALL", "echo", "OK", 0.1))
    assert lines(folder) == []


# -- requests --------------------------------------------------------------------------------------------------------


def test_calls_are_logged_with_method_outcome_and_latency(folder: Path) -> None:
    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            await mesh.router.unary(call("echo", 1, context=CallContext("id-1")))
            with pytest.raises(CallFailed):
                await mesh.router.unary(call("fail", context=CallContext("id-2")))
            hanging = mesh.router.unary(call("hang", context=CallContext("id-3")))
            await until(lambda: mesh.replicas[0].admission.ongoing)
            hanging.cancel()
            await until(lambda: not mesh.replicas[0].admission.ongoing)

    check()
    said = [line.partition(" r1 ")[2] for line in about(folder, "CALL")]
    assert [line.rpartition(" ")[0] for line in said] == [
        "id-1 -- CALL echo OK",
        "id-2 -- CALL fail ERROR",
        "id-3 -- CALL hang CANCELLED",
    ]
    assert all(line.endswith("ms") for line in said)


def test_a_request_that_fails_leaves_its_traceback_under_its_id(folder: Path) -> None:
    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Model)) as mesh:
            with pytest.raises(CallFailed):
                await mesh.router.unary(call("fail", context=CallContext("id-1")))
            with pytest.raises(CallFailed):
                await mesh.router.unary(call("no_such_method", context=CallContext("id-2")))

    check()
    (failed,) = [line for line in lines(folder) if line.startswith("ERROR ")]
    assert failed.endswith("shop_Model r1 id-1 -- Request failed.")
    text = "\n".join(lines(folder))
    assert 'in fail\n    raise KeyError("nope")\nKeyError' in text
    assert "id-2 -- Request failed: " in text and "Traceback" not in text.partition("id-2")[2]


def test_warnings_errors_and_events_are_kept_for_whoever_watches_on_one_line(folder: Path) -> None:
    known = len(NOTICES.newest())
    log.info("of no interest")
    logging.getLogger(EVENTS).info("Application %r is gone.", "shop", extra={"application": "old", "deployment": ""})
    try:
        raise KeyError("nope")
    except KeyError:
        log.exception("it failed\nin many lines")
    event, error = NOTICES.newest()[known:]
    assert (event.level, event.text, event.application) == ("INFO", "Application 'shop' is gone.", "old")
    assert (error.level, error.text) == ("ERROR", "it failed KeyError: 'nope'")
    assert (error.source, error.deployment, error.replica) == ("replica r1", "Model", "r1")
    assert error.number == event.number + 1


def test_a_replica_logs_http_requests_as_http_has_them(folder: Path) -> None:
    with serving(Model, prefix="/shop") as served:
        served.client.get("/shop/x", headers={"x-request-id": "id-1"})
        eventually(lambda: len(about(folder, "id-1 -- GET")) == 2)  # one of the ingress, one of the replica
        served.client.post("/shop", params={"fail": "yes"}, headers={"x-request-id": "id-2"})
        eventually(lambda: len(about(folder, "id-2 -- POST")) == 2)
    assert all("GET /shop 200" in line for line in about(folder, "id-1 -- GET"))
    assert all("POST /shop 500" in line for line in about(folder, "id-2 -- POST"))
    assert not about(folder, "CALL")


def test_http_requests_are_logged_with_route_and_status(folder: Path) -> None:
    with serving(Model, prefix="/shop") as served:
        served.client.get("/shop/x?secret=1", headers={"x-request-id": "id-1"})
        served.client.post("/nowhere")
        served.client.get("/-/healthz")
    said = [line.partition(" -- ")[2].rpartition(" ")[0] for line in lines(folder)]
    assert "GET /shop 200" in said and "POST - 404" in said
    assert not [line for line in said if "healthz" in line or "secret" in line]


def test_grpc_calls_are_logged_with_method_and_code(folder: Path) -> None:
    @on_io
    async def check() -> None:
        async with GrpcMesh({"app": Shapes}) as mesh:
            await mesh.shapes.Unary(mesh.note(1), metadata=(("request_id", "id-7"),))
            await until(lambda: about(folder, "GRPC"))

    check()
    assert "id-7 -- GRPC /meshserve.tests.v1.ShapesService/Unary OK" in about(folder, "GRPC")[0]


def test_json_says_of_a_request_what_text_says(folder: Path) -> None:
    configure_log({"encoding": "JSON"})
    ACCESS.add((0.0, 'id-"1"', "/x", "GET", "/x", "200", 0.0125))
    line = json.loads(lines(folder)[0])
    assert line["request_id"] == 'id-"1"' and line["route"] == "/x" and line["deployment"] == "Model"
    assert (line["method"], line["status"], line["latency_ms"]) == ("GET", "200", 12.5)
    assert line["message"] == "GET /x 200 12.5ms"


def test_a_stream_is_logged_once_at_its_end(folder: Path) -> None:
    class Counting:
        async def count(self, n: int) -> Any:
            for index in range(n):
                yield index

    @on_io
    async def check() -> None:
        async with LocalMesh(LocalReplica("a", Counting)) as mesh:
            stream = mesh.router.stream(call("count", 5, kind=CallKind.SERVER_STREAM))
            while await stream.take():
                pass

    check()
    assert len(about(folder, "CALL count OK")) == 1


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"enable_access_log": False}, {"log_level": "WARNING"}])
def test_the_access_log_can_be_switched_off_while_the_process_runs(folder: Path, config: dict[str, Any]) -> None:
    assert ACCESS.enabled
    configure_log(config)
    assert not ACCESS.enabled
    configure_log(None)
    assert ACCESS.enabled


def test_the_level_changes_while_the_process_runs(folder: Path) -> None:
    log.debug("too little")
    configure_log({"log_level": "DEBUG"})
    log.debug("enough")
    assert [line.rpartition(" ")[2] for line in lines(folder)] == ["enough"]


def test_the_file_moves_while_the_process_runs(folder: Path, tmp_path: Path) -> None:
    log.info("here")
    configure_log({"logs_dir": str(tmp_path / "elsewhere")})
    log.info("there")
    assert lines(tmp_path / "elsewhere")[0].endswith("-- there")
    assert log_path() == str(tmp_path / "elsewhere" / "replica_shop_Model_r1.log")
    assert lines(folder)[0].endswith("-- here")


def test_a_level_that_is_none_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="'LOUD' is not a log level"):
        configure_log({"log_level": "LOUD"})


def test_a_process_without_a_log_directory_keeps_no_log() -> None:
    start_process(WHO, "")
    assert log_path() == "" and not ACCESS.enabled
    configure_log({"log_level": "DEBUG"})
    set_process_labels({})


def test_files_are_named_after_who_writes() -> None:
    assert Identity.of_controller().file_name == f"controller_{os.getpid()}.log"
    assert Identity.of_proxy("n1", "10.0.0.1").file_name == "proxy_10.0.0.1.log"
    assert Identity.of_replica("a/b", "C:é", "t").file_name == "replica_a_b_C___t.log"


def test_rotation_is_set_as_rays_is() -> None:
    settings = Settings.from_environment({"RAY_ROTATION_MAX_BYTES": "1000", "RAY_ROTATION_BACKUP_COUNT": "2"})
    options = LogOptions.from_settings(Path("x"), settings)
    assert (options.max_bytes, options.backups) == (1000, 2)


def in_lines(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


# -- the writer ------------------------------------------------------------------------------------------------------


def test_a_file_that_grew_too_long_is_put_aside(tmp_path: Path) -> None:
    writer: LogWriter[str] = LogWriter(tmp_path / "a.log", in_lines, max_bytes=10, backups=2)
    for text in ("one", "two", "three", "four", "five", "six"):
        writer.put(text)
        writer.flush()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.log": "six\n", "a.log.1": "four\nfive\n", "a.log.2": "three\n"}
    writer.close()


def test_lines_that_a_disk_does_not_take_are_dropped_and_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    writer: LogWriter[str] = LogWriter(tmp_path / "file" / "a.log", "".join)
    writer.put("lost")
    writer.flush()
    assert writer.dropped == 1 and "cannot write the log" in capfd.readouterr().err
    writer.close()


def test_lines_are_written_soon_without_being_asked_for(tmp_path: Path) -> None:
    writer: LogWriter[str] = LogWriter(tmp_path / "a.log", in_lines)
    writer.put("one")
    writer.hurry()
    asyncio.run(until(lambda: (tmp_path / "a.log").exists() and (tmp_path / "a.log").read_text() == "one\n"))
    writer.put("two")
    asyncio.run(until(lambda: (tmp_path / "a.log").read_text() == "one\ntwo\n"))
    writer.close()


def test_a_queue_of_lines_has_an_end(tmp_path: Path) -> None:
    writer: LogWriter[str] = LogWriter(tmp_path / "a.log", "".join)
    held = writer._lock
    with held:  # as if the disk stood still
        for _ in range(log_writer.MAX_WAITING + 5):
            writer.put("x")
        assert writer.dropped >= 4
    writer.close()


async def test_the_controller_logs_as_the_mesh_is_told_to_and_tells_what_happens(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with local_mesh() as mesh:
        options = proxy_control_pb2.ProxyOptions(location="Disabled", logging_json='{"encoding": "JSON"}')
        await mesh.call("StartProxies", controller_pb2.StartProxiesRequest(options=options))
        await mesh.apply(application())
        await mesh.until_state("RUNNING")
        await until(lambda: about(folder, "Application 'app' is RUNNING."))
    events = [json.loads(line) for line in lines(folder)]
    texts = [line["message"] for line in events]
    assert "Deployment 'Model' is HEALTHY." in texts and any("is RUNNING." in text for text in texts)
    assert {line["application"] for line in events if "app" in line["message"]} == {"app"}
    shown = capfd.readouterr().err
    assert "Application 'app' is RUNNING." in shown and "Replica " not in shown
