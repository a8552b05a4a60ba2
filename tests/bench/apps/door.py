"""How the runner asks a calling replica to do something: `POST {"op": ..., ...}` over the application's own HTTP route.

HTTP works on every target and in every mode, whatever a driver's handle can do there, and stays out of the figures:
one request starts a measurement and carries its result back.
"""

import asyncio
import json
from dataclasses import asdict
from typing import Any

from starlette.requests import Request


class Door:
    """Mixed into a deployment class whose async methods return a `Sample`; `op` names the method."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Runs the operation in the body; an empty body asks only whether anybody is there."""
        body = await request.body()
        if not body:
            return {"ready": True}
        order = json.loads(body)
        operation = getattr(self, order.pop("op"))
        try:
            return asdict(await operation(**order))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # The edge of the process: the runner prints it on the scenario's row.
            return {"error": f"{type(error).__name__}: {error}"}
