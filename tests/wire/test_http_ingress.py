"""`serve.ingress` with FastAPI, Starlette, bare ASGI, a builder and a late-bound application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import cloudpickle
import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Header, HTTPException, Response
from fastapi.responses import JSONResponse, StreamingResponse
from http_mesh import HttpMesh, Served, eventually, serving
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from meshserve.api.code import pack
from meshserve.api.deployment import deployment
from meshserve.errors import BackPressureError, DeploymentUnavailableError, MeshServeException
from meshserve.user.ingress import AsgiIngress, ingress

EVENTS: list[str] = []


class Item(BaseModel):
    name: str
    price: float = 0.0


class TeapotError(Exception):
    """Answered by a handler of the application."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    EVENTS.append("startup")
    yield {"resource": "opened"}
    EVENTS.append("shutdown")


api = FastAPI(title="Shop", lifespan=lifespan)
api.add_middleware(CORSMiddleware, allow_origins=["https://example.org"])
api.state.lock = threading.Lock()
router = APIRouter(prefix="/extra", tags=["extra"])


@api.middleware("http")
async def stamp(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers["x-stamp"] = "yes"
    return response


@api.exception_handler(TeapotError)
async def teapot(request: Request, error: TeapotError) -> JSONResponse:
    return JSONResponse({"teapot": True}, 418)


async def current_user(authorization: Annotated[str, Header()]) -> str:
    return authorization.removeprefix("Bearer ")


@api.get("/function")
async def function() -> str:
    return "no class needed"


@ingress(api)
class Shop:
    """Routes as methods."""

    def __init__(self, discount: float) -> None:
        EVENTS.append("constructed")
        self.discount = discount
        self.background: list[str] = []

    def __del__(self) -> None:
        EVENTS.append("destroyed")

    @api.get("/price/{value}")
    async def price(self, value: float, factor: int = 1) -> float:
        return value * factor * (1 - self.discount)

    @api.get("/sync")
    def sync(self) -> dict[str, bool]:
        return {"on the loop's thread": threading.current_thread().name == "meshserve-user"}

    @api.post("/items", status_code=201)
    async def create(self, item: Item, note: Annotated[str, Body()] = "") -> Item:
        return Item(name=item.name + note + late_helper(), price=item.price * (1 - self.discount))

    @api.get("/me")
    async def me(self, user: Annotated[str, Depends(current_user)]) -> dict[str, Any]:
        return {"user": user, "discount": self.discount}

    @api.get("/teapot")
    async def boil(self) -> None:
        raise TeapotError

    @api.get("/missing")
    async def missing(self) -> None:
        raise HTTPException(404, "no such thing", {"x-why": "because"})

    @api.get("/crash")
    async def crash(self) -> None:
        raise KeyError("a secret")

    @api.get("/busy")
    async def busy(self) -> None:
        raise BackPressureError(2, 1, 429, 2.5)

    @api.get("/unavailable")
    async def unavailable(self) -> None:
        raise DeploymentUnavailableError("app#child")

    @api.get("/background")
    async def work(self, tasks: BackgroundTasks) -> str:
        tasks.add_task(self.background.append, "done")
        return "accepted"

    @api.get("/stream")
    async def stream(self) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            for word in ("a", "b", "c"):
                yield word + str(self.discount)

        return StreamingResponse(words(), media_type="text/plain")

    @api.get("/lines")
    async def lines(self) -> AsyncIterator[Item]:
        yield Item(name="first")
        yield Item(name="second")

    @api.get("/state")
    async def state(self, request: Request) -> dict[str, Any]:
        return {
            "resource": request.state.resource,
            "root_path": request.scope["root_path"],
            "url": str(request.url_for("price", value=1.5)),
            "own": request.app is not api,
        }

    @router.get("/{name}")
    async def extra(self, name: str) -> str:
        return f"{name} {self.discount}"

    async def direct(self, value: int) -> float:
        """Not a route: for handles."""
        return value * self.discount


def late_helper() -> str:
    """Defined behind the class that uses it."""
    return "!"


@api.get("/added-later")
async def added_later() -> str:
    return "never"


@pytest.fixture(scope="module")
def shop() -> Iterator[Served]:
    with serving(Shop, 0.5, prefix="/shop") as served:
        yield served


def test_methods_are_routes_and_self_is_the_instance(shop: Served) -> None:
    assert shop.get("/shop/price/10", params={"factor": 3}).json() == 15.0
    assert shop.get("/shop/price/ten").status_code == 422
    assert shop.get("/shop/function").json() == "no class needed"
    assert shop.get("/shop/sync").json() == {"on the loop's thread": False}


def test_pydantic_models_in_and_out(shop: Served) -> None:
    response = shop.post("/shop/items", json={"item": {"name": "x", "price": 4}, "note": "y"})
    assert (response.status_code, response.json()) == (201, {"name": "xy!", "price": 2.0})
    assert shop.post("/shop/items", json={"item": {}}).json()["detail"][0]["loc"] == ["body", "item", "name"]


def test_dependencies_handlers_and_middleware(shop: Served) -> None:
    response = shop.get("/shop/me", headers={"authorization": "Bearer ann"})
    assert response.json() == {"user": "ann", "discount": 0.5}
    assert response.headers["x-stamp"] == "yes"
    assert (shop.get("/shop/teapot").status_code, shop.get("/shop/teapot").json()) == (418, {"teapot": True})
    response = shop.get("/shop/missing")
    assert (response.status_code, response.json(), response.headers["x-why"]) == (
        404,
        {"detail": "no such thing"},
        "because",
    )
    response = shop.options(
        "/shop/items", headers={"origin": "https://example.org", "access-control-request-method": "POST"}
    )
    assert response.headers["access-control-allow-origin"] == "https://example.org"


def test_crash_is_the_frameworks_500(shop: Served) -> None:
    response = shop.get("/shop/crash")
    assert (response.status_code, response.text) == (500, "Internal Server Error")


def test_child_calls_that_were_refused_are_answered_as_by_the_ingress(shop: Served) -> None:
    response = shop.get("/shop/busy")
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert "max_queued_requests is 1" in response.text
    response = shop.get("/shop/unavailable")
    assert response.status_code == 503 and "app#child is unavailable" in response.text


def test_background_task_and_streams(shop: Served) -> None:
    assert shop.get("/shop/background").json() == "accepted"
    eventually(lambda: shop.mesh.user().background == ["done"])
    assert shop.get("/shop/stream").text == "a0.5b0.5c0.5"
    assert [line.split('"')[3] for line in shop.get("/shop/lines").text.splitlines()] == ["first", "second"]


def test_lifespan_state_root_path_and_urls(shop: Served) -> None:
    seen = shop.get("/shop/state").json()
    assert (seen["resource"], seen["root_path"], seen["own"]) == ("opened", "/shop", True)
    assert seen["url"] == shop.mesh.url + "/shop/price/1.5"


def test_documentation_lives_under_the_prefix(shop: Served) -> None:
    schema = shop.get("/shop/openapi.json").json()
    assert schema["servers"] == [{"url": "/shop"}]
    names = [parameter["name"] for parameter in schema["paths"]["/price/{value}"]["get"]["parameters"]]
    assert names == ["value", "factor"]
    assert "/shop/openapi.json" in shop.get("/shop/docs").text
    assert shop.mesh.user().__meshserve_docs_path__ == "/docs"
    assert Shop.__meshserve_docs_path__ == "/docs"  # type: ignore[attr-defined]


def test_application_is_frozen_when_the_class_is_decorated(shop: Served) -> None:
    assert shop.get("/shop/added-later").status_code == 404
    assert shop.get("/shop/extra/x").status_code == 404


def test_route_patterns_are_known_for_labels(shop: Served) -> None:
    patterns = shop.mesh.user().__meshserve_route_patterns__
    assert "GET /price/{value}" in patterns and "GET,HEAD /docs" in patterns


def test_lifespan_wraps_the_life_of_the_instance() -> None:
    EVENTS.clear()
    with serving(Shop, 0.1):
        assert EVENTS == ["constructed", "startup"]
    assert EVENTS == ["constructed", "startup", "shutdown", "destroyed"]


def test_class_travels_by_value_with_its_application() -> None:
    text = """
from fastapi import FastAPI
from meshserve.user.ingress import ingress
app = FastAPI()
@ingress(app)
class Local:
    def __init__(self): self.name = "local"
    @app.get("/")
    def name_of(self) -> str: return super().__repr__()[:1] + self.name
"""
    namespace: dict[str, Any] = {"__name__": "not_importable"}
    exec(text, namespace)
    local = cloudpickle.loads(cloudpickle.dumps(namespace["Local"]))
    assert local is not None
    with serving(namespace["Local"]) as served:
        assert served.get("/").json() == "<local"


# -- routers ---------------------------------------------------------------------------------------------------------

parent = FastAPI()
child = APIRouter(prefix="/child")
grandchild = APIRouter()


@ingress(parent)
class Family:
    def __init__(self) -> None:
        self.name = "family"

    @grandchild.get("/grand/{n}")
    async def grand(self, n: int) -> list[Any]:
        return [self.name, n]

    @child.post("/x")
    async def x(self, item: Item) -> str:
        return self.name + item.name

    child.include_router(grandchild, prefix="/inner")
    parent.include_router(child, prefix="/api")


def test_included_routers_keep_their_prefixes() -> None:
    with serving(Family) as served:
        assert served.get("/api/child/inner/grand/3").json() == ["family", 3]
        assert served.post("/api/child/x", json={"name": "y"}).json() == "familyy"
        assert "GET /api/child/inner/grand/{n}" in served.mesh.user().__meshserve_route_patterns__


router_alone = APIRouter(prefix="/r")


@ingress(router_alone)
class Routed:
    @router_alone.get("/who")
    async def who(self) -> str:
        return type(self).__name__


def test_router_is_an_application_too() -> None:
    with serving(Routed) as served:
        assert served.get("/r/who").json() == "Routed"


shared = FastAPI()


class Common:
    @shared.get("/common")
    async def common(self) -> str:
        return type(self).__name__


@ingress(shared)
class First(Common):
    @shared.get("/first")
    async def first(self) -> str:
        return "first"


@ingress(shared)
class Second(Common):
    @shared.get("/second")
    async def second(self) -> str:
        return "second"


def test_classes_on_one_application_do_not_see_each_others_routes() -> None:
    with serving(First) as served:
        assert served.get("/first").json() == "first"
        assert served.get("/second").status_code == 404
        assert served.get("/common").json() == "First"
    with serving(Second) as served:
        assert served.get("/second").json() == "second"
        assert served.get("/first").status_code == 404
        assert served.get("/common").json() == "Second"


renaming = FastAPI()


@ingress(renaming)
class Renaming:
    def __init__(self) -> None:
        self.name = "same name"

    @renaming.get("/")
    def method(self) -> str:
        return f"get {self.name}"

    @renaming.post("/")
    def method(self) -> str:  # type: ignore[no-redef]  # noqa: F811 - that is what is tested
        return f"post {self.name}"


def test_method_that_a_later_one_of_its_name_replaces_is_still_a_route() -> None:
    with serving(Renaming) as served:
        assert (served.get("/").json(), served.post("/").json()) == ("get same name", "post same name")


def test_routes_may_return_arrays() -> None:
    numpy = pytest.importorskip("numpy")
    app = FastAPI()

    @ingress(app)
    class Arrays:
        @app.get("/")
        def zeros(self):  # type: ignore[no-untyped-def]  # with a type, pydantic writes the response, by its own rules
            return {"zeros": numpy.zeros(2)}

    with serving(Arrays) as served:
        assert served.get("/").json() == {"zeros": [0.0, 0.0]}


def test_code_that_uses_its_application_can_be_sent() -> None:
    app = FastAPI()
    included = APIRouter(prefix="/included")
    app.include_router(included)
    app.state.greeting = "hello"

    @ingress(app)
    class Linking:
        @app.get("/there")
        def there(self) -> str:
            return app.url_path_for("there")

        @app.get("/state")
        def state(self, request: Request) -> str:
            return f"{request.app.state.greeting} {app.state.greeting}"

    linking, arguments, _ = cloudpickle.loads(pack("Linking", Linking, (app.state,), {}))
    assert arguments[0].greeting == "hello"
    with serving(linking) as served:
        assert (served.get("/there").json(), served.get("/state").json()) == ("/there", "hello hello")


def test_replicas_of_one_process_each_get_their_own_instance() -> None:
    mesh = HttpMesh()
    mesh.start()
    try:
        mesh.deploy(Shop, 0.1, name="a", prefix="/a")
        mesh.deploy(Shop, 0.9, name="b", prefix="/b")
        with mesh.client() as client:
            assert client.get("/a/price/10").json() == pytest.approx(9.0)
            assert client.get("/b/price/10").json() == pytest.approx(1.0)
    finally:
        mesh.stop()


# -- other applications ----------------------------------------------------------------------------------------------


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.path_params['name']}")


