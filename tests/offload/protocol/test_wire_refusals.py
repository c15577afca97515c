"""Messages that are not what they say: each is refused with one error, and cheaply."""

import json
import struct
import tracemalloc
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from eenn.offload.protocol.bounds import Bounds
from eenn.offload.protocol.decoding import decode_request, decode_response
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import BadReply, BadRequest
from eenn.offload.protocol.wire import JSON_LENGTH, Request
from tests.offload.protocol.triton_message import TRITON_BYTES, TRITON_JSON, triton_request


def message(header: Any, data: bytes = b"") -> tuple[bytes, dict[str, str]]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return text + data, {JSON_LENGTH: str(len(text))}


def tensor_of(**changes: Any) -> dict[str, Any]:
    entry = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    return {key: value for key, value in (entry | changes).items() if value != "absent"}


def sized(size: Any, **changes: Any) -> dict[str, Any]:
    return tensor_of(parameters={"binary_data_size": size}, **changes)


def both(*entries: Any) -> dict[str, Any]:
    """A header that is a request's and a response's."""
    return {"inputs": [*entries], "outputs": [*entries]}


def in_json(datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return tensor_of(parameters="absent", datatype=datatype, shape=shape, data=data)


DATA = struct.pack("<2f", 1, 2)


BAD_ENTRIES = [
    tensor_of(shape=[3]),
    tensor_of(shape=[-1, -2]),
    tensor_of(shape=[0]),
    tensor_of(shape=[]),
    tensor_of(shape=[1] * 9 + [2]),
    tensor_of(shape=[2**31, 2**31]),
    tensor_of(shape=[10**4000]),
    tensor_of(shape=[2.0]),
    tensor_of(shape=[True, 2]),
    tensor_of(shape="2"),
    tensor_of(shape="absent"),
    tensor_of(datatype="FP64"),
    tensor_of(datatype=32),
    tensor_of(datatype="FP16"),
    tensor_of(datatype="BYTES"),
    tensor_of(name=None),
    tensor_of(name=["x"]),
    tensor_of(parameters={}),
    tensor_of(parameters=[]),
    sized(7),
    sized(9),
    sized(-8),
    sized(8.0),
    sized(10**4000),
    tensor_of(parameters={"binary_data_size": 8, "more": {}}),
    tensor_of(data=[1, 2]),
    "x",
]
BAD_LISTS = [
    in_json("FP32", [2], [1]),
    in_json("FP32", [2], [1, 2, 3]),
    in_json("FP32", [2, 2], [[1, 2], [3]]),
    in_json("FP32", [2, 2], [[1, 2], 3]),
    in_json("FP32", [2], [1, "2"]),
    in_json("FP32", [2], [1, True]),
    in_json("FP32", [2], [1, None]),
    in_json("FP32", [2], [1, 1e39]),
    in_json("FP32", [2], [1, 10**400]),
    in_json("FP32", [2], "12"),
    in_json("UINT8", [2], [1, 256]),
    in_json("UINT8", [2], [1, -1]),
    in_json("UINT8", [2], [1, 1.0]),
    in_json("FP16", [2], [1, 2]),
    in_json("BYTES", [2], ["a", "b"]),
    in_json("BYTES", [2], ["a" * 1000, *[""] * 1000]),
]


@pytest.mark.parametrize("entry", BAD_ENTRIES, ids=str)
def test_a_tensor_that_is_not_what_it_says_is_an_error(entry: Any) -> None:
    assert_refused(both(entry), DATA)


@pytest.mark.parametrize("entry", BAD_LISTS, ids=lambda entry: str(entry["data"])[:30])
def test_a_list_that_is_not_the_tensor_is_an_error(entry: Any) -> None:
    assert_refused(both(entry))


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"", b""),
        (b"[]", b""),
        (b"{", b""),
        (b"\xff{}", b""),
        (b"[" * 100_000, b""),
        (b"9" * 5_000, b""),
        ({**both(tensor_of()), "more": float("nan")}, DATA),
        (
            json.dumps(both(tensor_of(parameters={"binary_data_size": 8, "scale": 7})))
            .replace("7", "1e999")
            .encode(),
            DATA,
        ),
        # Sizes whose sum is right, where the first one counts from the end.
        (json.dumps(both(sized(-408), sized(424, name="y"))).ljust(400).encode(), DATA * 2),
        ({}, b""),
        ({"inputs": [], "outputs": []}, b""),
        ({"inputs": {}, "outputs": {}}, b""),
        ({**both(tensor_of()), "id": 7}, DATA),
        (both(tensor_of()), DATA + b"!"),
        (both(tensor_of()), DATA[:-1]),
        (both(tensor_of(), tensor_of()), DATA * 2),
        (both(tensor_of()), struct.pack("<2f", 1, float("nan"))),
        (both(tensor_of()), struct.pack("<2f", 1, float("-inf"))),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_that_is_none_is_an_error(header: Any, data: bytes) -> None:
    assert_refused(header, data)


