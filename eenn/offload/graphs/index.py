"""The exported graphs of an artifact: their index, and ONNX Runtime sessions that run them.

They lie in `onnx/` inside the artifact, a file each, with `index.json`. What the graphs are called
and take in is said here, for the export that writes them and for edge and cloud. No torch.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path

from onnxruntime import (
    InferenceSession,
    OrtAllocatorType,
    OrtArenaCfg,
    OrtMemoryInfo,
    OrtMemType,
    SessionOptions,
    create_and_register_allocator,
    get_available_providers,
)
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
    RuntimeException,
)

from eenn.artifact.manifest import (
    ArtifactEdited,
    ArtifactMissing,
    ArtifactVersion,
    Manifest,
    read_manifest,
)
from eenn.errors import EennError
from eenn.exits.head_sets import CLASSIFIER
from eenn.files import JsonObject, from_json

SCHEMA_VERSION = 1
FOLDER, INDEX = "onnx", "index.json"
PRECISIONS = ("fp32", "int8")

# The tensor of a stage besides FEATURES and LOGITS.
NEXT_FEATURES = "next_features"


def stage_name(start: int, stop: int) -> str:
    """The edge's graph of segments `start` to `stop`, not included, and the head of the last.

    It takes FEATURES and gives LOGITS of exit `stop`, counted from 1, and NEXT_FEATURES. The heads
    between are left out: this is the graph for branches that are off.
    """
    return f"stage_{start}_{stop}"


def cloud_name(split_point: int) -> str:
    """The cloud's graph: from FEATURES after `split_point` segments to LOGITS of the last exit."""
    return f"cloud_{split_point}"


def trunk_name(start: int, stop: int) -> str:
    """The same segments without a head, of an artifact with experts: FEATURES to NEXT_FEATURES."""
    return f"trunk_{start}_{stop}"


def segments_name(manifest: Manifest, start: int, stop: int) -> str:
    """Name the graph that runs these segments in one of the artifact's parts, as above."""
    if manifest.experts:
        return trunk_name(start, stop)
    return cloud_name(start) if stop == len(manifest.exits) else stage_name(start, stop)


def head_name(exit: int, heads: str) -> str:
    """The head of an exit, counted from 1, in the head set `heads`: from FEATURES to LOGITS."""
    return f"head_{exit}_{heads}"


@dataclass(frozen=True)
class Graph:
    """One row of the index.

    Args:
        inputs: shapes of one sample by the tensor's name; the batch is free.
        outputs: the same.
        images: real images on which it was held against PyTorch.
        max_relative_difference: from PyTorch's outputs, relative to the largest value of each.
        same_answers: share of these images with the same largest logit as in PyTorch; None of a
            graph without logits.
    """

    name: str
    precision: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    bytes: int
    sha256: str
    images: int
    max_relative_difference: float
    same_answers: float | None

    @property
    def file(self) -> str:
        """Its file in the folder of graphs."""
        return f"{self.name}.onnx" if self.precision == "fp32" else f"{self.name}.int8.onnx"


