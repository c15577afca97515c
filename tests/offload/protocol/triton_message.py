"""A request, and the bytes that Triton's own client makes of it."""

import numpy as np

from eenn.offload.protocol.codecs import pack
from eenn.offload.protocol.wire import Request, Tensor

# From tritonclient 2.73.0.
TRITON_JSON = (
    b'{"id":"7","inputs":[{"name":"features","shape":[1,3],"datatype":"UINT8","parameters":'
    b'{"binary_data_size":3}},{"name":"images","shape":[2],"datatype":"BYTES","parameters":'
    b'{"binary_data_size":12}},{"name":"half","shape":[1,3],"datatype":"FP16","parameters":'
    b'{"binary_data_size":6}}],"outputs":[{"name":"logits","parameters":{"binary_data":true}}],'
    b'"parameters":{"scale":0.012745098039215686,"zero_point":20,"eenn_artifact":"cafe"}}'
)
TRITON_BYTES = b"\x8a\x00\xff\x04\x00\x00\x00\xff\xd8\xff\xd9\x00\x00\x00\x00\x00>\x00\xb4\x00B"


def files(*contents: bytes) -> Tensor:
    """Pack files as a tensor of BYTES."""
    tensor = np.empty(len(contents), object)
    tensor[:] = contents
    return tensor


def triton_request() -> Request:
    """Build the request that TRITON_JSON and TRITON_BYTES are the message of."""
    values = np.array([[1.5, -0.25, 3.0]], np.float32)
    quantised, parameters = pack(values, "uint8")
    inputs = {"features": quantised, "images": files(b"\xff\xd8\xff\xd9", b"")}
    inputs["half"] = values.astype(np.float16)
    return Request(inputs, {**parameters, "eenn_artifact": "cafe"}, {"logits": True}, "7")
