"""Exit records: the raw logits of every exit for some images at one distortion, as a file.

One safetensors file with a JSON header, written whole or not at all. NumPy only.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from eenn.errors import EennError
from eenn.files import Json, JsonObject, from_json, write_file

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
# The split of an origin where the images are those of a folder.
FOLDER = "folder"


class RecordsDamaged(EennError):
    """A records file that was cut short or changed after it was written."""


class RecordsForeign(EennError):
    """A whole records file of another network, split or distortion than requested."""


@dataclass(frozen=True)
class Origin:
    """The origin of records. Records are the same exactly if their origins are equal.

    Args:
        split: part of the artifact's own split, or FOLDER for a folder of other images.
        split_hash: of the split, or of the folder's files; see `eenn.data.new_images.NewImages`.
        heads: the head set: `plain`, a kind of distortion, or `classifier`. Records of the
            distortion classifier have one exit, and their labels are the true kinds, counted from
            1, or 0.
    """

    artifact_id: str
    split: str
    split_hash: str
    distortion: str
    level: float
    input_size: int
    heads: str = "plain"

    def described(self) -> dict[str, Json]:
        """Convert to JSON; plain heads are left out, as in files of versions without experts."""
        fields = asdict(self)
        return fields if self.heads != "plain" else {k: fields[k] for k in fields if k != "heads"}


@dataclass(frozen=True, eq=False)
class ExitRecords:
    """Raw logits float32 (exits, samples, classes), labels int (samples,) or None, and origin.

    Temperatures are applied on reading. `made` holds device and date, which do not distinguish
    records.

    Raises:
        EennError: shapes do not fit each other, or logits are not finite.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    sample_ids: tuple[str, ...]
    origin: Origin
    made: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, samples = self.logits.shape, len(self.sample_ids)
        labelled = (samples,) if self.labels is None else self.labels.shape
        if len(shape) != 3 or shape[1] != samples or labelled != (samples,):
            raise EennError(
                f"records: logits {shape}, labels {labelled}, {samples} sample ids; "
                "allowed are (exits, samples, classes), (samples,) and as many ids"
            )
        if not np.isfinite(self.logits).all():
            raise EennError("records: some logits are not finite numbers; check the network")

    @property
    def truth(self) -> NDArray[np.int64]:
        """Return the labels.

        Raises:
            EennError: the images have no labels.
        """
        if self.labels is None:
            raise EennError("these images have no labels; give a folder with one folder per class")
        return self.labels

    def save(self, path: Path) -> None:
        """Write the records to `path`."""
        tensors: dict[str, NDArray[np.generic]] = {"logits": np.ascontiguousarray(self.logits)}
        if self.labels is not None:
            tensors["labels"] = np.ascontiguousarray(self.labels)
        header = {
            "schema_version": SCHEMA_VERSION,
            "origin": self.origin.described(),
            "sample_ids": self.sample_ids,
            "made": self.made,
        }
        text = json.dumps(header)
        metadata = {"eenn": text, "sha256": _digest(text, tensors)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, safetensors.numpy.save(tensors, metadata))

    @classmethod
    def load(cls, path: Path, origin: Origin) -> "ExitRecords":
        """Read the records of `origin` from a file.

        Raises:
            RecordsDamaged: the file is cut short or was changed after it was written.
            RecordsForeign: the file has another origin or schema version.
            OSError: the file does not exist or cannot be read.
        """
        path.stat()
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata()
                own = [name for name in ("logits", "labels") if name in file.keys()]  # noqa: SIM118
                tensors = {name: file.get_tensor(name) for name in own}
                logits = tensors["logits"]
            text = metadata["eenn"]
            intact = metadata["sha256"] == _digest(text, tensors)
        except (SafetensorError, KeyError, TypeError) as error:
            raise RecordsDamaged(f"{path} is not a whole records file") from error
        if not intact:
            raise RecordsDamaged(f"{path} was changed after it was written")
        try:
            header: JsonObject = json.loads(text)
            sample_ids = from_json(tuple[str, ...], header["sample_ids"])
            made = from_json(dict[str, str], header.get("made", {}))
            stated = header["schema_version"], header["origin"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecordsDamaged(f"{path} has no header of records") from error
        if stated[0] != SCHEMA_VERSION:
            raise RecordsForeign(
                f"{path} has schema version {stated[0]}, this eenn reads {SCHEMA_VERSION}"
            )
        if stated[1] != origin.described():
            raise RecordsForeign(f"{path} holds records of {stated[1]}, not of {origin}")
        return cls(logits, tensors.get("labels"), sample_ids, origin, made)


@dataclass(frozen=True)
class RecordCache:
    """Records in one directory, one file per origin, so that no pass of the network is repeated."""

    directory: Path

    def fetch(self, origin: Origin, make: Callable[[], ExitRecords]) -> ExitRecords:
        """Read the records of `origin`, or make and save them if a sound file is missing.

        If several processes need the same records, one makes them and the others wait.
        """
        path = self.path(origin)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            try:
                return ExitRecords.load(path, origin)
            except FileNotFoundError:
                pass
            except (RecordsDamaged, RecordsForeign) as error:
                log.warning("%s; recording again", error)
            records = make()
            records.save(path)
            return records

    def path(self, origin: Origin) -> Path:
        """Name the file of `origin`."""
        # The digest distinguishes origins with the same readable part.
        digest = hashlib.sha256(json.dumps(origin.described()).encode()).hexdigest()[:8]
        name = f"{origin.split}-{origin.distortion}-{origin.level:g}-{digest}.safetensors"
        return self.directory / name


def _digest(header: str, tensors: Mapping[str, NDArray[np.generic]]) -> str:
    digest = hashlib.sha256(header.encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
