"""What the cloud serves: the models of its artifacts, found by name, version and artifact.

Every split point is a model that takes features, one for each head set, and there is one that takes
image files. A model says what it takes, as metadata, and checks requests against that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.files import Json
from eenn.offload.graphs.index import Graphs, cloud_name
from eenn.offload.graphs.parts import Part, open_heads
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import (
    ARTIFACT,
    FEATURES,
    FILES,
    IMAGE,
    IMAGE_MODEL,
    LOGITS,
    VERSION_DIGITS,
    Parameter,
    Request,
    Tensor,
    model_name,
)
from eenn.preprocess import Preprocessing

Floats = NDArray[np.float32]


class UnknownModel(EennError):
    """No model of that name, or no such version of it."""


class WrongArtifact(EennError):
    """The request is meant for another artifact."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One model of one artifact.

    Args:
        artifact_id: of the artifact and its graphs, as `Graphs.id`; the model that takes image
            files is there by the artifact's id, too.
        run: from float32 features (N, *shape) to logits (N, classes); requests for models that
            share this function share batches.
        shape: of one sample's features.
        preprocessing: of a model that takes image files; None for features.
    """

    name: str
    artifact_id: str
    run: Callable[[Floats], Floats]
    shape: tuple[int, ...]
    classes: int
    preprocessing: Preprocessing | None = None

    @property
    def version(self) -> str:
        """As in URLs."""
        return self.artifact_id[:VERSION_DIGITS]

    @property
    def input(self) -> str:
        """The name of its one input."""
        return IMAGE if self.preprocessing else FEATURES

    def metadata(self, versions: Sequence[str]) -> dict[str, Json]:
        """As the protocol describes it. FP16 and UINT8 features are taken as well as FP32."""
        kind, shape = self._taken
        return {
            "name": self.name,
            "versions": versions,
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": self.input, "datatype": kind, "shape": shape}],
            "outputs": [{"name": LOGITS, "datatype": "FP32", "shape": [-1, self.classes]}],
            ARTIFACT: self.artifact_id,
        }

    def config(self, max_batch: int) -> dict[str, Json]:
        """As Triton describes it."""
        kind, dims = ("STRING", (1,)) if self.preprocessing else ("FP32", self.shape)
        return {
            "name": self.name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": max_batch,
            "input": [{"name": self.input, "data_type": f"TYPE_{kind}", "dims": dims}],
            "output": [{"name": LOGITS, "data_type": "TYPE_FP32", "dims": [self.classes]}],
        }

    def tensor(self, request: Request, limit: int) -> Tensor:
        """The request's input, checked but as it was sent.

        Raises:
            BadRequest: another input, shape or type than this model's, more samples than `limit`,
                or an output that it has not.
        """
        if set(request.inputs) != {self.input} or set(request.outputs) - {LOGITS}:
            raise BadRequest(f"{self.name} has one input, {self.input}, and one output, {LOGITS}")
        tensor = request.inputs[self.input]
        shape = () if self.preprocessing else self.shape
        if tensor.shape[1:] != shape or (tensor.dtype == object) != bool(self.preprocessing):
            datatype, shape_taken = self._taken
            given = FILES if tensor.dtype == object else tensor.dtype
            raise BadRequest(
                f"{self.input} of {given} {list(tensor.shape)}; {self.name} takes "
                f"{datatype} {shape_taken}"
            )
        if len(tensor) > limit:
            raise BadRequest(f"{len(tensor)} samples in one request; at most {limit} are taken")
        return tensor

    @property
    def _taken(self) -> tuple[str, list[int]]:
        """Datatype and shape of the input, with -1 for the batch."""
        return ("BYTES", [-1]) if self.preprocessing else ("FP32", [-1, *self.shape])


class Repository:
    """The models of some artifacts, loaded; the first artifact serves those who name none.

    Raises:
        EennError: an artifact given twice; see `Graphs.read` and `Graphs.session`.
    """

    def __init__(
        self, artifact_dirs: Sequence[str | Path], precision: str, threads: int, device: str
    ) -> None:
        self._models: dict[str, dict[str, ServedModel]] = {}
        self.artifact_ids: list[str] = []
        for artifact_dir in artifact_dirs:
            graphs = Graphs.read(artifact_dir)
            if graphs.id in self.artifact_ids:
                raise EennError(f"{artifact_dir} is served already; give each artifact once")
            self.artifact_ids.append(graphs.id)
            for model in _models(graphs, precision, threads, device):
                self._models.setdefault(model.name, {})[model.version] = model

    def __iter__(self) -> Iterator[ServedModel]:
        return (model for versions in self._models.values() for model in versions.values())

    def versions(self, model: str, version: str | None = None) -> list[ServedModel]:
        """The models of that name, of all artifacts or one version, the first artifact's first.

        Raises:
            UnknownModel: there is none.
        """
        versions = self._models.get(model, {})
        found = [served for own, served in versions.items() if version in (None, own)]
        if found:
            return found
        if versions:
            raise UnknownModel(
                f"no version {str(version)[:80]} of {model} here; there are {', '.join(versions)}"
            )
        raise UnknownModel(f"no model {model[:80]} here; there are {', '.join(self._models)}")


def model_of_artifact(models: Sequence[ServedModel], artifact_id: Parameter | None) -> ServedModel:
    """The one of `models` that belongs to the artifact a request names, or the first.

    Raises:
        WrongArtifact: there is none.
    """
    for model in models:
        if artifact_id in (None, model.artifact_id):
            return model
    raise WrongArtifact(
        f"artifact {str(artifact_id)[:VERSION_DIGITS]} is not served here, but "
        f"{', '.join(model.version for model in models)}; edge and cloud need the same one, "
        "exported once, with its graphs"
    )


def _models(graphs: Graphs, precision: str, threads: int, device: str) -> Iterator[ServedModel]:
    manifest = graphs.manifest
    exits = len(manifest.exits)
    last = open_heads(graphs, exits, manifest.head_sets, threads, device)
    for split_point in range(exits):
        shape = graphs.row(cloud_name(split_point), "fp32").inputs[FEATURES]
        part = Part(graphs, split_point, exits, last, precision, threads, device)
        for heads in manifest.head_sets:
            run = partial(part.logits, heads=heads)
            run(np.zeros((1, *shape), np.float32))  # The first run is slower than later ones.
            served = ServedModel(
                model_name(split_point, heads), graphs.id, run, shape, len(manifest.classes)
            )
            yield served
            if (split_point, heads) == (0, PLAIN):
                served = replace(served, name=IMAGE_MODEL, preprocessing=manifest.preprocessing)
                yield served
                # Who sends photographs to another network than its own knows none of its graphs.
                yield replace(served, artifact_id=manifest.id)
