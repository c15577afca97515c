"""Invalid messages: decoded to their content, or refused in one way and in a short line."""

import json
import struct
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np

from eenn.files import Json
from eenn.offload.protocol.bounds import Bounds
from eenn.offload.protocol.decoding import declared_bytes, decode_request, decode_response
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import BadReply, BadRequest
from eenn.offload.protocol.wire import JSON_LENGTH, Request, Response

Sent = tuple[bytes, dict[str, str]]

SHAPE, SAMPLES, MAX_BYTES = (3, 8, 8), 4, 2**16
BOUNDS = Bounds.of_features(MAX_BYTES, SAMPLES, SHAPE)
# A line of an error; its quotes are cut short.
LINE = 600
ODD: tuple[Json, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 10**30, 1e-320, 1e308, "", "FP32", "BYTES", "UINT8", [],
    [0], [[]], [[], []], {}, {"binary_data_size": -1}, "\x00", "\ud800", 99 * "x", 300 * [1],
)  # fmt: skip
NAMES = (
    "id", "inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "scale",
    "zero_point", "binary_data_size", "binary_data", "binary_data_output", "eenn_artifact",
)  # fmt: skip
HEADERS = ("", "0", "-1", "1e3", "99999999999999999999", "zstd", "gzip", "zstd;x", "identity", " 7")


def request_bytes(random: Random) -> None:
    """Decode a request with some bytes, headers or members changed."""
    body, headers = _damaged(random)
    try:
        declared = declared_bytes(body, headers, BOUNDS)
        request = decode_request(body, headers, BOUNDS)
    except BadRequest as error:
        _check_line(error)
        return
    _check_request(request, declared)


def response_bytes(random: Random) -> None:
    """Decode changed bytes as a response."""
    body, headers = _damaged(random)
    body = body.replace(b'"inputs"', b'"outputs"')
    try:
        response = decode_response(body, headers, BOUNDS)
    except BadReply as error:
        _check_line(error)
        return
    _check_tensors(response)


def json_of_many_parts(random: Random) -> None:
    """Decode JSON of more parts than allowed, which is refused before it is parsed."""
    part = random.choice((b"[],", b"{},", b'"a":1,', b"0,", b'"",', b"[[", b'{"":', b"[{},"))
    start = random.choice((b"[", b"{", b'{"inputs":[', b""))
    text = start + part * random.randrange(5_000, 20_000)
    try:
        decode_request(text, {}, BOUNDS)
    except BadRequest as error:
        _check_line(error)
        if "at most" not in str(error):
            raise AssertionError(f"parsed: {error}") from error
        return
    raise AssertionError("taken")


def _check_line(error: Exception) -> None:
    text = str(error)
    if len(text) > LINE or "\n" in text or " at 0x" in text:
        raise AssertionError(f"not a short line: {text[:LINE]!r}") from error


def _check_request(request: Request, declared: int) -> None:
    _check_tensors(request)
    if declared > MAX_BYTES:
        raise AssertionError(f"{declared} bytes where {MAX_BYTES} are allowed")


def _check_tensors(message: Request | Response) -> None:
    tensors = message.inputs if isinstance(message, Request) else message.outputs
    for tensor in tensors.values():
        if not tensor.size or (tensor.dtype.kind == "f" and not np.isfinite(tensor).all()):
            raise AssertionError(f"a tensor of {tensor.shape} with {tensor.dtype}")
    if sum(tensor.nbytes for tensor in tensors.values()) > 64 * MAX_BYTES:
        raise AssertionError("more than its message can hold")


@cache
def _honest() -> tuple[Sent, ...]:
    values = np.linspace(-2, 2, SAMPLES * 3 * 8 * 8, dtype=np.float32).reshape(SAMPLES, *SHAPE)
    files = np.empty(2, object)
    files[:] = [b"one file", b"another one"]
    requests = (
        Request({"features": values}, {"eenn_artifact": 64 * "0"}, {"logits": True}, "an id"),
        Request({"features": values.astype(np.float16)}),
        Request({"features": (values + 2).astype(np.uint8)}, {"scale": 0.5, "zero_point": 4}),
        Request({"image": files}, {"cropped": True}),
    )
    entry = {"name": "x", "datatype": "FP32", "shape": [1, *SHAPE], "data": values[0].tolist()}
    in_json: Sent = (json.dumps({"inputs": [entry]}).encode(), {})
    return (in_json, *(encode_request(own, packed) for own in requests for packed in (False, True)))


def _damaged(random: Random) -> Sent:
    body, headers = random.choice(_honest())
    for _ in range(random.choice((1, 1, 2, 3))):
        body, headers = random.choice(_DAMAGES)(random, body, headers)
    return body, headers


def _with_bytes(random: Random, body: bytes, headers: dict[str, str]) -> Sent:
    start = random.randrange(len(body) + 1)
    end = random.choice((start, start + 1, start + 4, len(body)))
    new = random.choice((b"", random.randbytes(4), struct.pack("<I", 2**31), 9 * body[start:end]))
    return body[:start] + new + body[end:], headers


def _with_member(random: Random, body: bytes, headers: dict[str, str]) -> Sent:
    """Replace or add a member of the JSON, and set its length right."""
    length = headers.get(JSON_LENGTH, str(len(body)))
    try:
        header = json.loads(body[: int(length)])
    except (ValueError, RecursionError):
        return body, headers
    place: Any = header
    while isinstance(place, dict | list) and place:
        key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if not isinstance(inner, dict | list) or random.random() < 0.3:
            name: Any = random.choice((key, random.choice(NAMES)))
            name = name if isinstance(place, dict) else key
            place[name] = random.choice(ODD)
            break
        place = inner
    text = json.dumps(header).encode()
    return text + body[int(length) :], headers | {JSON_LENGTH: str(len(text))}


def _with_header(random: Random, body: bytes, headers: dict[str, str]) -> Sent:
    name = random.choice((JSON_LENGTH, "Content-Encoding"))
    return body, headers | {name: random.choice((*HEADERS, str(random.randrange(3000))))}


def _with_nothing(random: Random, *_: object) -> Sent:
    """Write a tensor with a dimension of 0, with all its bytes or numbers."""
    shape = [random.choice((0, 1, 3)) for _ in range(random.randrange(1, 5))]
    shape[random.randrange(len(shape))] = 0
    entry: dict[str, Json] = {
        "name": "features", "shape": shape,
        "datatype": random.choice(("FP32", "FP16", "UINT8", "BYTES")),
    }  # fmt: skip
    if random.random() < 0.5:
        entry["parameters"] = {"binary_data_size": 0}
    else:
        entry["data"] = np.empty(shape).tolist()
    text = json.dumps({"inputs": [entry]}).encode()
    return text, {JSON_LENGTH: str(len(text))}


_DAMAGES: tuple[Callable[[Random, bytes, dict[str, str]], Sent], ...] = (
    _with_bytes,
    _with_member,
    _with_header,
    _with_nothing,
)