class Shout(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-shout"] = "!"
        return response


site = Starlette(routes=[Route("/hello/{name}", hello), Mount("/files", StaticFiles(directory="tests/wire"))])
site.add_middleware(Shout)


@ingress(site)
class Site:
    pass


def test_starlette_application_with_mounts_and_middleware() -> None:
    with serving(Site, prefix="/site") as served:
        response = served.get("/site/hello/ann")
        assert (response.text, response.headers["x-shout"]) == ("hello ann", "!")
        with open("tests/wire/replicas.py") as file:
            assert served.get("/site/files/replicas.py").text == file.read()
        assert served.get("/site/nothing").status_code == 404
        assert served.mesh.user().__meshserve_route_patterns__ == ("GET,HEAD /hello/{name}", "/files/{path:path}")


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("what is a lifespan?")
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Mixed", b"Case")]})
    await send({"type": "http.response.body", "body": scope["path"].encode() + message["body"]})


@ingress(bare)
class Bare:
    pass


def test_bare_asgi_function_without_lifespan() -> None:
    with serving(Bare, prefix="/b") as served:
        response = served.post("/b/x", content=b"+body")
        assert (response.text, response.headers["x-mixed"]) == ("/b/x+body", "Case")


async def mute(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/twice":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/half":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})


@ingress(mute)
class Mute:
    pass


