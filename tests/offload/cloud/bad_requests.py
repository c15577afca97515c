"""Requests as no honest client sends them, as hypothesis strategies."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.wire import JSON_LENGTH, Request

SHAPE = (3, 32, 32)
INFER = "/v2/models/{}/infer"
MODELS = [*(f"eenn-cloud-{k}" for k in range(4)), "eenn-cloud-image"]
NAMES = [
    "id", "inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "scale",
    "zero_point", "binary_data_size", "binary_data", "binary_data_output", "eenn_artifact",
]  # fmt: skip


class Bytes(bytes):
    """Bytes that are shown by their ends."""

    def __repr__(self) -> str:
        if len(self) <= 600:
            return super().__repr__()
        return f"{self[:400]!r} + {len(self) - 600} bytes + {self[-200:]!r}"


@dataclass(frozen=True)
class Sent:
    """A request as it is sent; the body may be shorter or longer than its Content-Length."""

    path: str
    body: Bytes
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


def _image(kind: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 36), "teal").save(file, kind)
    return file.getvalue()


def _honest() -> list[Sent]:
    images = np.linspace(-2, 2, 2 * 3 * 32 * 32, dtype=np.float32).reshape(2, *SHAPE)
    quantised = {"scale": 0.02, "zero_point": 128}
    files = np.empty(2, object)
    files[:] = [_image("JPEG"), _image("PNG")]
    requests = [
        (MODELS[0], Request({"features": images})),
        (MODELS[0], Request({"features": images.astype(np.float16)}, {}, {"logits": True})),
        (MODELS[0], Request({"features": (images * 50 + 128).astype(np.uint8)}, quantised)),
        (MODELS[4], Request({"image": files}, {}, {"logits": False}, "an id")),
    ]
    sent = [
        Sent(INFER.format(model), Bytes(body), headers)
        for model, request in requests
        for compress in (False, True)
        for body, headers in (encode_request(request, compress),)
    ]
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, *SHAPE]}
    text = json.dumps({"inputs": [tensor | {"data": [0.5] * (3 * 32 * 32)}]})
    return [*sent, Sent(INFER.format(MODELS[0]), Bytes(text.encode()))]


HONEST = _honest()

texts = st.text(max_size=12) | st.sampled_from(NAMES)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 1e-320, 1e308, float("nan"), float("inf")])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
lengths = (
    st.integers(-5, 2**70).map(str)
    | st.sampled_from(["", "0", "1e3", "+5", "0x10", "٣", " 7", "1_0", "99999999999999999999"])
).map(lambda text: text.encode("latin-1", "replace").decode("latin-1"))


@st.composite
def edited(draw: Callable[..., Any], sent: Sent) -> Sent:
    """Members of the JSON header replaced or added, whatever follows it."""
    if "Content-Encoding" in sent.headers:
        return sent
    length = int(sent.headers.get(JSON_LENGTH, len(sent.body)))
    header, rest = json.loads(sent.body[:length]), sent.body[length:]
    for _ in range(draw(st.integers(1, 3))):
        place: Any = header
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys[:20]))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
                if isinstance(place, dict) and draw(st.booleans()):
                    key = draw(st.sampled_from(NAMES))
                place[key] = draw(values)
                break
            place = inner
    text = json.dumps(header).encode()
    return replace(
        sent, body=Bytes(text + rest), headers=sent.headers | {JSON_LENGTH: str(len(text))}
    )


@st.composite
def damaged(draw: Callable[..., Any], sent: Sent) -> Sent:
    """The body cut, overwritten or continued."""
    body = bytearray(sent.body)
    start = draw(st.integers(0, len(body)))
    how = draw(st.sampled_from(["cut", "overwrite", "insert", "repeat"]))
    if how == "cut":
        del body[start:]
    elif how == "repeat":
        body *= draw(st.integers(2, 5))
    else:
        data = draw(st.binary(min_size=1, max_size=40))
        body[start : start + (len(data) if how == "overwrite" else 0)] = data
    return replace(sent, body=Bytes(body))


@st.composite
def with_values(draw: Callable[..., Any], sent: Sent) -> Sent:
    """A tensor of any values: NaN, infinity, the largest, whatever 32 bits hold."""
    kind = draw(st.sampled_from(["<f4", "<f2"]))
    values = draw(st.sampled_from([np.nan, np.inf, -np.inf, 3.4e38, 65504.0, 1e-45, 0.0]))
    with np.errstate(over="ignore"):
        tensor = np.full((1, *SHAPE), values).astype(kind)
    tensor.flat[draw(st.integers(0, tensor.size - 1))] = draw(st.floats(width=16))
    entry = {
        "name": "features", "datatype": {"<f4": "FP32", "<f2": "FP16"}[kind],
        "shape": [1, *SHAPE], "parameters": {"binary_data_size": tensor.nbytes},
    }  # fmt: skip
    text = json.dumps({"inputs": [entry]}).encode()
    body = Bytes(text + tensor.tobytes())
    return replace(sent, body=body, headers={JSON_LENGTH: str(len(text))})


@st.composite
def with_headers(draw: Callable[..., Any], sent: Sent) -> Sent:
    """Headers that lie, or make no sense."""
    names = (JSON_LENGTH, "Content-Encoding", "Content-Type", "Content-Length", "Accept")
    name = draw(st.sampled_from(names))
    words = st.sampled_from(["zstd", "gzip", "identity", "br, zstd", "text/html", "", "*/*"])
    given = lengths if name.endswith("Length") else words | st.text("aé;=,\t ", max_size=9)
    return replace(sent, headers=sent.headers | {name: draw(given)})


@st.composite
def elsewhere(draw: Callable[..., Any], sent: Sent) -> Sent:
    """Another method, model, version or path."""
    name = draw(st.sampled_from(MODELS) | st.text("azé/%.-_~0", max_size=12))
    paths = [
        f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/{name}/infer", f"/v2/{name}",
        f"/v2/models/{name}", "/v2/repository/index", f"/{name}", "/v2/health/ready", "/metrics",
    ]  # fmt: skip
    methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
    path = draw(st.sampled_from(paths))
    return replace(sent, path=path, method=draw(st.sampled_from(methods)))


@st.composite
def bad_requests(draw: Callable[..., Any]) -> Sent:
    """An honest request with one or two things wrong, or one of no sense at all."""
    sent: Sent = draw(st.sampled_from(HONEST))
    if draw(st.integers(0, 9)) == 0:
        body = draw(st.binary(max_size=200) | values.map(json_bytes))
        return replace(sent, body=Bytes(body), headers={})
    wrongs = [damaged, with_values, with_headers, elsewhere]
    if draw(st.booleans()):
        sent = draw(edited(sent))
        wrongs.append(st.just)
    return draw(draw(st.sampled_from(wrongs))(sent))


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()
