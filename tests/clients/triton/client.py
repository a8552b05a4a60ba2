"""Talks to the model of the tests with an unmodified tritonclient and prints what it got, as JSON.

    client.py ADDRESS

It runs in an environment of its own: tritonclient wants another protobuf than the mesh.
"""

import json
import queue
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

ARRAY = np.array([[1, 2], [3, 4]], np.float32)
WORDS = np.array([b"one", "zwölf 二".encode()], np.object_)


def tensor(name: str, array: Any, datatype: str) -> InferInput:
    """An input with elements."""
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def inputs(x: Any = ARRAY, datatype: str = "FP32") -> list[InferInput]:
    """What the model takes."""
    return [tensor("x", x, datatype), tensor("words", WORDS, "BYTES")]


def arrays(result: Any) -> dict[str, Any]:
    """All of a result's arrays."""
    found = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
    return {
        name: [word.decode() for word in array] if array.dtype == np.object_ else array.tolist()
        for name, array in found.items()
    }


def failure(call: Callable[[], object]) -> list[str]:
    """Code and message that a call failed with."""
    try:
        call()
    except InferenceServerException as failed:
        return [str(failed.status()), str(failed.message())]
    return []


def streamed(client: InferenceServerClient) -> list[Any]:
    """Results and errors of three requests on one stream, of which the second is wrong."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    for x in (ARRAY, ARRAY[:, :1], ARRAY * 10):
        client.async_stream_infer("model", inputs(x))
    got = [answers.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    return [answer.message() if isinstance(answer, Exception) else arrays(answer)["doubled"] for answer in got]


def main() -> None:
    """Prints what the client got of everything that it has."""
    client = InferenceServerClient(sys.argv[1])
    answers: queue.Queue[Any] = queue.Queue()
    client.async_infer("model", inputs(), lambda result, error: answers.put(error or result))
    said = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [client.is_model_ready("model"), client.is_model_ready("nowhere")],
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata("model", as_json=True),
        "infer": arrays(client.infer("model", inputs(), client_timeout=30)),
        "one output": arrays(client.infer("model", inputs(), outputs=[InferRequestedOutput("doubled")])),
        "compressed": arrays(client.infer("model", inputs(), compression_algorithm="gzip")),
        "async": arrays(answers.get(timeout=30)),
        "streamed": streamed(client),
        "unknown model": failure(lambda: client.infer("nowhere", inputs())),
        "no model": failure(lambda: client.infer("wide", inputs())),
        "wrong shape": failure(lambda: client.infer("model", inputs(ARRAY[:, :1]))),
        "wrong type": failure(lambda: client.infer("model", inputs(ARRAY.astype(np.int32), "INT32"))),
        "late": failure(lambda: client.infer("model", inputs(-ARRAY), client_timeout=0.2)),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
