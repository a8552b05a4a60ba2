"""`from meshserve.batching import batch`: handling many requests in one call. See `meshserve.batch`."""

from meshserve.user.batching import batch

__all__ = ["batch"]
