"""The exported graphs of an artifact: the index of their pieces, and ONNX Runtime sessions.

The pieces are files in `onnx/fp32` and `onnx/int8` inside the artifact, beside `index.json`; see
`eenn.offload.graphs.pieces` for what graphs are made of. No torch.
"""

import hashlib
import json
import re
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
from eenn.offload.graphs.pieces import Pieces, borders, cut_at, input_name
from eenn.offload.protocol.wire import Cut

SCHEMA_VERSION = 2
FOLDER, INDEX = "onnx", "index.json"
PRECISIONS = ("fp32", "int8")
# Features of networks are smaller, and a stranger's index could make zeros of any shape costly.
MAX_VALUES = 2**26
# A cut further back is worth a model if it sends at most this share of what those before it send.
ENOUGH_LESS = 0.9


@dataclass(frozen=True)
class Piece:
    """A row of the index, which describes one piece.

    Args:
        images: number of real images on which the piece was compared with PyTorch; None for an
            input or output, which computes nothing.
        max_relative_difference: largest difference from PyTorch on the same features, relative to
            the largest value.
        shape: channels, height and width that an input takes; None for other pieces, and in indices
            of earlier versions.
    """

    name: str
    precision: str
    bytes: int
    sha256: str
    images: int | None = None
    max_relative_difference: float | None = None
    shape: tuple[int, int, int] | None = None

    @property
    def file(self) -> str:
        """Name the piece's file in the folder of graphs."""
        return f"{self.precision}/{self.name}.onnx"


