"""Conditional: a field of the request decides between a fast and a slow model.

Only the chosen model runs, and each has its own replicas: the fast one can take the crowd while the
slow one is scaled for the few requests that need it.

    meshserve run meshserve.examples.conditional:app

    curl localhost:8000 -d '{"text": "It rained. Rain fed the river. The river fed the sea."}'
    {"model":"fast","summary":"It rained."}

    curl localhost:8000 -d '{"quality": "best", "text": "It rained. Rain fed the river. The river fed the sea."}'
    {"model":"slow","summary":"The river fed the sea."}
"""

import re
from collections import Counter

from starlette.requests import Request

import meshserve as serve
from meshserve.handle import DeploymentHandle


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, at least one, each with its full stop."""
    return re.split(r"(?<=[.!?])\s+", text.strip())


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class FastSummarizer:
    """Takes the first sentence for the summary."""

    def summarize(self, text: str) -> str:
        return split_sentences(text)[0]


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class SlowSummarizer:
    """Takes the sentence whose words are the most frequent in the whole text (Luhn, 1958)."""

    def summarize(self, text: str) -> str:
        frequency = Counter(re.findall(r"\w+", text.lower()))

        def weight(sentence: str) -> int:
            return sum(frequency[word] for word in re.findall(r"\w+", sentence.lower()))

        return max(split_sentences(text), key=weight)


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Summarizer:
    """Sends a request to the slow model when it asks for the best quality, else to the fast one."""

    def __init__(self, fast: DeploymentHandle, slow: DeploymentHandle) -> None:
        self._models = {"fast": fast, "slow": slow}

    async def __call__(self, request: Request) -> dict[str, str]:
        body = await request.json()
        model = "slow" if body.get("quality") == "best" else "fast"
        summary = await self._models[model].summarize.remote(body["text"])
        return {"model": model, "summary": summary}


app = Summarizer.bind(FastSummarizer.bind(), SlowSummarizer.bind())
