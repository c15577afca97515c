"""The wire: inference requests and responses as bytes.

Open Inference Protocol V2 over HTTP with the binary tensor extension, as KServe and Triton document
it. A message is a JSON header and then the raw bytes of its tensors, little-endian and row-major;
the HTTP header Inference-Header-Content-Length says where the JSON ends. Instead a tensor may stand
in the JSON as a list. A whole request may be compressed with zstd (Content-Encoding).

What comes in is not trusted: a message that is not exactly what it says raises one error, and
nothing is allocated because a header claims it. NumPy, and zstandard only where it is used.
"""

import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import PLAIN
from eenn.offload.protocol.errors import BadReply, BadRequest

Tensor = NDArray[Any]
Parameter = str | int | float | bool
T = TypeVar("T")

ARTIFACT = "eenn_artifact"  # the parameter that carries the manifest's id
VERSION_DIGITS = 12  # of that id; they are the model's version
FEATURES, LOGITS = "features", "logits"  # what a model takes in and gives, here and in graphs
IMAGE_MODEL, IMAGE = "eenn-cloud-image", "image"  # the model that takes image files, and its input
CROPPED = "cropped"  # the parameter that says that they are the preprocessing's crop already

DTYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP16": np.dtype("<f2"),
    "UINT8": np.dtype("u1"),
}
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
MAX_RANK, MAX_DIMENSION = 8, 2**31 - 1
MAX_BYTES = 64 * 2**20
ZSTD_LEVEL = 1
ZSTD_WINDOW_BYTES = 8 * 2**20  # what RFC 9659 lets a receiver of HTTP content insist on
JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Request:
    """A request for inference.

    Args:
        inputs: tensors by name; float32, float16, uint8, or objects that are `bytes` (files).
        parameters: of the whole request.
        outputs: those asked for, and whether each is to come as bytes (else as JSON); none asks for
            all, in the form that the parameter `binary_data_output` names.
        id: comes back with the response.
    """

    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: Mapping[str, bool] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class Response:
    """The response of the model `model`: its outputs by name."""

    model: str
    outputs: Mapping[str, Tensor]
    id: str = ""


def model_name(split: int, heads: str = PLAIN) -> str:
    """The name of the model that takes the features of split point `split`, and answers with the
    last head of the set `heads`."""
    return f"eenn-cloud-{split}" if heads == PLAIN else f"eenn-cloud-{split}-{heads}"


def encode_request(request: Request, compress: bool = False) -> tuple[bytes, dict[str, str]]:
    """Body and HTTP headers of a request.

    Raises:
        BadRequest: a tensor of a kind that the wire does not carry, or with NaN or infinity.
    """
    with _raising(BadRequest):
        inputs, blobs = _describe(request.inputs, dict.fromkeys(request.inputs, True))
        header: dict[str, Any] = {"id": request.id} if request.id else {}
        header["inputs"] = inputs
        if request.outputs:
            header["outputs"] = [
                {"name": name, "parameters": {"binary_data": binary}}
                for name, binary in request.outputs.items()
            ]
        if request.parameters:
            header["parameters"] = dict(request.parameters)
        return _join(header, blobs, compress)


def decode_request(body: bytes, headers: Mapping[str, str], max_bytes: int = MAX_BYTES) -> Request:
    """The request in an HTTP body; its tensors may be read-only.

    Args:
        max_bytes: that a compressed body may grow to.

    Raises:
        BadRequest: anything that is not a request of this protocol.
    """
    with _raising(BadRequest):
        header, body, start = _split(body, headers, max_bytes)
        parameters = _parameters(header)
        binary = parameters.get("binary_data_output") is True
        outputs = {}
        for entry in _entries(header, "outputs", []):
            asked = _parameters(entry)
            if set(asked) - {"binary_data"}:
                _refuse(f"output parameters {_brief(asked)}: only binary_data is known here")
            outputs[_get(entry, "name", str)] = _get(asked, "binary_data", bool, binary)
        inputs = _tensors(_entries(header, "inputs"), body, start)
        return Request(inputs, parameters, outputs, _get(header, "id", str, ""))


def encode_response(
    request: Request, model: str, outputs: Mapping[str, Tensor]
) -> tuple[bytes, dict[str, str]]:
    """Body and HTTP headers of the response, every output in the form that `request` asks for.

    Raises:
        BadRequest: outputs with NaN or infinity, which only extreme inputs lead to.
    """
    with _raising(BadRequest):
        default = request.parameters.get("binary_data_output") is True
        binary = {name: request.outputs.get(name, default) for name in outputs}
        entries, blobs = _describe(outputs, binary)
        header: dict[str, Any] = {"id": request.id} if request.id else {}
        return _join(header | {"model_name": model, "outputs": entries}, blobs)


