"""Load from outside the mesh: `wrk` over HTTP/1.1 and `h2load` over HTTP/2, for gRPC with a canned body.

Both are C programs that cost a fraction of what they measure. Neither knows what a correct answer is, so what they
report is checked for errors here, and the applications are asked once by a real client before load begins.
"""

import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.sample import Sample

# Seconds that a load generator may take beyond the time it was given, to connect and to finish.
_SLACK_S = 30.0

_SECONDS_OF = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """The load generator failed, or the target answered wrongly under load."""


def http_load(url: str, *, connections: int, seconds: float) -> Sample:
    """GET `url` over keep-alive connections, one request at a time on each.

    Raises:
        LoadError: wrk failed, or an answer was not 2xx or 3xx, or a connection broke.
    """
    output = _run(
        [
            *("wrk", "--latency", "--threads=1", "--timeout=20s"),
            *(f"--connections={connections}", f"--duration={_whole(seconds)}s", url),
        ],
        seconds,
    )
    return read_wrk(output)


def read_wrk(output: str) -> Sample:
    """What wrk has printed as a sample.

    Raises:
        LoadError: it speaks of errors, or of no answer at all.
    """
    if trouble := re.search(r"(Non-2xx or 3xx responses|Socket errors): .*", output):
        raise LoadError(trouble.group(0))
    count = int(_find(r"(\d+) requests in", output))
    if not count:
        raise LoadError("no request was answered")
    return Sample(
        value=float(_find(r"Requests/sec: +([\d.]+)", output)),
        p50_ms=_wrk_latency_ms("50", output),
        p99_ms=_wrk_latency_ms("99", output),
        count=count,
    )


def grpc_load(
    url: str, *, application: str, message: bytes, reply_bytes: int, clients: int, streams: int, seconds: float
) -> Sample:
    """Calls a gRPC method whose request is `message`, `streams` at a time on each of `clients` connections.

    Args:
        url: `http://host:port/package.Service/Method`.
        application: goes into the metadata of that name.
        message: the serialised request.
        reply_bytes: size of all response messages of one call together, each with its five bytes of framing. An error
            in gRPC is an HTTP success without a body, so too few bytes is how h2load can tell.
        clients: connections.
        streams: calls in flight on each.
        seconds: how long.

    Raises:
        LoadError: h2load failed, or a reply was an error or too small.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        body, log = Path(directory, "body"), Path(directory, "log")
        body.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        output = _run(
            [
                *("h2load", "--threads=1", f"--clients={clients}", f"--max-concurrent-streams={streams}"),
                *(f"--duration={_whole(seconds)}", f"--data={body}", f"--log-file={log}"),
                *("--header=content-type: application/grpc", "--header=te: trailers"),
                *(f"--header=application: {application}", url),
            ],
            seconds,
        )
        latencies_s = [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()]
    check_h2load(output, reply_bytes)
    return Sample.of_latencies(latencies_s, _whole(seconds))


def check_h2load(output: str, reply_bytes: int) -> None:
    """Raises LoadError when what h2load has printed speaks of errors, or of replies too small to be successes."""
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if counts is None:
        raise LoadError(f"h2load said: {output.strip()[-200:]}")
    succeeded, *troubles = (int(count) for count in counts.groups())
    received = int(_find(r"\((\d+)\) data", output))
    if not succeeded or any(troubles):
        raise LoadError(counts.group(0))
    if received < succeeded * reply_bytes:
        raise LoadError(f"{succeeded} replies of {reply_bytes} bytes would be more than the {received} bytes received")


def _whole(seconds: float) -> int:
    """Both programs take whole seconds only, one at least."""
    return max(1, round(seconds))


def _run(command: Sequence[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{command[0]} did not end within {seconds + _SLACK_S:.0f} s") from error
    if done.returncode:
        raise LoadError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def _wrk_latency_ms(percent: str, output: str) -> float:
    found = _search(rf"{percent}% +([\d.]+)([a-z]+)", output)
    return float(found.group(1)) * _SECONDS_OF[found.group(2)] * 1e3


def _find(pattern: str, output: str) -> str:
    return _search(pattern, output).group(1)


def _search(pattern: str, output: str) -> re.Match[str]:
    found = re.search(pattern, output)
    if found is None:
        raise LoadError(f"no {pattern!r} in: {output.strip()[-200:]}")
    return found
