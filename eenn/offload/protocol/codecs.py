"""Codecs of the payload: features as a tensor of fewer bytes, and back.

The formats are fp32, fp16, and 8 bits with a scale and a zero point, which travel as parameters of
the request.
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
BYTES_OF: Mapping[str, int] = {"fp32": 4, "fp16": 2, "uint8": 1}  # bytes of one number


def pack(features: Floats, precision: Precision) -> tuple[Tensor, dict[str, Parameter]]:
    """Convert features to the tensor that is sent, and the parameters that `unpack` needs.

    Raises:
        BadRequest: features for uint8 are not finite. (For fp16, `encode_request` checks.)
    """
    if precision == "fp32":
        return features, {}
    if precision == "fp16":
        with np.errstate(over="ignore"):
            return features.astype(np.float16), {}
    quantised, scale, zero_point = quantise(features)
    return quantised, {"scale": scale, "zero_point": zero_point}


def unpack(tensor: Tensor, parameters: Mapping[str, Parameter]) -> Floats:
    """Convert a received tensor and its request's parameters back to float32 features.

    Raises:
        BadRequest: the tensor does not hold features, or is uint8 without a usable scale and zero
            point.
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
