"""The payload: features as a tensor of fewer bytes, and back.

fp16, or 8 bits by a scale and a zero point, which travel with the request as parameters.
"""

import math
import reprlib
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import Parameter, Tensor

Floats = NDArray[np.float32]
FLOAT32_MAX = float(np.finfo(np.float32).max)
Precision = Literal["fp32", "fp16", "uint8"]
PAYLOADS: tuple[Precision, ...] = get_args(Precision)
BYTES_OF: Mapping[str, int] = {"fp32": 4, "fp16": 2, "uint8": 1}  # a number each


def pack(features: Floats, precision: Precision) -> tuple[Tensor, dict[str, Parameter]]:
    """Features as the tensor that is sent, and the parameters that `unpack` needs with it.

    Raises:
        BadRequest: features that are not finite in uint8. (In fp16, `encode_request` notices.)
    """
    if precision == "fp32":
        return features, {}
    if precision == "fp16":
        with np.errstate(over="ignore"):
            return features.astype(np.float16), {}
    quantised, scale, zero_point = quantise(features)
    return quantised, {"scale": scale, "zero_point": zero_point}


def unpack(tensor: Tensor, parameters: Mapping[str, Parameter]) -> Floats:
    """float32 features from a tensor as sent and the parameters of its request.

    Raises:
        BadRequest: a tensor that holds no features, or uint8 without a usable scale and zero point.
    """
    if tensor.dtype == np.uint8:
        scale, zero_point = parameters.get("scale"), parameters.get("zero_point")
        if type(zero_point) is int and isinstance(scale, int | float) and scale is not True:
            return dequantise(tensor.astype(np.uint8, copy=False), scale, zero_point)
        raise BadRequest("UINT8 features need the parameters scale (number) and zero_point (int)")
    if tensor.dtype.kind != "f":
        raise BadRequest("features are FP32, FP16 or UINT8, not BYTES")
    return tensor.astype(np.float32, copy=False)


def quantise(features: Floats) -> tuple[NDArray[np.uint8], float, int]:
    """Features in 8 bits: uint8 of the same shape, scale and zero point.

    x = scale * (q - zero_point): the 256 steps span exactly the tensor's own range, so no value is
    off by more than half a step. The zero point lies outside 0..255 where the range excludes 0.

    Raises:
        BadRequest: no features, or NaN or infinity among them.
    """
    low, high = (float(features.min()), float(features.max())) if features.size else (0.0, math.nan)
    if not math.isfinite(high - low):
        raise BadRequest("features to quantise have to be finite, and at least one")
    # One value alone has no range; a step as large as the value holds it exactly.
    scale = (high - low) / 255 or abs(low) or 1.0
    zero_point = -round(low / scale)
    # In float32 a range far from zero would lose its steps.
    steps = features * np.float64(1 / scale)
    np.rint(steps, out=steps)
    steps += zero_point
    np.clip(steps, 0, 255, out=steps)
    return steps.astype(np.uint8), scale, zero_point


def dequantise(quantised: NDArray[np.uint8], scale: float, zero_point: int) -> Floats:
    """The inverse of `quantise` up to half a step, float32.

    Raises:
        BadRequest: a scale that is not positive, or values that float32 cannot hold.
    """
    if 0 < scale <= FLOAT32_MAX and abs(zero_point) <= 2**53:
        with np.errstate(over="ignore"):
            values = ((np.arange(256) - float(zero_point)) * float(scale)).astype(np.float32)
        features = np.asarray(values.take(quantised))
        if np.isfinite(features).all():
            return features
    raise BadRequest(
        f"no features have scale {reprlib.repr(scale)} and zero point {reprlib.repr(zero_point)}"
    )
