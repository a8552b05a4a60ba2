"""From an HTTP request to the input of a graph: the adapters for `DAGDriver`, each a FastAPI dependency."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from fastapi import File
from pydantic import BaseModel, Field
from starlette.requests import Request

from meshserve.user.buffered_request import buffered

if TYPE_CHECKING:
    import numpy

_Numbers1 = list[float]
_Numbers2 = list[_Numbers1]
_Numbers3 = list[_Numbers2]
_Numbers4 = list[_Numbers3]


class NdArray(BaseModel):
    """A numeric array in JSON.

    Attributes:
        array: its numbers, in lists of one to four levels.
        shape: the shape to give it; by default that of the lists.
        dtype: the name of the type of its numbers; by default that of floats.
    """

    array: _Numbers1 | _Numbers2 | _Numbers3 | _Numbers4 = Field(description="Numbers, in 1 to 4 levels of lists.")
    shape: list[int] | None = Field(default=None, description="The shape to give the array.")
    dtype: str | None = Field(default=None, description="The numpy name of the type of its numbers.")


async def starlette_request(request: Request) -> Request:
    """The request as it is, its body read to the end."""
    return await buffered(request)


async def json_request(request: Request) -> Any:
    """The JSON of the body, whatever it is."""
    return await request.json()


def json_to_ndarray(payload: NdArray) -> numpy.ndarray[Any, Any]:
    """A numpy array."""
    import numpy  # noqa: PLC0415 - not every mesh has it

    array: numpy.ndarray[Any, Any] = numpy.array(payload.array)
    if payload.shape:
        array = array.reshape(*payload.shape)
    if payload.dtype is not None:
        array = array.astype(payload.dtype)
    return array


def json_to_multi_ndarray(payload: dict[str, NdArray]) -> dict[str, numpy.ndarray[Any, Any]]:
    """Several numpy arrays by name."""
    return {name: json_to_ndarray(one) for name, one in payload.items()}


def image_to_ndarray(img: bytes = File(...)) -> numpy.ndarray[Any, Any]:
    """The pixels of an image, uploaded as the multipart field `img`.

    Raises:
        ImportError: Pillow or numpy is not installed.
    """
    import numpy  # noqa: PLC0415 - not every mesh has it

    try:
        from PIL import Image  # noqa: PLC0415 - not every mesh has it
    except ImportError as error:
        raise ImportError("image_to_ndarray needs Pillow: install `pillow` where the driver runs.") from error
    pixels: numpy.ndarray[Any, Any] = numpy.array(Image.open(io.BytesIO(img)))
    return pixels


async def pandas_read_json(raw_request: Request) -> Any:
    """A pandas DataFrame: `pandas.read_json` of the body, with the query parameters, which are text, as its options.

    Raises:
        ImportError: pandas is not installed.
    """
    import pandas  # type: ignore[import-untyped]  # noqa: PLC0415 - not every mesh has it

    body = (await raw_request.body()).decode()
    options: dict[str, Any] = dict(raw_request.query_params)
    return pandas.read_json(io.StringIO(body), **options)
