"""Work done for several requests at once: running a batch, loading a model that many wait for.

Such work begins in one request's context but must not end with it. It keeps that request's names (request id,
application, model, trace), and gives up its deadline and its list of child calls: otherwise the cancellation or the
deadline of whoever came first would take the others down.
"""

from __future__ import annotations

from contextvars import Context

from meshserve.routing.scope import RequestScope, request_scope


def detach(context: Context) -> Context:
    """Frees a copied context from the deadline and the cancellation of the request it was copied in; returns it."""
    scope = context.get(request_scope)
    if scope is not None:
        context.run(request_scope.set, RequestScope(scope.context, None))
    return context
