"""The cloud asked by NVIDIA's own client of the protocol, which shares no code with it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.http as http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from eenn.offload.cloud.command import running
from eenn.offload.protocol.codecs import pack, unpack
from tests.offload.exported import CLASSES, Exported

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def client(exported: Exported) -> Iterator[Any]:
    with (
        running([exported.path]) as server,
        http.InferenceServerClient(server.url.removeprefix("http://")) as client,
    ):
        yield client


def logits_of(network: torch.nn.Module, images: Floats) -> Floats:
    with torch.inference_mode():
        logits: Floats = network(torch.from_numpy(images))[-1].numpy()
    return logits


def assert_equal(logits: Floats, expected: Floats) -> None:
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


def ask(
    client: Any,
    model: str,
    name: str,
    values: NDArray[Any],
    datatype: str,
    binary: bool = True,
    **given: Any,
) -> Floats:
    tensor = http.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    logits: Floats = client.infer(model, [tensor], **given).as_numpy("logits")
    return logits


def test_it_finds_a_live_and_ready_server(exported: Exported, client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]


def test_it_lists_and_describes_the_models(exported: Exported, client: Any) -> None:
    version = exported.graphs.id[:12]
    index = client.get_model_repository_index()
    own = [("eenn-cloud-image", exported.graphs.manifest.id[:12])]
    models = [*exported.models, "eenn-cloud-image"]
    expected = sorted([*((name, version) for name in models), *own])
    assert sorted((row["name"], row["version"]) for row in index) == expected
    assert {row["state"] for row in index} == {"READY"}
    for name in models:
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        metadata = client.get_model_metadata(name, version)
        config = client.get_model_config(name)
        assert metadata["name"] == config["name"] == name
        (given,), (row,) = metadata["inputs"], config["input"]
        assert given["name"] == row["name"] == ("image" if name[-1] == "e" else "features")
        assert row["data_type"].removeprefix("TYPE_") == given["datatype"].replace(
            "BYTES", "STRING"
        )
        assert metadata["outputs"] == [
            {"name": "logits", "datatype": "FP32", "shape": [-1, len(CLASSES)]}
        ]
        assert config["max_batch_size"] > 1
    assert not client.is_model_ready("eenn-cloud-9")
    assert not client.is_model_ready("eenn-cloud-0", "000000000000")


@pytest.mark.parametrize("binary", [False, True])
def test_fp32_images_as_bytes_and_as_json(binary: bool, exported: Exported, client: Any) -> None:
    expected = logits_of(exported.network, exported.images[:4])
    images = exported.images[:4]
    assert_equal(ask(client, "eenn-cloud-0", "features", images, "FP32", binary), expected)
    output = http.InferRequestedOutput("logits", binary_data=binary)
    given = {"outputs": [output], "request_id": "own", "model_version": exported.graphs.id[:12]}
    assert_equal(ask(client, "eenn-cloud-0", "features", images, "FP32", binary, **given), expected)


def test_fp16_images(exported: Exported, client: Any) -> None:
    halved = exported.images.astype(np.float16)
    logits = ask(client, "eenn-cloud-0", "features", halved, "FP16")
    assert_equal(logits, logits_of(exported.network, halved.astype(np.float32)))


def test_uint8_images_with_scale_and_zero_point(exported: Exported, client: Any) -> None:
    quantised, parameters = pack(exported.images, "uint8")
    logits = ask(
        client, "eenn-cloud-0", "features", quantised, "UINT8",
        parameters=parameters | {"eenn_artifact": exported.graphs.id},
    )  # fmt: skip
    assert_equal(logits, logits_of(exported.network, unpack(quantised, parameters)))


def test_image_files_as_bytes(exported: Exported, client: Any) -> None:
    files = np.array([file.read_bytes() for file in exported.files[:5]], object)
    logits = ask(client, "eenn-cloud-image", "image", files, "BYTES")
    assert_equal(logits, logits_of(exported.network, exported.images[:5]))


def test_its_own_requests_at_once(exported: Exported, client: Any) -> None:
    image = exported.images[:1]
    tensor = http.InferInput("features", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    waiting = [client.async_infer("eenn-cloud-0", [tensor]) for _ in range(5)]
    for asked in waiting:
        assert_equal(asked.get_result().as_numpy("logits"), logits_of(exported.network, image))


@pytest.mark.parametrize(
    ("model", "values", "given", "status"),
    [
        ("eenn-cloud-9", np.zeros((1, 3, 32, 32), np.float32), {}, "404"),
        ("eenn-cloud-0", np.zeros((1, 3, 9, 9), np.float32), {}, "400"),
        ("eenn-cloud-0", np.zeros((1, 3, 32, 32)), {}, "400"),
        (
            "eenn-cloud-0",
            np.zeros((1, 3, 32, 32), np.float32),
            {"parameters": {"eenn_artifact": "0" * 64}},
            "409",
        ),
    ],
)
def test_it_understands_refusals(
    model: str, values: NDArray[Any], given: dict[str, Any], status: str, client: Any
) -> None:
    kind = "FP64" if values.dtype == np.float64 else "FP32"
    with pytest.raises(InferenceServerException) as refused:
        ask(client, model, "features", values, kind, **given)
    assert refused.value.status() == status
    assert len(refused.value.message()) > 20
