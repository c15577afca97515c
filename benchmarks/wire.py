"""The cost of the wire: bytes of one sample's features, and milliseconds to encode and decode them.

    python -m benchmarks.wire

Every format carries the same drawn features of 96x14x14, from float32 to a whole request and back
to float32. Formats take turns, and medians count. Writes results/wire.json.
"""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from eenn.files import JsonObject, write_json
from eenn.offload.protocol.codecs import Floats, pack, unpack
from eenn.offload.protocol.decoding import decode_request
from eenn.offload.protocol.encoding import Message, encode_request
from eenn.offload.protocol.wire import ARTIFACT, Request
from eenn.provenance import processor, provenance

SHAPE = (1, 96, 14, 14)
WARM_UP, ROUNDS, REPEATS = 3, 15, 10
RESULT = Path("results/wire.json")


def encode_json(features: Floats) -> Message:
    """Encode the features as a JSON list, as web services often do."""
    return json.dumps({"features": features.tolist()}).encode(), {}


def decode_json(message: Message) -> Floats:
    return np.array(json.loads(message[0])["features"], np.float32)


def encode(features: Floats, precision: str, compress: bool = False) -> Message:
    tensor, parameters = pack(features, precision)
    parameters[ARTIFACT] = "0" * 64
    return encode_request(Request({"features": tensor}, parameters, {"logits": True}), compress)


def decode(message: Message) -> Floats:
    request = decode_request(*message)
    return unpack(request.inputs["features"], request.parameters)


FORMATS: dict[str, tuple[Callable[[Floats], Message], Callable[[Message], Floats]]] = {
    "JSON list": (encode_json, decode_json),
    "fp32": (partial(encode, precision="fp32"), decode),
    "fp16": (partial(encode, precision="fp16"), decode),
    "uint8": (partial(encode, precision="uint8"), decode),
    "uint8 + zstd": (partial(encode, precision="uint8", compress=True), decode),
}


def milliseconds(work: Callable[[], object]) -> float:
    """Measure one run, as the mean of a few in a row."""
    start = time.perf_counter()
    for _ in range(REPEATS):
        work()
    return (time.perf_counter() - start) * 1e3 / REPEATS


def main() -> None:
    features = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    messages = {name: encode(features) for name, (encode, _) in FORMATS.items()}
    encode_ms: dict[str, list[float]] = {name: [] for name in FORMATS}
    decode_ms: dict[str, list[float]] = {name: [] for name in FORMATS}
    for _ in range(WARM_UP + ROUNDS):
        for name, (encode, decode) in FORMATS.items():
            encode_ms[name].append(milliseconds(partial(encode, features)))
            decode_ms[name].append(milliseconds(partial(decode, messages[name])))
    formats = {
        name: {
            "payload_bytes": len(messages[name][0]),
            "encode_ms": statistics.median(encode_ms[name][WARM_UP:]),
            "decode_ms": statistics.median(decode_ms[name][WARM_UP:]),
            "largest_error": float(np.abs(decode(messages[name]) - features).max()),
        }
        for name, (_, decode) in FORMATS.items()
    }
    result: JsonObject = {
        "shape": SHAPE,
        "formats": formats,
        "rounds": ROUNDS,
        **provenance(0, "drawn features, normal", processor()),
    }
    write_json(RESULT, result)
    print("format            bytes  of JSON  encode ms  decode ms    error")
    json_bytes = formats["JSON list"]["payload_bytes"]
    for name, row in formats.items():
        share = f"1/{json_bytes / row['payload_bytes']:.1f}"
        print(
            f"{name:14} {row['payload_bytes']:8} {share:>8} {row['encode_ms']:10.3f} "
            f"{row['decode_ms']:10.3f} {row['largest_error']:8.4f}"
        )
    print(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
