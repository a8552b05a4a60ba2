"""Ray's calls beside the loop, also when there is no thread to be had for them any more."""

from __future__ import annotations

import subprocess
import sys
import threading

from replicas import on_io

from meshserve.launch.apart import apart

AT_EXIT = """
import asyncio, atexit
from meshserve.launch.apart import apart
atexit.register(lambda: print(asyncio.run(apart(max, 1, 2))))
"""


@on_io
async def test_what_blocks_runs_on_another_thread():
    assert await apart(threading.get_ident) != threading.get_ident()


def test_at_the_end_of_the_program_it_runs_in_place():
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("2\n", "")
