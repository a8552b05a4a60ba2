"""Quickstart: greet people in the language that they write in.

Three deployments. `Greeter` is the ingress: it takes the HTTP request, guesses the language and asks
one of the other two for the answer through its handle.

    meshserve run meshserve.examples.quickstart:app

    curl localhost:8000 -d '{"name": "Ana", "text": "Hola, me llamo Ana"}'
    {"language":"spanish","greeting":"¡Hola, Ana! Encantado de conocerte."}

    curl localhost:8000 -d '{"name": "Zoé", "text": "Bonjour, je cherche la gare"}'
    {"language":"french","greeting":"Bonjour, Zoé ! Enchanté de vous connaître."}
"""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse

import meshserve as serve
from meshserve.handle import DeploymentHandle

SPANISH = {"hola", "buenos", "días", "el", "los", "las", "y", "es", "me", "llamo", "busco", "una", "por", "favor"}
FRENCH = {"bonjour", "salut", "le", "les", "et", "est", "je", "m", "appelle", "cherche", "une", "s", "vous", "plaît"}


def classify(text: str) -> str | None:
    """The language whose common words are more frequent in `text`; None when neither is ahead."""
    words = re.findall(r"\w+", text.lower())
    spanish = sum(word in SPANISH for word in words)
    french = sum(word in FRENCH for word in words)
    if spanish == french:
        return None
    return "spanish" if spanish > french else "french"


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class SpanishResponder:
    """Greets in Spanish."""

    def greet(self, name: str) -> str:
        return f"¡Hola, {name}! Encantado de conocerte."


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class FrenchResponder:
    """Greets in French."""

    def greet(self, name: str) -> str:
        return f"Bonjour, {name} ! Enchanté de vous connaître."


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Greeter:
    """Takes the request and sends it on to the responder for its language."""

    def __init__(self, spanish: DeploymentHandle, french: DeploymentHandle) -> None:
        self._responders = {"spanish": spanish, "french": french}

    async def __call__(self, request: Request) -> dict[str, str] | JSONResponse:
        try:
            body = await request.json()
            name, text = str(body["name"]), str(body["text"])
        except (KeyError, TypeError, ValueError):
            return JSONResponse({"error": 'send JSON like {"name": "Ana", "text": "Hola"}'}, status_code=400)
        language = classify(text)
        if language is None:
            return JSONResponse({"error": "neither Spanish nor French"}, status_code=422)
        greeting = await self._responders[language].greet.remote(name)
        return {"language": language, "greeting": greeting}


app = Greeter.bind(SpanishResponder.bind(), FrenchResponder.bind())