@pytest.mark.parametrize("path", ["/", "/twice"])
def test_application_that_breaks_the_protocol_is_a_500(path: str) -> None:
    with serving(Mute) as served:
        assert served.get(path).status_code == 500


def build() -> FastAPI:
    built = FastAPI()

    @built.get("/")
    async def root() -> str:
        return "built in the replica"

    return built


async def build_later() -> FastAPI:
    await asyncio.sleep(0)
    return build()


@pytest.mark.parametrize("builder", [build, build_later])
def test_builder_function_runs_in_the_replica(builder: Any) -> None:
    with serving(ingress(builder)()) as served:
        assert served.get("/").json() == "built in the replica"


class LateBound:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def __serve_build_asgi_app__(self) -> Starlette:
        async def greet(request: Request) -> PlainTextResponse:
            return PlainTextResponse(self.greeting)

        return Starlette(routes=[Route("/", greet)])


def test_late_bound_application_is_built_from_the_instance() -> None:
    with serving(ingress()(LateBound), "good morning") as served:
        assert served.get("/").text == "good morning"


def test_ingress_without_a_class_keeps_what_it_was_bound_with() -> None:
    wrapped = ingress(bare)()
    assert issubclass(wrapped, AsgiIngress)
    with serving(wrapped, 1, 2) as served:
        assert (served.mesh.user().args, served.get("/y").text) == ((1, 2), "/y")


