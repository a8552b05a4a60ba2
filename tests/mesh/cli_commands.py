"""Commands of `meshserve` as processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Command:
    """A command that runs, with everything it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def until(self, text: str) -> str:
        """Waits until it has said this; returns the line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}:\n{self.said}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Sends a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Waits for its end; returns the exit code."""
        assert self.process.stdout is not None
        self.said += self.process.stdout.read()
        return self.process.wait(60)


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[Command]:
    """Starts `meshserve`; kills it if the test leaves it running."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "meshserve.cli.main", *arguments],
        env={**own, "RAY_USAGE_STATS_ENABLED": "0", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Command(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
