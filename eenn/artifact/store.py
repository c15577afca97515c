"""The trained network on disk: saving and loading, without pickle.

An artifact is a directory of `weights.safetensors`, `split.json` (the samples of each part) and
`manifest.json`, which describes the rest. An artifact with experts also has `experts.safetensors`:
their heads and the distortion classifier. The backbone is stored once. `MODEL_CARD.md` is made from
the manifest, for people.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from eenn import __version__
from eenn.artifact.card import write_card
from eenn.artifact.manifest import (
    RESTORE,
    SCHEMA_VERSION,
    SPLIT,
    WEIGHTS,
    ArtifactTruncated,
    ArtifactVersion,
    Manifest,
    Origin,
    StoredFile,
    manifest_id,
    read_manifest,
)
from eenn.data.distortions import DrawnDistortion
from eenn.data.splits import Split
from eenn.exits.head_sets import FINE_TUNED, Classifier, Expert
from eenn.files import Json, JsonObject, new_directory, write_file
from eenn.models.architecture import Architecture
from eenn.models.building import build, measure_network
from eenn.models.distortion_classifier import DistortionClassifier
from eenn.models.early_exit import EarlyExitNet
from eenn.models.expert_net import ExpertNet
from eenn.preprocess import Preprocessing
from eenn.programs import TRAIN_EXPERTS
from eenn.provenance import git_commit
from eenn.run_directory import MANIFEST
from eenn.statistics.calibration import Temperatures

_VERSIONS = ("torch", "torchvision", "numpy", "pillow")
EXPERTS = "experts.safetensors"


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact: the network in evaluation mode, the manifest, and any experts.

    The experts share the network.
    """

    network: EarlyExitNet
    manifest: Manifest
    experts: ExpertNet | None = None


def save(
    path: Path,
    network: EarlyExitNet,
    *,
    architecture: Architecture,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    temperatures: Temperatures,
    fitted: str,
    validation_accuracy: Sequence[float],
    split: Split,
    origin: Origin | None = None,
) -> None:
    """Write an artifact to `path`, whole or not at all.

    Args:
        fitted: the method of fitting the temperatures and the number of samples, in words.
        validation_accuracy: of each exit, in [0, 1].
        split: the split that the network was trained with.
        origin: None where nothing is known.

    Raises:
        EennError: `path` exists or cannot be written.
    """
    files = {WEIGHTS: _content(network.state_dict()), SPLIT: split.to_json().encode()}
    blocks, exits = measure_network(architecture)
    manifest: JsonObject = {
        "schema_version": SCHEMA_VERSION,
        "architecture": asdict(architecture),
        "classes": classes,
        "preprocessing": asdict(preprocessing),
        "blocks": [asdict(row) for row in blocks],
        "exits": [asdict(row) for row in exits],
        "temperatures": {**asdict(temperatures), "fitted": fitted},
        "validation_accuracy": validation_accuracy,
        "split": {"hash": split.hash, "seed": split.seed, "sizes": split.sizes},
        **({} if origin is None else {"origin": asdict(origin)}),
    }
    _write(path, manifest, files)


def save_with_experts(
    path: Path,
    base: Manifest,
    network: ExpertNet,
    experts: Sequence[Expert],
    classifier: Classifier,
) -> None:
    """Write the artifact `base` with experts to `path`, whole or not at all.

    The plain network and the split are copied byte by byte; experts of `base` are left out.

    Args:
        experts: descriptions of the experts of `network`, in their order.

    Raises:
        EennError: `path` exists or cannot be written, or a file of `base` is damaged.
    """
    files = {name: base.verified(name) for name in (WEIGHTS, SPLIT)}
    files[EXPERTS] = _content(network.expert_state())
    described: JsonObject = {
        "base": base.id,
        "sets": [asdict(expert) for expert in experts],
        "classifier": asdict(classifier),
    }
    _write(path, {**_kept(base), "experts": described}, files)


def save_fine_tuned(
    path: Path,
    base: Manifest,
    network: EarlyExitNet,
    *,
    temperatures: Temperatures,
    fitted: str,
    validation_accuracy: Sequence[float],
    distortion: DrawnDistortion,
) -> None:
    """Write a network fine-tuned from `base` for a distortion to `path`, whole or not at all.

    The split is copied byte by byte; experts of `base` are left out.

    Args:
        fitted, validation_accuracy: as in `save`.
        distortion: the distortion that the network was fine-tuned with.

    Raises:
        EennError: `path` exists or cannot be written, or a file of `base` is damaged.
    """
    files = {WEIGHTS: _content(network.state_dict()), SPLIT: base.verified(SPLIT)}
    described: JsonObject = {
        "temperatures": {**asdict(temperatures), "fitted": fitted},
        "validation_accuracy": validation_accuracy,
        FINE_TUNED: {"base": base.id, **asdict(distortion)},
    }
    _write(path, {**_kept(base), **described}, files)