def decode_response(
    body: bytes, headers: Mapping[str, str], max_bytes: int = MAX_BYTES
) -> Response:
    """The response in an HTTP body; arguments as of `decode_request`.

    Raises:
        BadReply: anything that is not a response of this protocol.
    """
    with _raising(BadReply):
        header, body, start = _split(body, headers, max_bytes)
        outputs = _tensors(_entries(header, "outputs"), body, start)
        return Response(_get(header, "model_name", str, ""), outputs, _get(header, "id", str, ""))


class _Malformed(ValueError):
    """What is wrong with a message; becomes the error of its direction."""


@contextmanager
def _raising(error: type[BadRequest] | type[BadReply]) -> Iterator[None]:
    try:
        yield
    except _Malformed as malformed:
        raise error(str(malformed)) from malformed.__cause__


def _refuse(message: str, cause: Exception | None = None) -> NoReturn:
    raise _Malformed(message) from cause


# Messages quote what came in, which may be megabytes.
_brief = reprlib.repr


def _describe(
    tensors: Mapping[str, Tensor], binary: Mapping[str, bool]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """The header's entries of tensors, and the buffers that follow the header."""
    entries, blobs = [], []
    for name, tensor in tensors.items():
        datatype, blob = _blob(name, tensor)
        entry: dict[str, Any] = {"name": name, "shape": list(tensor.shape), "datatype": datatype}
        _shape(entry)
        if binary[name]:
            entry["parameters"] = {"binary_data_size": blob.nbytes}
            blobs.append(blob)
        else:
            entry["data"] = tensor.ravel().tolist()
        entries.append(entry)
    return entries, blobs


def _blob(name: str, tensor: Tensor) -> tuple[str, memoryview]:
    if tensor.dtype == object:
        if not all(type(file) is bytes for file in tensor.ravel()):
            _refuse(f"tensor {_brief(name)} holds objects other than bytes")
        parts = [(len(file).to_bytes(4, "little"), file) for file in tensor.ravel()]
        return "BYTES", memoryview(b"".join(chain.from_iterable(parts)))
    little = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
    if little.dtype not in DATATYPES:
        _refuse(f"tensor {_brief(name)} is {tensor.dtype}; the wire has {', '.join(DTYPES)}, BYTES")
    _check_finite(name, little)
    return DATATYPES[little.dtype], little.data


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        _refuse(f"tensor {_brief(name)} has NaN or infinity; all values have to be finite")


def _join(
    header: Mapping[str, Any], blobs: list[Any], compress: bool = False
) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(header, separators=(",", ":")).encode()
    if not blobs:
        return text, {"Content-Type": "application/json"}
    body = b"".join([text, *blobs])
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(text))}
    if compress:
        # A compressor serves one thread only, and a new one costs 0.03 ms.
        body = _zstandard().ZstdCompressor(level=ZSTD_LEVEL).compress(body)
        headers["Content-Encoding"] = "zstd"
    return body, headers


def _split(
    body: bytes, headers: Mapping[str, str], max_bytes: int
) -> tuple[dict[str, Any], bytes, int]:
    """The JSON header, the whole body decompressed, and where in it the tensors start."""
    given = {name.lower(): value for name, value in headers.items()}
    encoding = given.get("content-encoding", "identity").strip().lower()
    if encoding == "zstd":
        body = _decompress(body, max_bytes)
    elif encoding != "identity":
        _refuse(f"content encoding {_brief(encoding)}; allowed are zstd and identity")
    length = given.get(JSON_LENGTH.lower(), str(len(body)))
    # int() alone would take signs, blanks, underscores and other alphabets' digits.
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        _refuse(f"{JSON_LENGTH} is {_brief(length)}; it has to be a number of bytes")
    start = int(length)
    if start > len(body):
        _refuse(f"{JSON_LENGTH} is {start}, but the body has {len(body)} bytes")
    try:
        header = _JSON.decode(str(memoryview(body)[:start], "utf-8"))
    except (ValueError, RecursionError) as error:
        _refuse(f"the header is no JSON: {error}", error)
    if type(header) is not dict:
        _refuse("the header has to be a JSON object")
    return header, body, start


def _decompress(body: bytes, max_bytes: int) -> bytes:
    zstandard = _zstandard()
    try:
        # One-shot decompression allocates what the frame declares; without a size it says 2^64 - 1.
        if zstandard.get_frame_parameters(body).content_size > max_bytes:
            _refuse(f"a zstd body has to declare its size, at most {max_bytes} bytes")
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        content: bytes = decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        _refuse(f"the body is not the zstd it says it is: {error}", error)
    return content


