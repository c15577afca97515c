"""From messages to bytes and HTTP headers."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain

from eenn.files import Json, JsonObject
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import (
    DTYPES,
    FILES,
    JSON_LENGTH,
    Malformed,
    Request,
    Tensor,
    brief,
    check_finite,
    check_shape,
    import_zstandard,
    malformed_as,
)

Message = tuple[bytes, dict[str, str]]  # body and HTTP headers

ZSTD_LEVEL = 1


def encode_request(request: Request, compress: bool = False) -> Message:
    """Encode a request as body and HTTP headers.

    Raises:
        BadRequest: a tensor has a type that the wire does not carry, or holds NaN or infinity.
    """
    with malformed_as(BadRequest):
        inputs, blobs = _describe(request.inputs, dict.fromkeys(request.inputs, True))
        header: dict[str, Json] = {"id": request.id} if request.id else {}
        header["inputs"] = inputs
        if request.outputs:
            header["outputs"] = [
                {"name": name, "parameters": {"binary_data": binary}}
                for name, binary in request.outputs.items()
            ]
        if request.parameters:
            header["parameters"] = dict(request.parameters)
        return _join(header, blobs, compress)


def encode_response(request: Request, model: str, outputs: Mapping[str, Tensor]) -> Message:
    """Encode a response as body and HTTP headers, every output in the form that `request` asks for.

    Raises:
        BadRequest: an output holds NaN or infinity, which only extreme inputs cause.
    """
    with malformed_as(BadRequest):
        default = request.parameters.get("binary_data_output") is True
        binary = {name: request.outputs.get(name, default) for name in outputs}
        entries, blobs = _describe(outputs, binary)
        header: dict[str, Json] = {"id": request.id} if request.id else {}
        return _join(header | {"model_name": model, "outputs": entries}, blobs)


def _describe(
    tensors: Mapping[str, Tensor], binary: Mapping[str, bool]
) -> tuple[list[JsonObject], list[memoryview]]:
    """Make the header's entries of tensors, and the buffers that follow the header."""
    entries: list[JsonObject] = []
    blobs = []
    for name, tensor in tensors.items():
        datatype, blob = _blob(name, tensor)
        shape = check_shape(tensor.shape)
        entry: dict[str, Json] = {"name": name, "shape": shape, "datatype": datatype}
        if binary[name]:
            entry["parameters"] = {"binary_data_size": blob.nbytes}
            blobs.append(blob)
        else:
            entry["data"] = tensor.ravel().tolist()
        entries.append(entry)
    return entries, blobs


def _blob(name: str, tensor: Tensor) -> tuple[str, memoryview]:
    if tensor.dtype == object:
        files = tensor.ravel().tolist()
        if not all(type(file) is bytes for file in files):
            raise Malformed(f"tensor {brief(name)} holds objects other than bytes")
        parts = [(len(file).to_bytes(4, "little"), file) for file in files]
        return FILES, memoryview(b"".join(chain.from_iterable(parts)))
    little = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
    if little.dtype not in _DATATYPES:
        raise Malformed(
            f"tensor {brief(name)} is {tensor.dtype}; the wire has {', '.join(DTYPES)}, {FILES}"
        )
    check_finite(name, little)
    return _DATATYPES[little.dtype], little.data


def _join(header: JsonObject, blobs: Sequence[memoryview], compress: bool = False) -> Message:
    text = json.dumps(header, separators=(",", ":")).encode()
    if not blobs:
        return text, {"Content-Type": "application/json"}
    body = b"".join([text, *blobs])
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(text))}
    if compress:
        # A compressor must not be shared by threads, and a new one costs 0.03 ms.
        body = import_zstandard().ZstdCompressor(level=ZSTD_LEVEL).compress(body)
        headers["Content-Encoding"] = "zstd"
    return body, headers


_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