def load(path: str | Path) -> Artifact:
    """Read and verify an artifact; logits equal those of the saved network bit for bit.

    Raises:
        ArtifactMissing, ArtifactTruncated, ArtifactEdited, ArtifactVersion: see there.
    """
    manifest = read_manifest(path)
    contents = manifest.all_verified()
    network = _built(manifest)
    _load_state(network, manifest, WEIGHTS, contents)
    if not manifest.experts:
        return Artifact(network.eval(), manifest)
    kinds = [expert.kind for expert in manifest.experts]
    experts = ExpertNet(
        network,
        {kind: copy.deepcopy(network.heads) for kind in kinds},
        DistortionClassifier(len(kinds), manifest.preprocessing.std),
    )
    plain = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    _load_state(experts, manifest, EXPERTS, contents, plain)
    return Artifact(network.eval(), manifest, experts.eval())


def _built(manifest: Manifest) -> EarlyExitNet:
    """Build the network without values, in no more memory than the file of weights takes."""
    if manifest.architecture.input_size != manifest.preprocessing.input_size:
        raise ArtifactTruncated(
            f"{manifest.path / MANIFEST}: input_size of architecture and preprocessing differ; "
            f"{RESTORE}"
        )
    try:
        with torch.device("meta"):
            network = build(manifest.architecture)
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ArtifactTruncated(
            f"{manifest.path / MANIFEST}, architecture: no network can be built from it; {RESTORE}"
        ) from error
    stored = network.state_dict()
    needed = sum(tensor.nbytes for tensor in stored.values())
    if needed > manifest.stored(WEIGHTS).bytes:
        raise ArtifactTruncated(
            f"{manifest.path / WEIGHTS} has less than {needed} bytes of weights; {RESTORE}"
        )
    if any(name not in stored for name, _ in network.named_buffers()):
        # Their values are not in any file: the code of the network makes them.
        return build(manifest.architecture)
    return network.to_empty(device="cpu").to(memory_format=torch.channels_last)


def _load_state(
    network: nn.Module,
    manifest: Manifest,
    name: str,
    contents: Mapping[str, bytes],
    beside: Mapping[str, Tensor] | None = None,
) -> None:
    """Load the tensors of one of the artifact's files, and those of `beside`, into a network."""
    file, expected = manifest.path / name, network.state_dict()
    manifest.stored(name)
    try:
        state = {**(beside or {}), **safetensors.torch.load(contents[name])}
    except SafetensorError as error:
        raise ArtifactTruncated(f"{file} is not a whole file of tensors; {RESTORE}") from error
    wrong = sorted(
        key
        for key in state.keys() | expected.keys()
        if key not in state
        or key not in expected
        or (state[key].shape, state[key].dtype) != (expected[key].shape, expected[key].dtype)
    )
    if wrong:
        mend = f"train them again: {TRAIN_EXPERTS}" if beside else RESTORE
        raise ArtifactVersion(
            f"{file} belongs to another network or version of eenn: {wrong[0]} differs; {mend}"
        )
    network.load_state_dict(state)


def _kept(base: Manifest) -> JsonObject:
    """Collect the parts of the manifest of `base` that also hold for an artifact made from it."""
    return {name: value for name, value in base.content.items() if name not in ("id", "experts")}


def _content(state: dict[str, Tensor]) -> bytes:
    tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
    return bytes(safetensors.torch.save(tensors))


def _write(path: Path, described: JsonObject, files: Mapping[str, bytes]) -> None:
    """Write the files, a manifest of `described`, sizes and hashes, and the model card."""
    manifest: dict[str, Json] = {
        **described,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"eenn": __version__, **{name: version(name) for name in _VERSIONS}},
        "git_commit": git_commit(),
        "files": {
            name: asdict(StoredFile(len(content), hashlib.sha256(content).hexdigest()))
            for name, content in files.items()
        },
    }
    manifest["id"] = manifest_id(manifest)
    with new_directory(path) as directory:
        for name, content in files.items():
            write_file(directory / name, content)
        text = json.dumps(manifest, indent=1)
        write_file(directory / MANIFEST, text)
        write_card(Manifest(directory, json.loads(text)))
