"""Tensors of the Open Inference Protocol <-> numpy arrays.

Elements come raw (little-endian, row-major; each element of BYTES behind a uint32 with its length) or typed. Raw ones
are not copied: the arrays are views of the message and cannot be written to. numpy has no bfloat16: BF16 is FP32 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from struct import error as struct_error
from struct import unpack_from
from typing import Any

import numpy as np

from meshserve.v1.inference_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse

Array = Any
"""A numpy.ndarray."""

_DTYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BF16": "<f4",
    "BYTES": "O",
}
DATATYPES = tuple(_DTYPES)
"""The protocol's names of element types."""

_OF_DTYPE = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}

_FIELDS: dict[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where typed elements stand; FP16 and BF16 exist raw only."""

_SHARED_MEMORY = "shared_memory_region"


def read_inputs(request: ModelInferRequest) -> dict[str, Array]:
    """The input tensors by name.

    Raises:
        ValueError: a tensor is not one: unknown datatype, a shape that its elements do not fill, a name used twice.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise ValueError(f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs: one for each.")
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise ValueError(f"there are two inputs named {tensor.name!r}.")
        try:
            arrays[tensor.name] = _read(tensor, raw[index] if raw else None)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"input {tensor.name!r}: {error}") from error
    return arrays


def _read(tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Array:
    if tensor.datatype not in _DTYPES:
        raise ValueError(f"there is no datatype {tensor.datatype!r}; there are {', '.join(_DTYPES)}.")
    if any(size < 0 for size in tensor.shape):
        raise ValueError(f"the shape {list(tensor.shape)} has a negative dimension.")
    if _SHARED_MEMORY in tensor.parameters:
        raise ValueError("shared memory is not served here: send the elements in the request.")
    if raw is None:
        elements = _typed_elements(tensor.datatype, tensor.contents)
    elif tensor.HasField("contents"):
        raise ValueError("it has contents, and raw_input_contents besides: send one of them.")
    else:
        elements = _raw_elements(tensor.datatype, raw)
    if len(elements) != prod(tensor.shape):
        raise ValueError(
            f"its shape {list(tensor.shape)} has {prod(tensor.shape)} elements of {tensor.datatype}, "
            f"but {len(elements)} came."
        )
    return elements.reshape(tuple(tensor.shape))


def _raw_elements(datatype: str, raw: bytes) -> Array:
    if datatype == "BYTES":
        return _array_of_bytes(_split(raw))
    if datatype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, _DTYPES[datatype])


def _split(raw: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(raw):
        try:
            (size,) = unpack_from("<I", raw, at)
        except struct_error:
            raise ValueError("its bytes end inside the length of an element.") from None
        at += 4 + size
        if at > len(raw):
            raise ValueError("its bytes end inside an element.")
        elements.append(raw[at - size : at])
    return elements


def _array_of_bytes(elements: Sequence[bytes]) -> Array:
    array: Array = np.empty(len(elements), object)
    array[:] = elements
    return array


def _typed_elements(datatype: str, contents: InferTensorContents) -> Array:
    field = _FIELDS.get(datatype)
    if field is None:
        raise ValueError(f"{datatype} has no typed contents: send it in raw_input_contents.")
    for other in set(_FIELDS.values()) - {field}:
        if getattr(contents, other):
            raise ValueError(f"the elements of {datatype} belong into {field}, not into {other}.")
    elements = getattr(contents, field)
    return _array_of_bytes(elements) if datatype == "BYTES" else np.array(list(elements), _DTYPES[datatype])


def write_outputs(response: ModelInferResponse, arrays: Mapping[str, Array], datatypes: Mapping[str, str]) -> None:
    """Puts output tensors into a response, raw.

    Args:
        arrays: by name; whatever numpy makes arrays of.
        datatypes: of those tensors that have a declared one; others follow from their arrays.

    Raises:
        TypeError: an array is not of its datatype, or of none that the protocol has.
    """
    for name, value in arrays.items():
        array = np.asarray(value)
        try:
            datatype = datatypes.get(name) or _datatype_of(array)
            raw = _to_raw(array, datatype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"output {name!r}: {error}") from error
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(raw)


def _datatype_of(array: Array) -> str:
    """The protocol's name of an array's element type.

    Raises:
        TypeError: it has none.
    """
    if array.dtype.kind in "OSU":
        return "BYTES"
    name = _OF_DTYPE.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise TypeError(f"an array of {array.dtype} has no datatype in the protocol; it has {', '.join(_DTYPES)}.")
    return name


def _to_raw(array: Array, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(each).to_bytes(4, "little") + each for each in map(_as_bytes, array.ravel().tolist()))
    plain = array.astype(_DTYPES[datatype], casting="same_kind", copy=False)
    if datatype == "BF16":
        plain = _rounded(plain)
    raw: bytes = plain.tobytes()
    return raw


def _rounded(array: Array) -> Array:
    """FP32 as BF16: the upper halves, rounded to nearest even."""
    bits = array.view("<u4") if array.flags.c_contiguous else array.copy().view("<u4")
    return np.where(np.isnan(array), 0x7FC0, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _as_bytes(element: object) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes):
        return element
    raise TypeError(f"an element is {type(element).__name__}, not bytes or text.")


def typed(response: ModelInferResponse) -> bool:
    """Moves raw elements into typed contents, for clients that sent theirs so; not when a tensor exists raw only.

    Returns:
        Whether it did.
    """
    if any(tensor.datatype not in _FIELDS for tensor in response.outputs):
        return False
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        field = getattr(tensor.contents, _FIELDS[tensor.datatype])
        field.extend(_raw_elements(tensor.datatype, raw).tolist())
    del response.raw_output_contents[:]
    return True
