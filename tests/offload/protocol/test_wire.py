"""The wire against bytes made elsewhere and exact arithmetic."""

import json
import struct
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal

from eenn.offload.protocol import wire
from eenn.offload.protocol.codecs import CODECS, dequantise, pack, quantise, unpack
from eenn.offload.protocol.decoding import decode_request, decode_response
from eenn.offload.protocol.encoding import encode_request, encode_response
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import JSON_LENGTH, Request, Tensor
from tests.offload.protocol.codec_contract import check_codec
from tests.offload.protocol.triton_message import (
    TRITON_BYTES,
    TRITON_JSON,
    files,
    triton_request,
)

quick = settings(max_examples=100)

# What Triton's documentation of the extension has a server answer, with our names.
ANSWER_JSON = (
    b'{"model_name":"eenn-cloud-2","model_version":"1","id":"7","outputs":[{"name":"logits",'
    b'"shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}'
)


def assert_same(found: Request, expected: Request) -> None:
    assert (found.parameters, found.outputs, found.id) == (
        expected.parameters,
        expected.outputs,
        expected.id,
    )
    assert list(found.inputs) == list(expected.inputs)
    for name, tensor in expected.inputs.items():
        assert found.inputs[name].dtype == tensor.dtype
        assert_array_equal(found.inputs[name], tensor)


def test_a_request_is_the_bytes_that_tritonclient_makes_of_it() -> None:
    body, headers = encode_request(triton_request())
    assert body == TRITON_JSON + TRITON_BYTES
    assert headers == {
        "Content-Type": "application/octet-stream", JSON_LENGTH: str(len(TRITON_JSON)),
    }  # fmt: skip
    assert_same(decode_request(body, headers), triton_request())
    assert_same(decode_request(body, {JSON_LENGTH.lower(): headers[JSON_LENGTH]}), triton_request())


def test_a_response_is_read_as_documented() -> None:
    logits = np.array([[1.0, -2.5]], np.float32)
    body = ANSWER_JSON + struct.pack("<2f", 1.0, -2.5)
    response = decode_response(body, {JSON_LENGTH: str(len(ANSWER_JSON))})
    assert (response.model, response.id) == ("eenn-cloud-2", "7")
    assert_array_equal(response.outputs["logits"], logits)

    body, headers = encode_response(triton_request(), "eenn-cloud-2", {"logits": logits})
    header = json.loads(body[: int(headers[JSON_LENGTH])])
    expected = json.loads(ANSWER_JSON)
    del expected["model_version"]
    assert header == expected
    assert body[int(headers[JSON_LENGTH]) :] == struct.pack("<2f", 1.0, -2.5)


@pytest.mark.parametrize(
    ("outputs", "parameters", "binary"),
    [
        ({}, {}, False),
        ({}, {"binary_data_output": True}, True),
        ({"logits": True}, {}, True),
        ({"logits": False}, {"binary_data_output": True}, False),
    ],
)
def test_the_request_says_whether_the_response_is_binary(
    outputs: dict[str, bool], parameters: dict[str, Any], binary: bool
) -> None:
    request = Request({"x": np.ones(1, np.float32)}, parameters, outputs)
    asked = decode_request(*encode_request(request))
    logits = np.array([[0.1, 1e-30], [3e38, -7]], np.float32)
    body, headers = encode_response(asked, "m", {"logits": logits})
    assert (JSON_LENGTH in headers) == binary
    assert_array_equal(decode_response(body, headers).outputs["logits"], logits)


finite = st.floats(-(2.0**126), 2.0**126, width=32)
tensors = st.one_of(
    arrays(np.float32, array_shapes(max_dims=4), elements=finite),
    arrays(np.float16, array_shapes(), elements=st.floats(-6e4, 6e4, width=16)),
    arrays(np.uint8, array_shapes()),
    st.lists(st.binary(max_size=50), min_size=1, max_size=4).map(lambda f: files(*f)),
)
scalars = (
    st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
)
requests = st.builds(
    Request,
    st.dictionaries(st.text(), tensors, min_size=1, max_size=3),
    st.dictionaries(st.text(), scalars, max_size=3),
    st.dictionaries(st.text(), st.booleans(), max_size=2),
    st.text(),
)


@quick
@given(requests, st.booleans())
def test_what_is_decoded_is_what_was_encoded(request: Request, compress: bool) -> None:
    assert_same(decode_request(*encode_request(request, compress)), request)


def test_tensors_in_any_memory_order_go_row_by_row() -> None:
    big = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    for tensor in (big, big.transpose(2, 0, 1), big[:, ::2, ::-1]):
        found = decode_request(*encode_request(Request({"x": tensor}))).inputs["x"]
        assert_array_equal(found, tensor)


