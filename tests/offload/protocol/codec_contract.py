"""The contract of every payload codec, by its name: for tests of the codecs, and of new ones."""

from typing import Any

import numpy as np
import pytest

from eenn.offload.protocol.codecs import CODECS, pack, unpack
from eenn.offload.protocol.decoding import decode_request
from eenn.offload.protocol.encoding import encode_request
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import Request

# What a stranger may send beside a tensor.
ODD: tuple[Any, ...] = (None, True, "1", -1, 0.0, 1.5, 10**400, 3e38)


def check_codec(name: str, within: float = 1 / 16) -> None:
    """Hold a codec against all of the contract.

    Args:
        within: the largest error allowed, as a share of the features' range.
    """
    features = np.random.default_rng(0).normal(size=(2, 4, 5, 5)).clip(-4, 4).astype(np.float32)
    tensor, parameters = pack(features, name)
    assert tensor.shape == features.shape
    assert tensor.dtype == CODECS[name].sent_as
    for compress in (False, True):
        request = Request({"features": tensor}, parameters)
        arrived = decode_request(*encode_request(request, compress))
        found = unpack(arrived.inputs["features"], arrived.parameters)
        assert (found.dtype, found.shape) == (np.float32, features.shape)
        np.testing.assert_allclose(found, features, rtol=0, atol=within * np.ptp(features))
    _refuses_what_is_not_finite(name)
    _takes_no_odd_message(name, parameters)


def _refuses_what_is_not_finite(name: str) -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(BadRequest, match=r"finite|infinity"):
            encode_request(Request({"x": pack(np.array([1, bad], np.float32), name)[0]}))


def _takes_no_odd_message(name: str, parameters: dict[str, Any]) -> None:
    """Any values and any parameters give finite features or BadRequest, and no other error."""
    for kind in (np.uint8, np.float16, np.float32):
        tensor = np.arange(12, dtype=kind).reshape(3, 4) * 20
        for key in parameters:
            for odd in ODD:
                given = {**parameters, key: odd}
                try:
                    features = unpack(tensor, given)
                except BadRequest:
                    continue
                assert features.shape == tensor.shape
                assert np.isfinite(features).all()
