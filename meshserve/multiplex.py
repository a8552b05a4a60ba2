"""`from meshserve.multiplex import multiplexed`: many models behind one deployment. See `meshserve.multiplexed`."""

from meshserve.user.context import get_multiplexed_model_id
from meshserve.user.multiplex import multiplexed

__all__ = ["get_multiplexed_model_id", "multiplexed"]
