"""The mesh's news on the console of a program that has not set up logging itself."""

from __future__ import annotations

import logging
import sys


def show_log() -> None:
    """Prints what the logger `meshserve` says, at INFO and above, unless the program has decided about logging."""
    logger = logging.getLogger("meshserve")
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
