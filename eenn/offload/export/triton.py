"""The cloud parts of an artifact as a model repository, as Triton and KServe serve one.

    DIR/eenn-cloud-CUT/config.pbtxt     name, shapes and types of the model from a cut
    DIR/eenn-cloud-CUT/1/model.onnx     its graph in fp32, whole

These models take fp32 features only; other payloads are unpacked by `eenn-cloud`. No torch.
"""

from pathlib import Path

from eenn.files import new_directory, write_file
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import rest
from eenn.offload.protocol.wire import ARTIFACT, FEATURES, LOGITS, Cut, model_name

PRECISION = "fp32"
MAX_BATCH_SIZE = 32


def write_model_repository(graphs: Graphs, directory: Path) -> None:
    """Write a model for every cut to `directory`, whole or not at all.

    Raises:
        EennError: the directory exists; see `Graphs.content`.
    """
    with new_directory(directory) as repository:
        for cut in graphs.cuts:
            model = repository / model_name(cut)
            (model / "1").mkdir(parents=True)
            content = graphs.joined(rest(graphs.manifest, cut.blocks), PRECISION)
            write_file(model / "1" / "model.onnx", content)
            write_file(model / "config.pbtxt", _config(graphs, cut))


def _config(graphs: Graphs, cut: Cut) -> str:
    """Format the model's configuration in the text format of protocol buffers.

    Triton adds the batch dimension itself. With the default `dynamic_batching` it computes queued
    requests together and does not wait for more.
    """
    manifest = graphs.manifest
    return f"""name: "{model_name(cut)}"
platform: "onnxruntime_onnx"
max_batch_size: {MAX_BATCH_SIZE}
input [{_tensor(FEATURES, graphs.features_shape(cut.blocks))}]
output [{_tensor(LOGITS, (len(manifest.classes),))}]
dynamic_batching {{ }}
parameters {{ key: "{ARTIFACT}" value {{ string_value: "{graphs.id}" }} }}
"""


def _tensor(name: str, shape: tuple[int, ...]) -> str:
    return f'{{ name: "{name}" data_type: TYPE_FP32 dims: [{", ".join(map(str, shape))}] }}'
