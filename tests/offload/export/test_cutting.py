"""Graphs cut into pieces, by hand-written graphs."""

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from eenn.errors import EennError
from eenn.offload.export.cutting import Cutter, Head
from eenn.offload.graphs.index import open_session


def test_a_block_that_reads_more_than_the_features_before_it_is_named() -> None:
    whole = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 18]>
        whole (float[n, 2] features_0) => (float[n, 2] features_1, float[n, 2] features_2) {
            features_1 = Neg (features_0)
            features_2 = Add (features_1, features_0)
        }"""
    )
    with pytest.raises(EennError, match=r"block_1 reads features_0.*take one tensor"):
        list(Cutter(whole, 2).pieces([]))


def test_a_piece_measures_the_batch_on_the_features_before_it() -> None:
    whole = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 18]>
        whole (float[n, 2, 3] features_0)
            => (float[n, 6] features_1, float[n, 3] features_2, float[n, 3] logits_1)
            <int64[1] flat = {-1}, int64[2] two = {2, 3}, int64[2] three = {-1, 3}> {
            batch = Shape <start = 0, end = 1> (features_0)
            shape = Concat <axis = 0> (batch, flat)
            features_1 = Reshape (features_0, shape)
            bigger = Concat <axis = 0> (batch, two)
            halves = Reshape (features_1, bigger)
            features_2 = ReduceSum <keepdims = 0> (halves, one)
            logits_1 = Neg (features_2)
        }"""
    )
    whole.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    pieces = dict(Cutter(whole, 2).pieces([Head("head_1_plain", 2, "logits_1")]))
    content = {name: piece.SerializeToString() for name, piece in pieces.items()}
    images = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    features = images.reshape(5, 6)
    second = b"".join(content[name] for name in ("input_1", "block_1", "output_2"))
    (found,) = open_session(second, 1).run(["features_2"], {"features": features})
    np.testing.assert_allclose(found, images.sum(1), rtol=1e-6)
