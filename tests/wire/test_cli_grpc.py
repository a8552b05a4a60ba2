"""`meshserve ls`, `call` and `health`, against an ingress that describes itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from click.testing import CliRunner, Result
from grpc_app import Generic, Shapes, Speaking
from grpc_mesh import GrpcMesh
from replicas import on_io

from meshserve.cli.main import main

SHAPES = "meshserve.tests.v1.ShapesService"


async def command(mesh: GrpcMesh, name: str, *args: str, stdin: str = "") -> Result:
    """Runs a command in this process, on a thread of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, main, [name, mesh.address, *args], stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@on_io
async def test_ls_lists_services_methods_fields_and_applications():
    async with GrpcMesh({"one": Shapes, "two": Shapes}) as mesh:
        services = (await command(mesh, "ls")).output.split()
        assert {SHAPES, "grpc.health.v1.Health", "inference.GRPCInferenceService"} <= set(services)
        methods = (await command(mesh, "ls", SHAPES)).output
        assert "Down(meshserve.tests.v1.Note) returns (stream meshserve.tests.v1.Note)\n" in methods
        assert (await command(mesh, "ls", "ShapesService")).output == methods
        assert f"{SHAPES}\n  Unary(" in (await command(mesh, "ls", "-l")).output
        assert "text: string\n" in (await command(mesh, "ls", "meshserve.tests.v1.Note")).output
        assert (await command(mesh, "ls", "--applications")).output == "one\ntwo\n"
        missing = await command(mesh, "ls", "no.such.Thing")
        assert (missing.exit_code, "there is no service 'no.such.Thing'" in missing.output) == (1, True)


@on_io
async def test_output_that_is_closed_early_is_no_error():
    async with GrpcMesh({"one": Shapes}) as mesh:
        read, write = os.pipe()
        os.close(read)
        ls = [sys.executable, "-m", "meshserve.cli.main", "ls", mesh.address]
        with os.fdopen(write) as closed:
            ended = await asyncio.to_thread(subprocess.run, ls, stdout=closed, stderr=subprocess.PIPE, text=True)
        assert (ended.returncode, ended.stderr) == (1, "")


@on_io
async def test_call_speaks_all_four_kinds_in_json():
    async with GrpcMesh({"one": Shapes, "two": Shapes}) as mesh:
        unary = await command(mesh, "call", "-A", "one", f"{SHAPES}/Unary", '{"text": "hé", "number": 3}')
        assert (unary.exit_code, json.loads(unary.output)) == (0, {"text": "HÉ", "number": 3})
        down = await command(mesh, "call", "-H", "application: two", "ShapesService.Down", '{"number": 2}')
        assert down.output == '{}\n{\n  "number": 1\n}\n'
        up = await command(mesh, "call", "-A", "one", "ShapesService/Up", '{"number": 1}', '{"number": 2}')
        assert json.loads(up.output) == {"number": 3}
        both = await command(mesh, "call", "-A", "one", "ShapesService/Both", "-", stdin='{"number": 1} {"number": 2}')
        assert both.output == '{\n  "number": 2\n}\n{\n  "number": 4\n}\n'


@on_io
async def test_call_reaches_applications_without_protos():
    async with GrpcMesh({"math": Generic}) as mesh:
        request = {"application": "math", "method": "add", "json": {"args": [1, 2], "kwargs": {"c": 3}}}
        found = await command(mesh, "call", "CallService/Call", json.dumps(request))
        assert json.loads(found.output) == {"json": 6.0}


@on_io
async def test_a_failed_call_tells_code_message_and_details_and_its_exit_code_is_that_of_the_code():
    async with GrpcMesh({"one": Speaking}) as mesh:
        failed = await command(mesh, "call", "ShapesService/Unary", '{"text": "raise"}', "-v")
        assert failed.exit_code == 64 + 7
        assert "Code: PermissionDenied\n  Message: not you\n  Details:\n  1) {" in failed.output
        assert '"reason": "USER"' in failed.output
        assert "colour: red" in failed.output
        late = await command(mesh, "call", "ShapesService/Down", '{"number": 1, "text": "raise"}')
        assert (late.exit_code, late.output.startswith("{}\n")) == (64 + 10, True)


@on_io
async def test_call_refuses_what_cannot_be_sent():
    async with GrpcMesh({"one": Shapes}) as mesh:
        for args, problem in (
            (("ShapesService/Unary", "{"), "is not JSON"),
            (("ShapesService/Unary", '{"colour": 1}'), 'no field named "colour"'),
            (("ShapesService/Unary", "{}", "{}"), "takes one request, not 2"),
            (("ShapesService/Nothing",), "has no method 'Nothing'; it has Unary"),
            (("Unary",), "is not SERVICE/METHOD"),
            (("NoService/Unary",), "there is no service 'NoService'"),
            (("ShapesService/Unary", "@/no/such/file"), "No such file"),
            (("ShapesService/Unary", "--cert", "x"), "belong together"),
        ):
            result = await command(mesh, "call", *args)
            assert (args, result.exit_code, problem in result.output) == (args, 1, True), result.output


@on_io
async def test_health_ends_with_the_exit_codes_of_probes():
    async with GrpcMesh({"one": Shapes}) as mesh:
        assert (await command(mesh, "health")).output == "SERVING\n"
        assert (await command(mesh, "health", "one")).exit_code == 0
        assert (await command(mesh, "health", "no-such")).exit_code == 3
        assert "SERVING  (the whole server)\n" in (await command(mesh, "health", "--all")).output
        mesh.applications.drain(True)
        drained = await command(mesh, "health")
        assert (drained.output, drained.exit_code) == ("NOT_SERVING\n", 4)
        assert (await command(mesh, "health", "--all")).exit_code == 4
    assert (await command(mesh, "health")).exit_code == 2
