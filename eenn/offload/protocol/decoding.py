"""From untrusted bytes to messages.

A message that contradicts its own header raises one error. No memory is allocated on a header's
word alone, and no content beyond the receiver's bounds is parsed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NoReturn, TypeVar

import numpy as np

from eenn.files import Json, JsonObject
from eenn.offload.protocol.bounds import DEFAULT_BOUNDS, ID_CHARACTERS, Bounds
from eenn.offload.protocol.errors import BadReply, BadRequest
from eenn.offload.protocol.wire import (
    DTYPES,
    FILES,
    JSON_LENGTH,
    Malformed,
    Parameter,
    Request,
    Response,
    Tensor,
    brief,
    check_finite,
    check_shape,
    import_zstandard,
    malformed_as,
)

T = TypeVar("T")

ZSTD_WINDOW_BYTES = 8 * 2**20  # what RFC 9659 lets a receiver of HTTP content insist on


def declared_bytes(body: bytes, headers: Mapping[str, str], bounds: Bounds) -> int:
    """Find the number of bytes of a request's body, decompressed, as a compressed body declares it.

    Raises:
        BadRequest: the number is larger than allowed or is not declared.
    """
    with malformed_as(BadRequest):
        return _declared_bytes(body, headers, bounds)


def decode_request(
    body: bytes,
    headers: Mapping[str, str],
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Request:
    """Decode the request in an HTTP body; the tensors may be read-only.

    Raises:
        BadRequest: the body is not a request of this protocol, or exceeds `bounds`.
    """
    with malformed_as(BadRequest):
        header, body, start = _split(body, headers, bounds)
        parameters = _parameters(header)
        binary = parameters.get("binary_data_output") is True
        outputs = {}
        for entry in _entries(header, "outputs", []):
            asked = _parameters(entry)
            if set(asked) - {"binary_data"}:
                raise Malformed(f"output parameters {brief(asked)}; allowed is binary_data")
            outputs[_get(entry, "name", str)] = _get(asked, "binary_data", bool, binary)
        inputs = _tensors(_entries(header, "inputs"), body, start, bounds)
        return Request(inputs, parameters, outputs, _id(header))


def decode_response(
    body: bytes,
    headers: Mapping[str, str],
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Response:
    """Decode the response in an HTTP body; arguments as for `decode_request`.

    Raises:
        BadReply: the body is not a response of this protocol, or exceeds `bounds`.
    """
    with malformed_as(BadReply):
        header, body, start = _split(body, headers, bounds)
        outputs = _tensors(_entries(header, "outputs"), body, start, bounds)
        return Response(_get(header, "model_name", str, ""), outputs, _id(header))


def _split(
    body: bytes, headers: Mapping[str, str], bounds: Bounds
) -> tuple[JsonObject, bytes, int]:
    """Split a body into JSON header, decompressed body, and start of the tensors."""
    size = _declared_bytes(body, headers, bounds)
    length = _header(headers, JSON_LENGTH, str(size))
    # int() alone would accept signs, spaces, underscores and digits of other alphabets.
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise Malformed(f"{JSON_LENGTH} is {brief(length)}; allowed is a number of bytes")
    start = int(length)
    if start > size:
        raise Malformed(f"{JSON_LENGTH} is {start}, but the body has {size} bytes")
    if start == 0 < size:
        raise Malformed(
            f"{JSON_LENGTH} is 0, as in a raw binary request; allowed is a JSON header with "
            "name, datatype and shape of the bytes behind it"
        )
    bounds.check_json_bytes(start)
    if _encoding(headers) == "zstd":
        body = _decompress(body)
    bounds.check_json(body, start)
    try:
        # RFC 8259 lets a receiver ignore a byte order mark.
        header = _JSON.decode(str(memoryview(body)[:start], "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the header is not JSON: {error}") from error
    if type(header) is not dict:
        raise Malformed("the header is not a JSON object; allowed is one with its tensors")
    return header, body, start


def _header(headers: Mapping[str, str], name: str, default: str) -> str:
    """Look up an HTTP header, ignoring the case of its name."""
    return {given.lower(): value for given, value in headers.items()}.get(name.lower(), default)


def _encoding(headers: Mapping[str, str]) -> str:
    encoding = _header(headers, "Content-Encoding", "identity").strip().lower()
    if encoding not in ("zstd", "identity"):
        raise Malformed(f"content encoding {brief(encoding)}; allowed are zstd and identity")
    return encoding


def _declared_bytes(body: bytes, headers: Mapping[str, str], bounds: Bounds) -> int:
    if _encoding(headers) == "identity":
        return len(body)
    zstandard = import_zstandard()
    try:
        # A frame without a size declares 2^64 - 1.
        declared: int = zstandard.get_frame_parameters(body).content_size
    except zstandard.ZstdError as error:
        raise Malformed(f"the body is not the zstd it says it is: {error}") from error
    if declared > bounds.content_bytes:
        raise Malformed(
            f"a zstd body has to declare its size, at most {bounds.content_bytes} bytes"
        )
    return declared


def _decompress(body: bytes) -> bytes:
    """Decompress a body; the size that it declares, which was checked, is allocated."""
    zstandard = import_zstandard()
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        content: bytes = decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"the body is not the zstd it says it is: {error}") from error
    return content


def _tensors(
    entries: Sequence[JsonObject], body: bytes, start: int, bounds: Bounds
) -> dict[str, Tensor]:
    """Read the tensors of all entries; their bytes fill the body from `start` on."""
    tensors: dict[str, Tensor] = {}
    files_left = bounds.files
    for entry in entries:
        name, datatype = _get(entry, "name", str), _get(entry, "datatype", str)
        shape, parameters = check_shape(_get(entry, "shape", list)), _parameters(entry)
        if datatype not in DTYPES and datatype != FILES:
            raise Malformed(f"datatype {brief(datatype)}; allowed are {', '.join(DTYPES)}, {FILES}")
        if name in tensors:
            raise Malformed(f"two tensors are called {brief(name)}")
        if datatype == FILES and (files_left := files_left - math.prod(shape)) < 0:
            raise Malformed(
                f"{FILES} of shape {list(shape)}; at most {bounds.files} elements are taken here"
            )
        if "binary_data_size" in parameters:
            size = _get(parameters, "binary_data_size", int)
            if not 0 <= size <= len(body) - start or "data" in entry:
                raise Malformed(
                    f"tensor {brief(name)}: {brief(size)} bytes of it are not in the body"
                )
            # A slice is a copy, and so aligned at any length of the header.
            tensor = _from_bytes(body[start : start + size], datatype, shape)
            start += size
        else:
            tensor = _from_json(_get(entry, "data", list), datatype, shape)
        check_finite(name, tensor)
        tensors[name] = tensor
    if not tensors:
        raise Malformed("a message without tensors; allowed is at least one tensor")
    if start != len(body):
        raise Malformed(f"{len(body) - start} bytes follow the last tensor")
    return tensors


def _from_bytes(data: bytes, datatype: str, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    if datatype != FILES:
        if len(data) != count * DTYPES[datatype].itemsize:
            raise Malformed(f"{datatype} of shape {list(shape)} does not take {len(data)} bytes")
        return np.frombuffer(data, DTYPES[datatype]).reshape(shape)
    files: list[bytes] = []
    start = 0
    while start < len(data) and len(files) < count:
        length = int.from_bytes(data[start : start + 4], "little")
        files.append(data[start + 4 : start + 4 + length])
        start += 4 + length
    if start != len(data) or len(files) != count:
        raise Malformed(f"{FILES} of shape {list(shape)} does not match its {len(data)} bytes")
    tensor = np.empty(count, object)
    tensor[:] = files
    return tensor.reshape(shape)


def _from_json(data: list[Json], datatype: str, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor from a flat list of numbers, or from lists nested like its shape."""
    nested = data and type(data[0]) is list
    numbers: list[Json] = [data]
    for size in shape if nested else (math.prod(shape),):
        rows = [row for row in numbers if type(row) is list and len(row) == size]
        if len(rows) < len(numbers):
            raise Malformed(f"JSON data is not of shape {list(shape)}")
        numbers = list(chain.from_iterable(rows))
    kinds = {type(number) for number in numbers}
    if datatype == "FP32" and kinds <= {int, float}:
        try:
            with np.errstate(over="ignore"):
                return np.array(numbers, np.float32).reshape(shape)
        except OverflowError as error:
            raise Malformed("JSON data of FP32 has an integer beyond its range") from error
    if datatype == "UINT8" and kinds == {int}:
        whole = np.array(numbers, object)
        if whole.min() >= 0 and whole.max() <= 255:
            return whole.astype(np.uint8).reshape(shape)
    raise Malformed(f"JSON data of {datatype}: allowed are numbers for FP32 and 0 to 255 for UINT8")


