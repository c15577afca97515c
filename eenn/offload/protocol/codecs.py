"""Payload codecs: features as a tensor of fewer bytes, and back.

The formats are fp32, fp16, and 8 bits with a scale and a zero point, which travel as parameters of
the request.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import Parameter, Tensor

Floats = NDArray[np.float32]
FLOAT32_MAX = float(np.finfo(np.float32).max)
CODEC = "codec"  # the parameter that names a codec which the tensor's type does not give away


class Codec(NamedTuple):
    """A format of features on the wire.

    Args:
        sent_as: the type of the tensor's numbers: float32, float16 or uint8.
        pack: gives a tensor of the features' shape, and the parameters that `unpack` needs.
        unpack: gives float32 features of the tensor's shape. Raises BadRequest where values or
            parameters do not fit, as they come from strangers.
    """

    sent_as: type[np.generic]
    pack: Callable[[Floats], tuple[Tensor, dict[str, Parameter]]]
    unpack: Callable[[Tensor, Mapping[str, Parameter]], Floats]

    @property
    def number_bytes(self) -> int:
        """Return the bytes of a number in the tensor, before zstd."""
        return np.dtype(self.sent_as).itemsize


def pack(features: Floats, name: str) -> tuple[Tensor, dict[str, Parameter]]:
    """Pack features with the codec of that name: the tensor that is sent, and its parameters.

    Raises:
        BadRequest: features for uint8 are not finite. (For fp16, `encode_request` checks.)
    """
    tensor, parameters = CODECS[name].pack(features)
    return tensor, parameters if name in _BY_TYPE.values() else {CODEC: name, **parameters}


def unpack(tensor: Tensor, parameters: Mapping[str, Parameter]) -> Floats:
    """Unpack float32 features from a tensor as sent and the parameters of its request.

    Raises:
        BadRequest: a tensor that holds no features, a codec that is not known here, or
            values and parameters that the codec does not take.
    """
    if tensor.dtype.name not in _BY_TYPE:
        raise BadRequest("features are FP32, FP16 or UINT8, not BYTES")
    name = parameters.get(CODEC, _BY_TYPE[tensor.dtype.name])
    if name not in CODECS:
        known = ", ".join(CODECS)
        raise BadRequest(f"codec {reprlib.repr(name)} is not known here; allowed are {known}")
    codec = CODECS[str(name)]
    if tensor.dtype.name != codec.sent_as.__name__:
        raise BadRequest(f"codec {name} takes {codec.sent_as.__name__}, not {tensor.dtype.name}")
    return codec.unpack(tensor, parameters)


def _pack_float16(features: Floats) -> tuple[Tensor, dict[str, Parameter]]:
    with np.errstate(over="ignore"):
        return features.astype(np.float16), {}


def _unpack_floats(tensor: Tensor, _: Mapping[str, Parameter]) -> Floats:
    return tensor.astype(np.float32, copy=False)


def _pack_uint8(features: Floats) -> tuple[Tensor, dict[str, Parameter]]:
    quantised, scale, zero_point = quantise(features)
    return quantised, {"scale": scale, "zero_point": zero_point}


def _unpack_uint8(tensor: Tensor, parameters: Mapping[str, Parameter]) -> Floats:
    scale, zero_point = parameters.get("scale"), parameters.get("zero_point")
    if type(zero_point) is int and isinstance(scale, int | float) and scale is not True:
        return dequantise(tensor.astype(np.uint8, copy=False), scale, zero_point)
    raise BadRequest("UINT8 features need the parameters scale (number) and zero_point (int)")


def quantise(features: Floats) -> tuple[NDArray[np.uint8], float, int]:
    """Quantise features to 8 bits: return uint8 of the same shape, scale and zero point.

    x = scale * (q - zero_point): the 256 steps span exactly the tensor's own range, so the error is
    at most half a step. The zero point is outside 0..255 where the range excludes 0.

    Raises:
        BadRequest: the features are empty, or hold NaN or infinity.
    """
    low, high = (float(features.min()), float(features.max())) if features.size else (0.0, math.nan)
    if not math.isfinite(high - low):
        raise BadRequest("features to quantise: allowed is at least one number, all finite")
    # A constant tensor has no range; a step as large as its value represents the value exactly.
    scale = (high - low) / 255 or abs(low) or 1.0
    zero_point = -round(low / scale)
    # In float32 the steps of a range far from zero would be lost.
    steps = features * np.float64(1 / scale)
    np.rint(steps, out=steps)
    steps += zero_point
    np.clip(steps, 0, 255, out=steps)
    return steps.astype(np.uint8), scale, zero_point


def dequantise(quantised: NDArray[np.uint8], scale: float, zero_point: int) -> Floats:
    """Convert 8 bits back to float32 features, the inverse of `quantise` up to half a step.

    Raises:
        BadRequest: the scale is not positive, or a value is beyond float32.
    """
    if 0 < scale <= FLOAT32_MAX and abs(zero_point) <= 2**53:
        with np.errstate(over="ignore"):
            values = ((np.arange(256) - float(zero_point)) * float(scale)).astype(np.float32)
        features = np.asarray(values.take(quantised))
        if np.isfinite(features).all():
            return features
    raise BadRequest(
        f"scale {reprlib.repr(scale)} and zero point {reprlib.repr(zero_point)}: allowed are a "
        "scale above 0 and a zero point that give finite float32 features"
    )


# What is sent without the name of its codec, which devices in the field do not give.
_BY_TYPE: Mapping[str, str] = {"float32": "fp32", "float16": "fp16", "uint8": "uint8"}
# A further codec is a row: every program offers it, and the cloud takes it.
CODECS: dict[str, Codec] = {
    "fp32": Codec(np.float32, lambda features: (features, {}), _unpack_floats),
    "fp16": Codec(np.float16, _pack_float16, _unpack_floats),
    "uint8": Codec(np.uint8, _pack_uint8, _unpack_uint8),
}
PAYLOADS = tuple(CODECS)
