"""Options of the gRPC ingress: limits, TLS, interceptors, compression, ports, addresses."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path

import grpc
import pytest
import trustme
from conditions import until
from grpc_app import Shapes, Told, Waiting
from grpc_mesh import SHAPES, GrpcMesh
from raw_http2 import answered_pings
from replicas import on_io
from rpcs.v1.shapes_pb2 import Note
from rpcs.v1.shapes_pb2_grpc import ShapesServiceStub

from meshserve.model.options import DeploymentOptions
from meshserve.proxy.grpc_options import GrpcOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{"prot": 9000}', "unknown grpc_options prot"),
        ('{"compression": "zip"}', "'zip' is not one of none, deflate, gzip"),
        ('{"ssl_certfile": "x"}', "belong together"),
        ('{"ssl_ca_certs": "x"}', "ssl_ca_certs needs ssl_certfile"),
    ],
)
def test_options_that_make_no_sense_are_refused_and_named(options, message):
    with pytest.raises(ValueError, match=message):
        GrpcOptions.from_json(options)


def test_defaults_are_those_of_the_programming_model():
    options = GrpcOptions.from_json("")
    assert (options.port, options.grpc_servicer_functions, options.request_timeout_s) == (9000, (), None)
    assert options.enable_reflection
    assert options.target == "[::]:9000"
    assert not options.asked_for and not GrpcOptions(host="127.0.0.1").asked_for
    assert GrpcOptions(port=9001).asked_for and GrpcOptions(grpc_servicer_functions=("a.add_B",)).asked_for


def test_ipv6_addresses_get_their_brackets():
    assert GrpcOptions(host="::1").target == "[::1]:9000"
    assert GrpcOptions(host="localhost", port=5).target == "localhost:5"


@on_io
async def test_calls_that_arrive_while_the_ingress_is_held_up_wait_and_are_answered():
    sent = threading.Event()

    def flood(stub):
        calls = [stub.Unary.future(Note(text="late")) for _ in range(2500)]
        sent.set()
        return {call.code() for call in calls}

    async with GrpcMesh({"one": Shapes}, replica=DeploymentOptions(max_ongoing_requests=1000)) as mesh:
        flooding = asyncio.create_task(mesh.blocking(flood))
        await asyncio.sleep(0)
        sent.wait()  # holds up the loop that the ingress lives on
        assert await flooding == {grpc.StatusCode.OK}


@on_io
async def test_a_negative_port_means_no_ingress():
    mesh = GrpcMesh({}, port=-1)
    assert await mesh.ingress.start() == ""
    await mesh.ingress.stop()


@on_io
async def test_a_port_that_is_taken_is_an_error_that_names_it():
    async with GrpcMesh({"one": Shapes}) as mesh:
        port = int(mesh.address.rpartition(":")[2])
        second = GrpcMesh({}, port=port)
        with pytest.raises(RuntimeError, match=f"cannot listen for gRPC on 127.0.0.1:{port}"):
            await second.ingress.start()


@on_io
async def test_the_ingress_can_listen_on_a_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        async with GrpcMesh({"one": Shapes}, host=f"unix:{folder}/ingress") as mesh:
            assert mesh.address == f"unix:{folder}/ingress"
            assert (await mesh.shapes.Unary(Note(text="hi"))).text == "HI"


@on_io
async def test_messages_above_the_limits_are_resource_exhausted_and_neighbours_go_on():
    async with GrpcMesh({"one": Shapes}, max_receive_message_bytes=10_000, max_send_message_bytes=20_000) as mesh:
        neighbour = mesh.shapes.Both()
        await neighbour.write(Note(number=1))
        assert (await neighbour.read()).number == 2
        large = Note(text="x" * 10_001)
        for call in (
            lambda stub: stub.Unary(large),
            lambda stub: list(stub.Down(large)),
            lambda stub: stub.Up(iter([large])),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                await mesh.blocking(call)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in caught.value.details()
        await neighbour.write(Note(number=2))
        assert (await neighbour.read()).number == 4
        await until(lambda: mesh.in_flight.count == 1)
        neighbour.cancel()


@on_io
async def test_large_messages_pass_by_default():
    async with GrpcMesh({"one": Shapes}) as mesh:
        channel = grpc.aio.insecure_channel(mesh.address, options=[("grpc.max_receive_message_length", -1)])
        reply = await ShapesServiceStub(channel).Unary(Note(text="x" * (20 << 20)))
        assert len(reply.text) == 20 << 20
        await channel.close()


@on_io
async def test_metadata_above_the_limit_is_refused():
    async with GrpcMesh({"one": Shapes}, max_metadata_bytes=4096) as mesh:
        assert await mesh.shapes.Unary(Note(), metadata=(("big", "x" * 2000),)) == Note()
        call = mesh.shapes.Unary(Note(), metadata=(("big", "x" * 5000),))
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@on_io
async def test_calls_above_the_limit_of_the_server_are_refused():
    async with GrpcMesh({"one": Waiting}, max_concurrent_rpcs=2) as mesh:
        held = [mesh.shapes.Unary(Note()) for _ in range(2)]
        await until(lambda: mesh.user("one").started == 2)
        assert await mesh.shapes.Unary(Note()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in held:
            call.cancel()


@on_io
async def test_streams_above_the_limit_of_a_connection_wait_at_the_client():
    async with GrpcMesh({"one": Waiting}, max_concurrent_streams=2) as mesh:
        await mesh.channel.channel_ready()
        calls = [mesh.shapes.Unary(Note()) for _ in range(3)]
        await until(lambda: mesh.user("one").started == 2)
        assert not any(call.done() for call in calls)
        calls[0].cancel()
        await until(lambda: mesh.user("one").started == 3)
        for call in calls:
            call.cancel()


@on_io
async def test_an_old_connection_is_told_to_go_and_its_client_comes_back():
    async with GrpcMesh({"one": Told}, max_connection_age_s=0.3, max_connection_age_grace_s=5) as mesh:

        async def peer():
            call = mesh.shapes.Unary(Note(), wait_for_ready=True)
            lines = (await call).text.splitlines()
            return next(line for line in lines if line.startswith("peer="))

        assert await peer() == "peer=ipv4"
        state = mesh.channel.get_state()
        assert state is grpc.ChannelConnectivity.READY
        async with asyncio.timeout(10):
            await mesh.channel.wait_for_state_change(state)
        assert await peer() == "peer=ipv4"


@on_io
async def test_a_chosen_ping_interval_holds_on_connections_without_calls_too():
    async with GrpcMesh({"one": Shapes}, min_ping_interval_s=0) as mesh:
        assert await asyncio.to_thread(answered_pings, mesh.address, 20) == 20
    async with GrpcMesh({"one": Shapes}) as mesh:
        assert await asyncio.to_thread(answered_pings, mesh.address, 20) < 20


# -- TLS -------------------------------------------------------------------------------------------------------------


class Certificates:
    """An authority and what it signed, as files."""

    def __init__(self, folder: str, authority: trustme.CA) -> None:
        self.authority = authority
        self.ca = str(Path(folder, "ca.pem"))
        self.cert = str(Path(folder, "cert.pem"))
        self.key = str(Path(folder, "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        self.renew()

    def renew(self) -> None:
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        Path(self.cert).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def client(self, *, identity: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
        root = self.authority.cert_pem.bytes()
        if identity is None:
            return grpc.ssl_channel_credentials(root)
        chain = b"".join(blob.bytes() for blob in identity.cert_chain_pems)
        return grpc.ssl_channel_credentials(root, identity.private_key_pem.bytes(), chain)


async def tell(mesh, credentials):
    """What the handler was told, by a client with these credentials."""
    address = mesh.address.replace("127.0.0.1", "localhost")
    channel = grpc.aio.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
    try:
        reply = await ShapesServiceStub(channel).Unary(Note(), timeout=10)
        return dict(line.split("=", 1) for line in reply.text.splitlines())
    finally:
        await channel.close()


@on_io
async def test_tls_with_certificates_from_files_that_may_be_renewed():
    with tempfile.TemporaryDirectory() as folder:
        files = Certificates(folder, trustme.CA())
        async with GrpcMesh({"one": Told}, ssl_certfile=files.cert, ssl_keyfile=files.key) as mesh:
            assert "transport_security_type" in (await tell(mesh, files.client()))["auth"]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await mesh.shapes.Unary(Note(), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

            files.authority = trustme.CA()
            files.renew()
            later = os.stat(files.cert).st_mtime + 10
            os.utime(files.cert, (later, later))
            assert await tell(mesh, files.client())


@on_io
async def test_mutual_tls_refuses_strangers_and_tells_handlers_who_calls():
    with tempfile.TemporaryDirectory() as folder:
        files = Certificates(folder, trustme.CA())
        tls = {"ssl_certfile": files.cert, "ssl_keyfile": files.key, "ssl_ca_certs": files.ca}
        async with GrpcMesh({"one": Told}, **tls) as mesh:
            known = await tell(mesh, files.client(identity=files.authority.issue_cert("client.example")))
            assert known["identities"] == "(b'client.example',)"
            assert known["identity_key"] == "x509_subject_alternative_name"
            for stranger in (None, trustme.CA().issue_cert("stranger.example")):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await tell(mesh, files.client(identity=stranger))
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@on_io
async def test_a_certificate_that_cannot_be_read_keeps_the_ingress_from_starting():
    mesh = GrpcMesh({}, ssl_certfile="/no/such/cert.pem", ssl_keyfile="/no/such/key.pem")
    with pytest.raises(FileNotFoundError, match=r"/no/such/key\.pem"):
        await mesh.ingress.start()


# -- interceptors ----------------------------------------------------------------------------------------------------


class Guard(grpc.aio.ServerInterceptor):
    """Lets only those in who say please."""

    async def intercept_service(self, continuation, handler_call_details):
        if ("please", "1") in handler_call_details.invocation_metadata:
            return await continuation(handler_call_details)

        async def refuse(request, context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "say please")

        return grpc.unary_unary_rpc_method_handler(refuse)


@on_io
async def test_interceptors_named_in_the_options_see_every_call():
    async with GrpcMesh({"one": Shapes}, interceptors=("test_grpc_options:Guard",)) as mesh:
        with pytest.raises(grpc.aio.AioRpcError, match="say please"):
            await mesh.shapes.Unary(Note())
        assert (await mesh.shapes.Unary(Note(text="hi"), metadata=(("please", "1"),))).text == "HI"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("no_such_module:x", ModuleNotFoundError),
        ("test_grpc_options:SHAPES", ValueError),
        ("builtins:dict", ValueError),
    ],
)
def test_an_interceptor_that_is_none_keeps_the_ingress_from_starting(path, error):
    @on_io
    async def check():
        mesh = GrpcMesh({}, functions=(SHAPES,), interceptors=(path,))
        with pytest.raises(error, match=path):
            await mesh.ingress.start()

    check()