@dataclass(frozen=True)
class Graphs:
    """The exported graphs of an artifact, with the manifest."""

    manifest: Manifest
    rows: tuple[Piece, ...]

    @cached_property
    def id(self) -> str:
        """Compute the SHA-256 of the manifest's id and the pieces' hashes.

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
        file, again = manifest.path / FOLDER / INDEX, _again(manifest)
        if not file.is_file():
            raise ArtifactMissing(
                f"{manifest.path} has no exported graphs; run `eenn-export {manifest.path}`"
            )
        try:
            index: JsonObject = json.loads(file.read_bytes())
            schema, artifact_id = index[_SCHEMA], from_json(str, index[_ARTIFACT])
            rows = from_json(tuple[Piece, ...], index[_PIECES] if schema == SCHEMA_VERSION else ())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactEdited(f"{file} is not a whole index; {again}") from error
        if schema != SCHEMA_VERSION:
            raise ArtifactVersion(
                f"{file} has schema version {schema}, this eenn reads {SCHEMA_VERSION}; {again}"
            )
        if manifest.experts and all(row.name != CLASSIFIER for row in rows):
            raise ArtifactVersion(f"{file} has no graphs of the artifact's experts; {again}")
        if odd := [row.file for row in rows if not _FILE.fullmatch(row.file)]:
            raise ArtifactEdited(f"{file} names a file {odd[0]!r:.80}, not a piece; {again}")
        if odd := [row.file for row in rows if not _is_small(row.shape)]:
            raise ArtifactEdited(
                f"{file}: the shape of {odd[0]} is odd; allowed are sides of 1 or more, and at "
                f"most {MAX_VALUES} values in all; {again}"
            )
        if artifact_id != manifest.id:
            raise ArtifactEdited(
                f"{file} belongs to artifact {artifact_id[:12]}, not to {manifest.id[:12]}; {again}"
            )
        return cls(manifest, rows)

    def to_json(self) -> str:
        """Format the index as JSON."""
        rows = [asdict(row) for row in self.rows]
        index = {_SCHEMA: SCHEMA_VERSION, _ARTIFACT: self.manifest.id, _PIECES: rows}
        return json.dumps(index, indent=1)

    def features_shape(self, blocks: int) -> tuple[int, int, int]:
        """Return channels, height and width of the features behind some blocks; 0 is the image.

        Raises:
            ArtifactVersion: an earlier version wrote the index, and no exit is there.
        """
        shape = self._shapes.get(blocks)
        if shape is None:
            raise ArtifactVersion(
                f"{self.manifest.path / FOLDER / INDEX} has no shape of the features after block "
                f"{blocks}; {_again(self.manifest)}"
            )
        return shape

    def cuts_behind(self, blocks: int) -> tuple[int, ...]:
        """List the cuts behind some blocks that send clearly less than all before them.

        Only there a device gains if it computes on before it asks the cloud.
        """
        found, least = [], _values(self.features_shape(blocks))
        for later in range(blocks + 1, borders(self.manifest)[-1]):
            values = _values(self._shapes[later]) if later in self._shapes else least
            if values <= ENOUGH_LESS * least:
                found.append(later)
                least = values
        return tuple(found)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """List the cuts from which the cloud answers: the image, behind branches, `cuts_behind`."""
        behind = borders(self.manifest)[:-1]
        further = (cut for start in behind for cut in self.cuts_behind(start))
        return tuple(cut_at(self.manifest, cut) for cut in sorted({*behind, *further}))

    def content(self, name: str, precision: str) -> bytes:
        """Read the file of a piece, and verify it.

        Raises:
            ArtifactMissing, ArtifactEdited: the file is gone, or has changed since the export.
            EennError: the piece does not exist.
        """
        row = self._rows.get((name, precision))
        if row is None:
            raise EennError(
                f"{name} in {precision} does not exist; allowed are {', '.join(PRECISIONS)} of "
                f"{', '.join(dict.fromkeys(row.name for row in self.rows))}"
            )
        file = self.manifest.path / FOLDER / row.file
        if not file.is_file():
            mend = _EXPORT_FOR_DEVICE if self.manifest.is_for_device else _EXPORT
            raise ArtifactMissing(f"{file} is missing; {mend}")
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise ArtifactEdited(
                f"{file} was changed after it was written; {_again(self.manifest)}"
            )
        return content

    def joined(self, pieces: Pieces, precision: str) -> bytes:
        """Join pieces to the ONNX model of a graph.

        Raises:
            EennError: see `content`.
        """
        return b"".join(self.content(name, precision) for name in pieces)

    def session(
        self, pieces: Pieces, precision: str, threads: int, device: str = "cpu"
    ) -> InferenceSession:
        """Open a session that runs the graph of some pieces.

        Raises:
            ArtifactEdited: ONNX Runtime cannot load the graph.
            EennError: see `content` and `open_session`.
        """
        model = self.joined(pieces, precision)
        try:
            return open_session(model, threads, device)
        except _REFUSED as error:
            raise ArtifactEdited(
                f"{self.manifest.path / FOLDER / precision}: {pieces[0]} to {pieces[-1]} are not a "
                f"graph for ONNX Runtime; {_again(self.manifest)}"
            ) from error

    @cached_property
    def _shapes(self) -> dict[int, tuple[int, int, int]]:
        """Collect the shapes of features by the number of blocks before them."""
        size = self.manifest.preprocessing.input_size
        exits = self.manifest.exits
        taken = {row.name: row.shape for row in self.rows if row.shape is not None}
        stated = ((at, input_name(at)) for at in range(borders(self.manifest)[-1]))
        return {
            **{at: taken[name] for at, name in stated if name in taken},
            0: (3, size, size),
            **{row.after + 1: (row.channels, row.height, row.width) for row in exits},
        }

    @cached_property
    def _rows(self) -> dict[tuple[str, str], Piece]:
        return {(row.name, row.precision): row for row in self.rows}


def _is_small(shape: tuple[int, int, int] | None) -> bool:
    return shape is None or (min(shape) >= 1 and _values(shape) <= MAX_VALUES)


def _values(shape: tuple[int, int, int]) -> int:
    channels, height, width = shape
    return channels * height * width


def _again(manifest: Manifest) -> str:
    """Say how to get whole graphs again; a copy for a device has no weights to export."""
    return _COPY_AGAIN if manifest.is_for_device else _EXPORT


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
# No other directory, whoever wrote the index.
_FILE = re.compile(rf"({'|'.join(PRECISIONS)})/\w+\.onnx", re.ASCII)
_SCHEMA, _ARTIFACT, _PIECES = "schema_version", "artifact_id", "pieces"
_EXPORT = "remove the folder and run `eenn-export` again"
_COPY_AGAIN = (
    "write this folder again: `eenn-export ARTIFACT --deployment FILE --to FOLDER` on the machine "
    "with the whole artifact"
)
_EXPORT_FOR_DEVICE = (
    "this copy holds the graphs of one deployment; for another one run `eenn-export ARTIFACT "
    "--deployment FILE --to FOLDER` on the machine with the whole artifact"
)