def assert_refused(header: Any, data: bytes = b"") -> None:
    body, headers = message(header, data)
    with pytest.raises(BadRequest) as request:
        decode_request(body, headers)
    with pytest.raises(BadReply) as reply:
        decode_response(body, headers)
    assert max(len(str(request.value)), len(str(reply.value))) < 300


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0), (1, 2, 0, 3)])
@pytest.mark.parametrize("dtype", ["<f4", "<f2", "u1", "O"])
def test_a_dimension_of_zero_is_refused_whatever_the_bytes(
    shape: tuple[int, ...], dtype: str
) -> None:
    """Nothing of it is missing, but there is nothing to answer either."""
    empty = np.empty(shape, dtype)
    with pytest.raises(BadRequest, match="dimensions of at least 1"):
        encode_request(Request({"x": empty}))
    datatype = {"<f4": "FP32", "<f2": "FP16", "u1": "UINT8", "O": "BYTES"}[dtype]
    assert_refused(both(sized(0, shape=list(shape), datatype=datatype)))
    assert_refused(both(in_json(datatype, list(shape), empty.tolist())))


@pytest.mark.parametrize(
    "asked", [{"classification": 3}, {"binary_data": 1}, {"binary_data": "yes"}]
)
def test_outputs_in_other_forms_are_refused(asked: dict[str, Any]) -> None:
    outputs = [{"name": "logits", "parameters": asked}]
    with pytest.raises(BadRequest):
        decode_request(*message({"inputs": [tensor_of()], "outputs": outputs}, DATA))


@pytest.mark.parametrize(
    "length", ["-1", "+9", "9_9", "٣", " 9", "", "x", "1e1", "999999", "9" * 5_000]
)
def test_the_length_of_the_header_is_a_number_within_the_body(length: str) -> None:
    with pytest.raises(BadRequest, match=JSON_LENGTH):
        decode_request(message({"inputs": [tensor_of()]}, DATA)[0], {JSON_LENGTH: length})


@pytest.mark.parametrize(
    "data", [b"", b"\5", b"\5\0\0\0only", b"\xff\xff\xff\xff", b"\0\0\0\0" * 2, b"\0\0\0\0!"]
)
def test_files_whose_lengths_lie_are_an_error(data: bytes) -> None:
    entry = tensor_of(datatype="BYTES", shape=[1], parameters={"binary_data_size": len(data)})
    assert_refused(both(entry), data)


@pytest.mark.parametrize(("allowed", "is_refused"), [(4, False), (3, True)])
def test_files_of_all_tensors_count(allowed: int, is_refused: bool) -> None:
    two = {"datatype": "BYTES", "parameters": {"binary_data_size": 8}}
    header = {"inputs": [tensor_of(**two), tensor_of(**two, name="y")]}
    with pytest.raises(BadRequest, match="at most 3") if is_refused else nullcontext():
        decode_request(*message(header, bytes(16)), Bounds(files=allowed))


def zstd(body: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(body)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body,
        lambda body: body[:0],
        lambda body: zstd(body)[:-1],
        lambda body: zstd(body) + b"!",
        lambda body: zstd(body) * 2,
        lambda body: zstd(body, write_content_size=False),
        lambda body: zstd(body + bytes(10**6)),
        # Frames of one segment that claim 2 GiB, and 8 EiB.
        lambda _: b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 2**31) + b"\x01\x00\x00",
        lambda _: b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**63) + b"\x01\x00\x00",
    ],
)
def test_compressed_bodies_are_what_they_declare_or_an_error(spoil: Any) -> None:
    body, headers = encode_request(triton_request(), compress=True)
    plain = zstandard.ZstdDecompressor().decompress(body)
    assert plain == TRITON_JSON + TRITON_BYTES
    limit = len(plain)
    assert decode_request(body, headers, Bounds(limit)).id == "7"
    with pytest.raises(BadRequest, match="declare its size"):
        decode_request(body, headers, Bounds(limit - 1))
    with pytest.raises(BadRequest):
        decode_request(spoil(plain), headers, Bounds(10**5))
    with pytest.raises(BadRequest, match="gzip"):
        decode_request(body, headers | {"Content-Encoding": "gzip"})


def test_nothing_is_allocated_because_a_header_claims_it() -> None:
    huge = {"shape": [2**30], "parameters": {"binary_data_size": 2**32}}
    lies = [
        message({"inputs": [tensor_of(**huge)]}, DATA),
        message({"inputs": [in_json("FP32", [2**30], [1])]}),
        message({"inputs": [in_json("BYTES", [2], ["a" * 10_000, *[""] * 10_000])]}),
        message({"inputs": [tensor_of(datatype="BYTES", **huge)]}, b"\xff\xff\xff\x7f"),
        (zstd(bytes(10**9)), {"Content-Encoding": "zstd"}),
    ]
    tracemalloc.start()
    for body, headers in lies:
        with pytest.raises(BadRequest):
            decode_request(body, headers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.data())
def test_whatever_comes_is_decoded_or_refused(data: st.DataObject) -> None:
    """A good request with one value of its JSON replaced, and bytes changed or cut."""
    header = json.loads(TRITON_JSON)
    place, key = data.draw(st.sampled_from([*places(header)]))
    place[key] = data.draw(jsons)
    body, headers = message(header, TRITON_BYTES)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(body) - 1))
        body = (
            body[:at] + data.draw(st.binary(max_size=3)) + body[at + data.draw(st.integers(0, 3)) :]
        )
    for decode, error in ((decode_request, BadRequest), (decode_response, BadReply)):
        with suppress(error):
            decode(body, headers)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    if not isinstance(value, dict | list):
        return []
    keys = value if isinstance(value, dict) else range(len(value))
    return [pair for key in keys for pair in [(value, key), *places(value[key])]]