def _tensors(entries: list[dict[str, Any]], body: bytes, start: int) -> dict[str, Tensor]:
    """The tensors of all entries, whose bytes follow each other from `start` to the body's end."""
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        name, datatype = _get(entry, "name", str), _get(entry, "datatype", str)
        shape, parameters = _shape(entry), _parameters(entry)
        if datatype not in DTYPES and datatype != "BYTES":
            _refuse(f"datatype {_brief(datatype)}; allowed are {', '.join(DTYPES)}, BYTES")
        if name in tensors:
            _refuse(f"two tensors are called {_brief(name)}")
        if "binary_data_size" in parameters:
            size = _get(parameters, "binary_data_size", int)
            if not 0 <= size <= len(body) - start or "data" in entry:
                _refuse(f"tensor {_brief(name)}: {_brief(size)} bytes of it are not in the body")
            # A slice is a copy, and so aligned wherever the header happens to end.
            tensor = _from_bytes(body[start : start + size], datatype, shape)
            start += size
        else:
            tensor = _from_json(_get(entry, "data", list), datatype, shape)
        _check_finite(name, tensor)
        tensors[name] = tensor
    if not tensors:
        _refuse("a message needs at least one tensor")
    if start != len(body):
        _refuse(f"{len(body) - start} bytes follow the last tensor")
    return tensors


def _from_bytes(data: bytes, datatype: str, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    if datatype != "BYTES":
        if len(data) != count * DTYPES[datatype].itemsize:
            _refuse(f"{datatype} of shape {list(shape)} does not take {len(data)} bytes")
        return np.frombuffer(data, DTYPES[datatype]).reshape(shape)
    files: list[bytes] = []
    start = 0
    while start < len(data) and len(files) < count:
        length = int.from_bytes(data[start : start + 4], "little")
        files.append(data[start + 4 : start + 4 + length])
        start += 4 + length
    if start != len(data) or len(files) != count:
        _refuse(f"BYTES of shape {list(shape)} is not what the {len(data)} bytes hold")
    tensor = np.empty(count, object)
    tensor[:] = files
    return tensor.reshape(shape)


def _from_json(data: list[Any], datatype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor from a flat list of numbers, or one nested like its shape."""
    nested = data and type(data[0]) is list
    numbers: list[Any] = [data]
    for size in shape if nested else (math.prod(shape),):
        if not all(type(row) is list and len(row) == size for row in numbers):
            _refuse(f"JSON data is not of shape {list(shape)}")
        numbers = list(chain.from_iterable(numbers))
    kinds = {type(number) for number in numbers}
    if datatype == "FP32" and kinds <= {int, float}:
        try:
            with np.errstate(over="ignore"):
                return np.array(numbers, np.float32).reshape(shape)
        except OverflowError as error:
            _refuse("JSON data of FP32 has an integer beyond its range", error)
    if datatype == "UINT8" and kinds == {int} and min(numbers) >= 0 and max(numbers) <= 255:
        return np.array(numbers, np.uint8).reshape(shape)
    _refuse(f"JSON data of {datatype}: allowed are numbers for FP32 and 0 to 255 for UINT8")


def _get(entry: Mapping[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    """A member of a JSON object, of exactly that type; null is as good as absent."""
    value = entry.get(key)
    value = default if value is None else value
    if type(value) is not kind:
        _refuse(f"{key} is {_brief(value)}; it has to be of type {kind.__name__}")
    return value


def _entries(
    header: Mapping[str, Any], key: str, default: list[Any] | None = None
) -> list[dict[str, Any]]:
    entries = _get(header, key, list, default)
    if not all(type(entry) is dict for entry in entries):
        _refuse(f"{key} has to be a list of JSON objects")
    return entries


def _parameters(entry: Mapping[str, Any]) -> dict[str, Parameter]:
    parameters = _get(entry, "parameters", dict, {})
    for name, value in parameters.items():
        if type(value) not in (str, int, float, bool) or value in (math.inf, -math.inf):
            _refuse(f"parameter {_brief(name)} is {_brief(value)}; allowed: text, numbers, bools")
    return parameters


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    shape = _get(entry, "shape", list)
    fits = all(type(size) is int and 1 <= size <= MAX_DIMENSION for size in shape)
    if not fits or not 1 <= len(shape) <= MAX_RANK:
        _refuse(f"shape {_brief(shape)}; allowed are 1 to {MAX_RANK} dimensions of at least 1")
    return tuple(shape)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        _refuse("zstd needs the package zstandard: pip install zstandard, or do without", error)
    return zstandard
