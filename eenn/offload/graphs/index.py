"""The exported graphs of an artifact: their index, and ONNX Runtime sessions that run them.

The graphs are files in `onnx/` inside the artifact, beside `index.json`. Names and inputs of the
graphs are declared here, for the export that writes them and for edge and cloud. No torch.
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

# The output of a stage besides LOGITS.
NEXT_FEATURES = "next_features"


def stage_name(start: int, stop: int) -> str:
    """Name the edge's graph of segments `start` to `stop` (exclusive) with the last one's head.

    The graph leads from FEATURES to LOGITS of exit `stop`, counted from 1, and NEXT_FEATURES. It
    has no heads in between, because those branches are not active.
    """
    return f"stage_{start}_{stop}"


def cloud_name(split_point: int) -> str:
    """Name the cloud's graph: FEATURES of the split point to LOGITS of the last exit."""
    return f"cloud_{split_point}"


def trunk_name(start: int, stop: int) -> str:
    """Name the graph of segments without a head, for experts: from FEATURES to NEXT_FEATURES."""
    return f"trunk_{start}_{stop}"


def segments_name(manifest: Manifest, start: int, stop: int) -> str:
    """Name the graph of segments `start` to `stop`: trunk, cloud part or stage."""
    if manifest.experts:
        return trunk_name(start, stop)
    return cloud_name(start) if stop == len(manifest.exits) else stage_name(start, stop)


def head_name(exit: int, heads: str) -> str:
    """Name the graph of an exit's head, counted from 1, in a head set: from FEATURES to LOGITS."""
    return f"head_{exit}_{heads}"


@dataclass(frozen=True)
class Graph:
    """A row of the index, which describes one graph.

    Args:
        inputs: shapes of one sample, by the tensor's name; the batch size is free.
        outputs: the same for the outputs.
        images: number of real images on which the graph was compared with PyTorch.
        max_relative_difference: largest difference from PyTorch, relative to each output's largest
            value.
        same_answers: share of these images with the same largest logit as in PyTorch; None for a
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
        """Name the graph's file in the folder of graphs."""
        return f"{self.name}.onnx" if self.precision == "fp32" else f"{self.name}.int8.onnx"


@dataclass(frozen=True)
class Graphs:
    """The exported graphs of an artifact, with the manifest."""

    manifest: Manifest
    rows: tuple[Graph, ...]

    @cached_property
    def id(self) -> str:
        """Compute the SHA-256 of the manifest's id and the graphs' hashes.

        Edge and cloud compare it to check that they run parts of the same network.
        """
        hashes = sorted([row.name, row.precision, row.sha256] for row in self.rows)
        return hashlib.sha256(json.dumps([self.manifest.id, hashes]).encode()).hexdigest()

    @classmethod
    def read(cls, artifact_dir: str | Path) -> "Graphs":
        """Read the index of the graphs of the artifact in a directory.

        Raises:
            ArtifactMissing: the artifact has no exported graphs.
            ArtifactEdited: the graphs belong to another artifact, or their index is broken.
            ArtifactVersion: the index was written by a version of eenn with another schema.
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
        """Format the index as JSON."""
        rows = [asdict(row) for row in self.rows]
        index = {_SCHEMA: SCHEMA_VERSION, _ARTIFACT: self.manifest.id, _GRAPHS: rows}
        return json.dumps(index, indent=1)

    def row(self, name: str, precision: str) -> Graph:
        """Look up the row of a graph.

        Raises:
            EennError: the graph does not exist.
        """
        for row in self.rows:
            if (row.name, row.precision) == (name, precision):
                return row
        raise EennError(
            f"graph {name} in {precision} does not exist; allowed are {', '.join(PRECISIONS)} of "
            f"{', '.join(dict.fromkeys(row.name for row in self.rows))}"
        )

    def content(self, name: str, precision: str) -> bytes:
        """Read the file of a graph, and verify it.

        Raises:
            ArtifactMissing, ArtifactEdited: the file is gone, or has changed since the export.
            EennError: the graph does not exist.
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
        """Open a session that runs a graph.

        Raises:
            ArtifactEdited: ONNX Runtime cannot load the graph.
            EennError: see `content` and `open_session`.
        """
        content = self.content(name, precision)
        try:
            return open_session(content, threads, device)
        except _REFUSED as error:
            file = self.manifest.path / FOLDER / self.row(name, precision).file
            raise ArtifactEdited(f"{file} is not a graph for ONNX Runtime; {_EXPORT}") from error


def open_session(model: bytes, threads: int, device: str = "cpu") -> InferenceSession:
    """Open a session for a model that takes turns with other models.

    Args:
        device: "cpu" or "cuda"; with "cuda" the CPU computes operations that CUDA does not have.

    Raises:
        EennError: the installed ONNX Runtime does not support the device.
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
    # Threads that spin after their session's run take cores from the next session.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device == "cpu":
        _share_one_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    return InferenceSession(model, options, providers=providers)


@cache
def _share_one_arena() -> None:
    """Register one memory arena for all sessions.

    An arena keeps the memory of its largest batch; models that take turns need that memory only
    once.
    """
    memory = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
    exactly_as_requested = OrtArenaCfg({"arena_extend_strategy": 1})
    create_and_register_allocator(memory, exactly_as_requested)


# Errors of ONNX Runtime for a model that it cannot load.
_REFUSED = (InvalidGraph, InvalidProtobuf, Fail, InvalidArgument, NotImplemented, RuntimeException)
_SCHEMA, _ARTIFACT, _GRAPHS = "schema_version", "artifact_id", "graphs"
_EXPORT = "remove the folder and run `eenn-export` again"
_EXPORT_FOR_DEVICE = (
    "this copy holds the graphs of one deployment; for another one run `eenn-export ARTIFACT "
    "--deployment FILE --to FOLDER` on the machine with the whole artifact"
)
