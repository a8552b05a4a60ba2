"""What a Starlette application needs to live in a replica: answers for refused child calls, a state that travels.

Imported only for such an application.
"""

from __future__ import annotations

import math
from typing import Any

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from meshserve.errors import BackPressureError, DeploymentUnavailableError


async def busy(_request: Request, error: Exception) -> Response:
    """A queue was full: the status and the advice that the deployment's author chose."""
    assert isinstance(error, BackPressureError)
    headers = None if error.retry_after_s is None else {"retry-after": str(math.ceil(error.retry_after_s))}
    return PlainTextResponse(error.message, error.status_code, headers)


async def unavailable(_request: Request, error: Exception) -> Response:
    """The deployment failed or was deleted."""
    assert isinstance(error, DeploymentUnavailableError)
    return PlainTextResponse(error.message, 503)


class PortableState(State):
    """`app.state` that can be pickled; Starlette's own looks for its content before it has any, and never finds out.

    Args:
        state: the content.
    """

    def __reduce__(self) -> tuple[type[PortableState], tuple[dict[str, Any]]]:
        return PortableState, (self._state,)
