"""The models of the cloud's artifacts, found by name, version and artifact.

For every cut (`Graphs.cuts`) and head set there is a model that takes features, and one more model
takes image files. A model describes its input in metadata, and checks requests against them.
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
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Part, open_heads
from eenn.offload.protocol.errors import BadRequest
from eenn.offload.protocol.wire import (
    ARTIFACT,
    FEATURES,
    FILES,
    IMAGE,
    IMAGE_CUT,
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
    """A request for a model or version that is not served."""


class WrongArtifact(EennError):
    """A request for another artifact."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One model of one artifact.

    Args:
        artifact_id: id of the artifact with its graphs, as in `Graphs.id`; the model that takes
            image files is also served by the artifact's own id.
        run: computes logits (N, classes) from float32 features (N, *shape); requests for models
            that share this function share batches.
        shape: shape of one sample's features.
        preprocessing: for a model that takes image files; None for features.
    """

    name: str
    artifact_id: str
    run: Callable[[Floats], Floats]
    shape: tuple[int, ...]
    classes: int
    preprocessing: Preprocessing | None = None

    @property
    def version(self) -> str:
        """Return the version as it is written in URLs."""
        return self.artifact_id[:VERSION_DIGITS]

    @property
    def input(self) -> str:
        """Return the name of the model's only input."""
        return IMAGE if self.preprocessing else FEATURES

    def metadata(self, versions: Sequence[str]) -> dict[str, Json]:
        """Describe the model as the protocol does.

        FP16 and UINT8 features are accepted besides FP32.
        """
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
        """Describe the model's configuration as Triton does."""
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
        """Check the request's input and return it as it was sent.

        Raises:
            BadRequest: input, shape or type is not that of the model, there are more samples than
                `limit`, or the model does not have the requested output.
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
        """Return datatype and shape of the input, with -1 for the batch."""
        return ("BYTES", [-1]) if self.preprocessing else ("FP32", [-1, *self.shape])


class Repository:
    """The loaded models of some artifacts; the first artifact serves requests that name none.

    Raises:
        EennError: an artifact is given twice; see `Graphs.read` and `Graphs.session`.
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
        """List the models of a name, of all artifacts in their order or of one version.

        Raises:
            UnknownModel: no such model or version is served.
        """
        versions = self._models.get(model, {})
        found = [served for own, served in versions.items() if version in (None, own)]
        if found:
            return found
        if versions:
            raise UnknownModel(
                f"version {str(version)[:80]} of {model} is not served here; allowed are "
                f"{', '.join(versions)}"
            )
        raise UnknownModel(
            f"model {model[:80]} is not served here; allowed are {', '.join(self._models)}"
        )


def model_of_artifact(models: Sequence[ServedModel], artifact_id: Parameter | None) -> ServedModel:
    """Select the model of the artifact that a request names, or the first model if it names none.

    Raises:
        WrongArtifact: the artifact is not served.
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
    for cut in graphs.cuts:
        shape = graphs.features_shape(cut.blocks)
        part = Part(graphs, cut.blocks, exits, last, precision, threads, device)
        for heads in manifest.head_sets:
            run = partial(part.logits, heads=heads)
            run(np.zeros((1, *shape), np.float32))  # The first run is slower than later runs.
            served = ServedModel(
                model_name(cut, heads), graphs.id, run, shape, len(manifest.classes)
            )
            yield served
            if (cut, heads) == (IMAGE_CUT, PLAIN):
                served = replace(served, name=IMAGE_MODEL, preprocessing=manifest.preprocessing)
                yield served
                # A device that sends photographs to an upstream network does not know its graphs.
                yield replace(served, artifact_id=manifest.id)