# -- what is refused -------------------------------------------------------------------------------------------------


class Callable:
    def __call__(self) -> str:
        return "?"


class Plain:
    pass


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    raise AssertionError("never called")


def test_static_methods_are_routes_without_the_instance() -> None:
    app = FastAPI()

    class Tools:
        @app.get("/double/{number}")
        @staticmethod
        def double(number: int) -> int:
            return 2 * number

        @staticmethod
        @app.get("/triple/{number}")
        def triple(number: int) -> int:
            return 3 * number

    with serving(ingress(app)(Tools)) as served:
        assert (served.get("/double/4").json(), served.get("/triple/4").json()) == (8, 12)


@pytest.mark.parametrize(
    ("app", "target", "error", "text"),
    [
        (FastAPI, Plain, TypeError, "not the class 'FastAPI': write @serve.ingress"),
        (wsgi, Plain, TypeError, r"takes \(environ: .*A WSGI application"),
        (lambda name: bare, Plain, TypeError, r"takes \(name\)"),
        (bare, hello, ValueError, "must be used with a class"),
        (bare, Callable, ValueError, "may not have __call__ method"),
        (None, Plain, ValueError, "__serve_build_asgi_app__"),
        (7, Plain, TypeError, "not 7"),
        (deployment(Plain), Plain, TypeError, "not a deployment"),
    ],
)
def test_wrong_use_is_refused_when_decorating(app: Any, target: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ingress(app)(target)


def test_route_without_self_is_refused() -> None:
    app = FastAPI()

    class NoSelf:
        @app.get("/")
        def route() -> str:  # type: ignore[misc]  # what is tested
            return ""

    with pytest.raises(MeshServeException, match="must have ``self`` as their first argument"):
        ingress(app)(NoSelf)


def test_application_that_cannot_travel_is_refused() -> None:
    app = FastAPI()
    app.state.connection = open("tests/wire/replicas.py", "rb")  # noqa: SIM115 - stands for what cannot be pickled
    try:
        with pytest.raises(TypeError, match="cannot copy the ASGI application FastAPI"):
            ingress(app)(Plain)
    finally:
        app.state.connection.close()


def test_subclass_of_an_ingress_class_needs_an_asynchronous_constructor() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.__init__ must be `async def`"):

        class Wrong(Site):  # type: ignore[misc,valid-type]
            def __init__(self) -> None: ...

    class Mixin:
        def __init__(self) -> None: ...

    with pytest.raises(TypeError, match=r"Mixed\.__init__ must be `async def`"):

        class Mixed(Mixin, Site):  # type: ignore[misc,valid-type]
            pass

    class Right(Site):  # type: ignore[misc,valid-type]
        async def __init__(self) -> None:
            await super().__init__()
            self.ready = True

    with serving(Right) as served:
        assert served.mesh.user().ready and served.get("/hello/x").text == "hello x"


def no_app() -> None:
    return None


@pytest.mark.parametrize(
    ("wrapped", "text"), [(ingress(no_app)(), "The builder 'no_app'"), (None, "Hooked.__serve_build_asgi_app__")]
)
def test_building_no_application_fails_the_constructor(wrapped: Any, text: str) -> None:
    class Hooked:
        async def __serve_build_asgi_app__(self) -> None:
            return None

    with (
        pytest.raises(TypeError, match=f"{text}.* must return an ASGI application"),
        serving(wrapped or ingress()(Hooked)),
    ):
        pass


@asynccontextmanager
async def failing_lifespan(app: Any) -> AsyncIterator[None]:
    raise KeyError("the database is away")
    yield


def test_failed_lifespan_startup_fails_the_constructor() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)failed in its lifespan startup.*the database is away"),
        serving(ingress(Starlette(lifespan=failing_lifespan))()),
    ):
        pass
