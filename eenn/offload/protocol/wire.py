"""The messages between edge and cloud: requests, responses, their names, and their limits.

Open Inference Protocol V2 over HTTP with the binary tensor extension, as KServe and Triton document
it. A message is a JSON header and then the raw bytes of its tensors, little-endian and row-major;
the HTTP header Inference-Header-Content-Length gives the length of the JSON. A tensor may also be
written in the JSON as a list. A whole request may be compressed with zstd (Content-Encoding).
"""

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import PLAIN
from eenn.offload.protocol.errors import BadReply, BadRequest

Tensor = NDArray[np.generic]
Parameter = str | int | float | bool

ARTIFACT = "eenn_artifact"  # the parameter with the id of artifact and graphs
VERSION_DIGITS = 12  # first digits of the id; they are the model's version
FEATURES, LOGITS = "features", "logits"  # a model's input and output, here and in graphs
IMAGE_MODEL, IMAGE = "eenn-cloud-image", "image"  # the model that takes image files, and its input
CROPPED = "cropped"  # the parameter for files that are already the preprocessing's crop

DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "FP32": np.dtype("<f4"),
    "FP16": np.dtype("<f2"),
    "UINT8": np.dtype("u1"),
}
FILES = "BYTES"  # the datatype of files, each preceded by its length
MAX_RANK, MAX_DIMENSION = 8, 2**31 - 1
JSON_LENGTH = "Inference-Header-Content-Length"
# RFC 9218 (Extensible Prioritization Scheme for HTTP): the urgency `u` of a request is 0 to 7, 3 if
# it is not given, and 7 is for background work.
PRIORITY, BACKGROUND_URGENCY = "Priority", 7


@dataclass(frozen=True)
class Request:
    """A request for inference.

    Args:
        inputs: tensors by name; float32, float16, uint8, or objects that are `bytes` (files).
        parameters: parameters of the whole request.
        outputs: requested outputs by name; True for bytes, False for JSON. If empty, all outputs
            are sent in the form that the parameter `binary_data_output` names.
        id: repeated in the response.
    """

    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: Mapping[str, bool] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class Response:
    """The response of the model `model`, with outputs by name."""

    model: str
    outputs: Mapping[str, Tensor]
    id: str = ""


class Cut(NamedTuple):
    """A place where a network is cut.

    Args:
        blocks: number of blocks before it; 0 is the image.
        name: in the names of models: the number of exits up to the cut where an exit is just before
            it, as in `3`, else the number of blocks, as in `b14`.
    """

    blocks: int
    name: str


IMAGE_CUT = Cut(0, "0")


def model_name(cut: Cut = IMAGE_CUT, heads: str = PLAIN) -> str:
    """Name the model from features at a cut to the last exit of a head set."""
    return f"eenn-cloud-{cut.name}" if heads == PLAIN else f"eenn-cloud-{cut.name}-{heads}"


class Malformed(ValueError):
    """A message that breaks the protocol; `malformed_as` makes an error of it."""


@contextmanager
def malformed_as(error: type[BadRequest] | type[BadReply]) -> Iterator[None]:
    """Turn Malformed into the error for requests or for replies."""
    try:
        yield
    except Malformed as malformed:
        raise error(str(malformed)) from malformed.__cause__


# Error messages quote received values, which may be megabytes long.
brief = reprlib.repr


def check_shape(shape: object) -> tuple[int, ...]:
    """Check a tensor's shape and return it as a tuple.

    Raises:
        Malformed: the wire does not carry such a shape.
    """
    if isinstance(shape, list | tuple) and 1 <= len(shape) <= MAX_RANK:
        sizes = tuple(size for size in shape if type(size) is int and 1 <= size <= MAX_DIMENSION)
        if len(sizes) == len(shape):
            return sizes
    raise Malformed(f"shape {brief(shape)}; allowed are 1 to {MAX_RANK} dimensions of at least 1")


def check_finite(name: str, tensor: Tensor) -> None:
    """Check that a tensor is finite.

    Raises:
        Malformed: the tensor holds NaN or infinity.
    """
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise Malformed(f"tensor {brief(name)} has NaN or infinity; all values have to be finite")


def import_zstandard() -> ModuleType:
    """Import the package zstandard, which is needed only to compress.

    Raises:
        Malformed: the package is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise Malformed(
            "zstd needs the package zstandard: `pip install zstandard`, or do not compress"
        ) from error
    return zstandard
