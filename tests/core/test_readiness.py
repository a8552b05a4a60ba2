"""When `run` returns, when it gives up, and what it says meanwhile."""

from meshserve.api.readiness import INGRESS_GRACE_S, News, Readiness, readiness
from meshserve.model.overview import ApplicationOverview, DeploymentOverview, MeshOverview, ProxyOverview

HEALTHY = ProxyOverview("node", "HEALTHY", "127.0.0.1:8000")
BROKEN = ProxyOverview("node", "UNHEALTHY", message="port 8000 is taken.")


def mesh(*applications: ApplicationOverview, proxy: ProxyOverview | None = HEALTHY) -> MeshOverview:
    proxies = {} if proxy is None else {proxy.node_id: proxy}
    return MeshOverview({one.name: one for one in applications}, proxies)


def application(status: str, message: str = "", generation: int = 2, **deployments: str) -> ApplicationOverview:
    parts = tuple(DeploymentOverview(name, "UPDATING", "", text) for name, text in deployments.items())
    return ApplicationOverview("app", status, message, generation=generation, deployments=parts)


def test_a_running_application_behind_a_serving_proxy_is_ready() -> None:
    assert readiness(mesh(application("RUNNING")), ["app"], 2, with_ingress=True, waited_s=0).ready


def test_an_earlier_generation_says_nothing() -> None:
    for status in ("RUNNING", "DEPLOY_FAILED"):
        now = readiness(mesh(application(status, generation=1)), ["app"], 2, with_ingress=True, waited_s=0)
        assert not now.ready
        assert not now.failure


def test_an_application_that_is_not_known_yet_is_waited_for() -> None:
    assert not readiness(mesh(), ["app"], 2, with_ingress=True, waited_s=0).ready


def test_a_failed_deployment_fails_the_wait_with_its_message() -> None:
    now = readiness(mesh(application("DEPLOY_FAILED", "A: ValueError")), ["app"], 2, with_ingress=True, waited_s=0)

    assert now.failure == "Deploying application app failed: A: ValueError"


def test_what_is_waited_for_is_said_by_deployment() -> None:
    now = readiness(
        mesh(application("DEPLOYING", "long", A="needs GPU", B="")), ["app"], 2, with_ingress=True, waited_s=0
    )

    assert now.waiting == (("A", "needs GPU"),)


def test_without_details_the_application_itself_is_waited_for() -> None:
    now = readiness(mesh(application("DEPLOYING")), ["app"], 2, with_ingress=True, waited_s=0)

    assert now.waiting == (("app", "is deploying"),)


def test_a_starting_ingress_is_waited_for_and_a_disabled_one_is_not() -> None:
    starting = mesh(application("RUNNING"), proxy=ProxyOverview("node", "STARTING"))
    none = mesh(application("RUNNING"), proxy=None)

    assert readiness(starting, ["app"], 2, with_ingress=True, waited_s=0).waiting == (
        ("ingress", "the proxies are starting"),
    )
    assert not readiness(none, ["app"], 2, with_ingress=True, waited_s=0).ready
    assert readiness(none, ["app"], 2, with_ingress=False, waited_s=0).ready


def test_an_ingress_that_stays_broken_fails_the_wait() -> None:
    now = readiness(mesh(application("RUNNING"), proxy=BROKEN), ["app"], 2, with_ingress=True, waited_s=0)
    later = readiness(
        mesh(application("RUNNING"), proxy=BROKEN), ["app"], 2, with_ingress=True, waited_s=INGRESS_GRACE_S + 1
    )

    assert now.waiting == (("ingress", "port 8000 is taken."),)
    assert later.failure == "The ingress cannot be brought up: port 8000 is taken."


def test_news_are_told_once_and_a_traceback_not_again_with_every_change_around_it():
    news = News()
    single = Readiness(waiting=(("a", "0 of 1"),))
    assert [news.of(single), news.of(single), news.of(Readiness()), news.of(single)] == [
        [("a", "0 of 1")],
        [],
        [],
        [("a", "0 of 1")],
    ]

    def failing(attempts: int, tail: str) -> Readiness:
        return Readiness(waiting=(("a", f"{attempts} more.\nTraceback:\n  line 1\n{tail}"),))

    assert news.of(failing(2, "for a process")) == [("a", "2 more.\nTraceback:\n  line 1\nfor a process")]
    assert news.of(failing(1, "for the constructor")) == [("a", "1 more.\nfor the constructor")]
    assert news.of(failing(1, "for a process")) == []