@quick
@given(arrays(np.float32, array_shapes(), elements=finite))
@example(np.full((2, 2), -3.5, np.float32))
@example(np.array([1e6, 1e6 + 1], np.float32))
@example(np.array([-3.5, 251.5], np.float32))  # both ends round away from zero
@example(np.array([-1e38, 3e38], np.float32))
@example(np.array([0, 1e-45], np.float32))
def test_quantised_values_are_off_by_half_a_step_at_most(features: Tensor) -> None:
    quantised, scale, zero_point = quantise(features)
    assert quantised.dtype == np.uint8
    assert quantised.shape == features.shape
    # Exactly the range: 255 steps of it, and the lowest value at the bottom.
    low, high = float(features.min()), float(features.max())
    assert scale == ((high - low) / 255 if high > low else abs(low) or 1)
    assert quantised.min() == 0
    for q, x in zip(quantised.flat, features.flat, strict=True):
        exact = Fraction(scale) * (int(q) - zero_point)
        tolerance = Fraction(scale) * Fraction("0.5000001")
        assert abs(exact - Fraction(float(x))) <= tolerance
    back = dequantise(quantised, scale, zero_point)
    assert back.dtype == np.float32
    assert_array_equal(back, ((quantised.astype(float) - zero_point) * scale).astype(np.float32))


# The largest error as a share of the features' range: of fp16 half of its last bit, which is 2**-9
# below 4, over a range of 4 at least; of uint8 half a step.
WITHIN = {"fp32": 0, "fp16": 2**-12, "uint8": 0.5001 / 255}


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_keeps_the_contract(name: str) -> None:
    check_codec(name, WITHIN.get(name, 1 / 16))


def test_a_codec_that_is_not_known_here_is_refused() -> None:
    tensor, parameters = pack(np.ones((1, 2), np.float32), "uint8")
    assert "codec" not in parameters  # devices in the field send none
    with pytest.raises(BadRequest, match="codec 'zip' is not known here; allowed are fp32, fp16"):
        unpack(tensor, {**parameters, "codec": "zip"})
    with pytest.raises(BadRequest, match="codec fp16 takes float16, not uint8"):
        unpack(tensor, {"codec": "fp16"})


def test_features_beyond_fp16_cannot_be_sent_in_it() -> None:
    with pytest.raises(BadRequest, match="infinity"):
        encode_request(Request({"x": pack(np.array([1, 1e38], np.float32), "fp16")[0]}))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"scale": 1.0},
        {"scale": 0.0, "zero_point": 1},
        {"scale": -1.0, "zero_point": 1},
        {"scale": True, "zero_point": 1},
        {"scale": "1", "zero_point": 1},
        {"scale": 1.0, "zero_point": 1.5},
        {"scale": 10**400, "zero_point": 1},
        {"scale": 1.0, "zero_point": 10**400},
        {"scale": 3e38, "zero_point": -5},
    ],
)
def test_uint8_features_need_a_usable_scale(parameters: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        unpack(np.zeros((1, 2), np.uint8), parameters)
    with pytest.raises(BadRequest, match="not BYTES"):
        unpack(files(b"jpeg"), {"scale": 1.0, "zero_point": 0})


def test_a_response_without_bytes_says_that_it_is_json() -> None:
    request = Request(triton_request().inputs, outputs={"logits": False})
    body, headers = encode_response(request, "m", {"logits": np.ones((1, 2), np.float32)})
    assert headers == {"Content-Type": "application/json"}
    assert json.loads(body)["outputs"][0]["data"] == [1, 1]


def test_scale_and_zero_point_go_as_far_as_float32_and_whole_floats() -> None:
    largest, steps = float(np.finfo(np.float32).max), np.array([0, 1], np.uint8)
    assert dequantise(steps, largest, 0).tolist() == [0, largest]
    for scale in (np.nextafter(largest, np.inf), 0.0):
        with pytest.raises(BadRequest):
            dequantise(steps, float(scale), 0)
    for zero_point in (2**53, -(2**53)):
        assert dequantise(steps[:1], 1.0, zero_point).tolist() == [-zero_point]
        with pytest.raises(BadRequest):
            dequantise(steps[:1], 1.0, zero_point + zero_point // 2**53)


def test_names_on_the_wire_are_those_that_devices_in_the_field_have() -> None:
    names = (wire.ARTIFACT, wire.FEATURES, wire.LOGITS, wire.IMAGE_MODEL, wire.IMAGE, wire.CROPPED)
    assert names == (
        "eenn_artifact", "features", "logits", "eenn-cloud-image", "image", "cropped",
    )  # fmt: skip
    assert wire.JSON_LENGTH == "Inference-Header-Content-Length"
    assert wire.VERSION_DIGITS == 12
    assert wire.model_name(wire.Cut(6, "3")) == "eenn-cloud-3"
    assert wire.model_name(wire.Cut(6, "3"), "jpeg") == "eenn-cloud-3-jpeg"


def test_a_list_in_json_is_a_tensor_too() -> None:
    for data in ([1, 2.5, -3, 4], [[1, 2.5], [-3, 4]]):
        entry = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": data}
        found = decode_request(json.dumps({"inputs": [entry]}).encode(), {})
        assert_array_equal(found.inputs["x"], [[1, 2.5], [-3, 4]])


def test_null_is_as_good_as_absent() -> None:
    entry = {"name": "x", "shape": [1], "datatype": "UINT8", "data": [7], "parameters": None}
    header = {"id": None, "parameters": None, "outputs": None, "inputs": [entry]}
    assert decode_request(json.dumps(header).encode(), {}).inputs["x"] == [7]


def test_without_zstandard_only_compression_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    body, headers = encode_request(triton_request(), compress=True)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BadRequest, match="pip install zstandard"):
        encode_request(triton_request(), compress=True)
    with pytest.raises(BadRequest, match="pip install zstandard"):
        decode_request(body, headers)
    assert_same(decode_request(*encode_request(triton_request())), triton_request())