def _get(entry: JsonObject, key: str, kind: type[T], default: T | None = None) -> T:
    """Read a member of a JSON object that has exactly the type `kind`; null counts as absent."""
    value = entry.get(key)
    if value is None and default is not None:
        return default
    # A bool would pass for an int.
    if isinstance(value, kind) and type(value) is kind:
        return value
    raise Malformed(f"{key} is {brief(value)}; allowed is a value of type {kind.__name__}")


def _id(header: JsonObject) -> str:
    own = _get(header, "id", str, "")
    if len(own) > ID_CHARACTERS:
        raise Malformed(f"an id of {len(own)} characters; at most {ID_CHARACTERS} are taken")
    return own


def _entries(
    header: JsonObject, key: str, default: list[JsonObject] | None = None
) -> list[JsonObject]:
    entries = _get(header, key, list, default)
    if not all(type(entry) is dict for entry in entries):
        raise Malformed(f"{key} is not a list of JSON objects, which alone is allowed")
    return entries


def _parameters(entry: JsonObject) -> dict[str, Parameter]:
    parameters = _get(entry, "parameters", dict, {})
    for name, value in parameters.items():
        if type(value) not in (str, int, float, bool) or value in (math.inf, -math.inf):
            raise Malformed(
                f"parameter {brief(name)} is {brief(value)}; allowed: text, numbers, bools"
            )
    return parameters


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)