@dataclass(frozen=True)
class Graphs:
    """The graphs of an artifact, and its manifest."""

    manifest: Manifest
    rows: tuple[Graph, ...]

    @cached_property
    def id(self) -> str:
        """Hex digits that differ where anything does that computes: the manifest, or a graph.

        By it edge and cloud find out whether they run parts of one network.
        """
        hashes = sorted([row.name, row.precision, row.sha256] for row in self.rows)
        return hashlib.sha256(json.dumps([self.manifest.id, hashes]).encode()).hexdigest()

    @classmethod
    def read(cls, artifact_dir: str | Path) -> "Graphs":
        """The graphs of the artifact in this directory.

        Raises:
            ArtifactMissing: no graphs were exported.
            ArtifactEdited: the graphs are those of another artifact, or their index is broken.
            ArtifactVersion: written by a version of eenn with another schema.
            EennError: see `read_manifest`.
        """
        manifest = read_manifest(artifact_dir)
        file = manifest.path / FOLDER / INDEX
        if not file.is_file():
            raise ArtifactMissing(
                f"{manifest.path} has no exported graphs; run `eenn-export {manifest.path}`"
            )
        try:
            index: JsonObject = json.loads(file.read_bytes())
            schema, artifact_id = index[_SCHEMA], from_json(str, index[_ARTIFACT])
            rows = from_json(tuple[Graph, ...], index[_GRAPHS] if schema == SCHEMA_VERSION else ())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactEdited(f"{file} is not a whole index; {_EXPORT}") from error
        if schema != SCHEMA_VERSION:
            raise ArtifactVersion(
                f"{file} has schema version {schema}, this eenn reads {SCHEMA_VERSION}; {_EXPORT}"
            )
        if manifest.experts and all(row.name != CLASSIFIER for row in rows):
            raise ArtifactVersion(f"{file} has no graphs of the artifact's experts; {_EXPORT}")
        if artifact_id != manifest.id:
            raise ArtifactEdited(
                f"{file} belongs to artifact {artifact_id[:12]}, not to {manifest.id[:12]}; "
                f"{_EXPORT}"
            )
        return cls(manifest, rows)

    def to_json(self) -> str:
        """The index as it is written."""
        rows = [asdict(row) for row in self.rows]
        index = {_SCHEMA: SCHEMA_VERSION, _ARTIFACT: self.manifest.id, _GRAPHS: rows}
        return json.dumps(index, indent=1)

    def row(self, name: str, precision: str) -> Graph:
        """The row of one graph.

        Raises:
            EennError: there is no such graph.
        """
        for row in self.rows:
            if (row.name, row.precision) == (name, precision):
                return row
        raise EennError(
            f"no graph {name} in {precision}; there are {', '.join(PRECISIONS)} of "
            f"{', '.join(dict.fromkeys(row.name for row in self.rows))}"
        )

    def content(self, name: str, precision: str) -> bytes:
        """The file of one graph, verified.

        Raises:
            ArtifactMissing, ArtifactEdited: it is gone, or is not what was exported.
            EennError: there is no such graph.
        """
        row = self.row(name, precision)
        file = self.manifest.path / FOLDER / row.file
        if not file.is_file():
            mend = _EXPORT_FOR_DEVICE if self.manifest.is_for_device else _EXPORT
            raise ArtifactMissing(f"{file} is missing; {mend}")
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise ArtifactEdited(f"{file} was changed after it was written; {_EXPORT}")
        return content

    def session(
        self, name: str, precision: str, threads: int, device: str = "cpu"
    ) -> InferenceSession:
        """A session that runs one graph.

        Raises:
            ArtifactEdited: ONNX Runtime does not take the graph.
            EennError: see `content` and `open_session`.
        """
        content = self.content(name, precision)
        try:
            return open_session(content, threads, device)
        except _REFUSED as error:
            file = self.manifest.path / FOLDER / self.row(name, precision).file
            raise ArtifactEdited(f"{file} is not a graph that runs; {_EXPORT}") from error


def open_session(model: bytes, threads: int, device: str = "cpu") -> InferenceSession:
    """A session for one of several models that take turns.

    Args:
        device: "cpu", or "cuda", where the CPU computes what CUDA has no operation for.

    Raises:
        EennError: the installed ONNX Runtime has no such device.
    """
    cpu = "CPUExecutionProvider"
    providers = {"cpu": [cpu], "cuda": ["CUDAExecutionProvider", cpu]}.get(device)
    if providers is None or not set(providers) <= set(get_available_providers()):
        raise EennError(
            f"this ONNX Runtime does not run on device={device}; allowed are cpu, and cuda with "
            "the package onnxruntime-gpu in place of onnxruntime"
        )
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin when their session is done take the cores from the session that is next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device == "cpu":
        _share_one_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    return InferenceSession(model, options, providers=providers)


@cache
def _share_one_arena() -> None:
    """An arena keeps the memory of the largest batch it has seen; models that take turns need it
    once, not each for itself."""
    memory = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
    exactly_as_requested = OrtArenaCfg({"arena_extend_strategy": 1})
    create_and_register_allocator(memory, exactly_as_requested)


# What ONNX Runtime raises for a model that it does not take.
_REFUSED = (InvalidGraph, InvalidProtobuf, Fail, InvalidArgument, NotImplemented, RuntimeException)
_SCHEMA, _ARTIFACT, _GRAPHS = "schema_version", "artifact_id", "graphs"
_EXPORT = "remove the folder and run `eenn-export` again"
_EXPORT_FOR_DEVICE = (
    "this copy holds what one deployment needs; for another one run `eenn-export ARTIFACT "
    "--deployment FILE --to FOLDER` where the whole artifact is"
)
