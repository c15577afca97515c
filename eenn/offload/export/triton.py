"""The cloud parts of an artifact as a model repository, as Triton and KServe serve one.

    DIR/eenn-cloud-K/config.pbtxt     name, shapes and types of split point K
    DIR/eenn-cloud-K/1/model.onnx     its graph in fp32, whole

These models take fp32 features only; other payloads are unpacked by `eenn-cloud`. No torch.
"""

from pathlib import Path

from eenn.files import new_directory, write_file
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import rest
from eenn.offload.protocol.wire import ARTIFACT, FEATURES, LOGITS, model_name

PRECISION = "fp32"
MAX_BATCH_SIZE = 32


def write_model_repository(graphs: Graphs, directory: Path) -> None:
    """Write a model for every split point to `directory`, whole or not at all.

    Raises:
        EennError: the directory exists; see `Graphs.content`.
    """
    with new_directory(directory) as repository:
        for split_point in range(len(graphs.manifest.exits)):
            model = repository / model_name(split_point)
            (model / "1").mkdir(parents=True)
            content = graphs.joined(rest(graphs.manifest, split_point), PRECISION)
            write_file(model / "1" / "model.onnx", content)
            write_file(model / "config.pbtxt", _config(graphs, split_point))


def _config(graphs: Graphs, split_point: int) -> str:
    """Format the model's configuration in the text format of protocol buffers.

    Triton adds the batch dimension itself. With the default `dynamic_batching` it computes queued
    requests together and does not wait for more.
    """
    manifest = graphs.manifest
    return f"""name: "{model_name(split_point)}"
platform: "onnxruntime_onnx"
max_batch_size: {MAX_BATCH_SIZE}
input [{_tensor(FEATURES, manifest.features_shape(split_point))}]
output [{_tensor(LOGITS, (len(manifest.classes),))}]
dynamic_batching {{ }}
parameters {{ key: "{ARTIFACT}" value {{ string_value: "{graphs.id}" }} }}
"""


def _tensor(name: str, shape: tuple[int, ...]) -> str:
    return f'{{ name: "{name}" data_type: TYPE_FP32 dims: [{", ".join(map(str, shape))}] }}'
