"""Damaged or forged artifacts and runs: read, or refused in a line."""

import contextlib
import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import torch
import yaml

from eenn.artifact import store
from eenn.artifact.manifest import manifest_id, read_manifest
from eenn.data.demo import DemoImages
from eenn.data.splits import Split
from eenn.errors import EennError
from eenn.files import Json
from eenn.models.architecture import Architecture
from eenn.models.building import build
from eenn.preprocess import Preprocessing
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.run_directory import MANIFEST
from eenn.statistics.calibration import Temperatures
from eenn.workflows.trained_images import TrainedImages

SMALL = Architecture(classes=3, positions=(3,), head="linear", width_mult=0.35, input_size=32)
ODD: tuple[Json, ...] = (
    None, True, 0, -1, 1.5, 1e308, float("nan"), 2**70, "", "\0", "../../etc/passwd", "\ud800",
    [], {}, [[]], {"": None}, [None] * 3,
)  # fmt: skip

CONFIGURATIONS = (
    "data:\n  title: x\n  root: x\n  source:\n    name: folder\n    root: x\n  input_size: 32\n"
    "  resize_size: 36\n  batch_size: 2\n  num_workers: 0\naugmentation:\n  flip: true\n",
    "data: {title: x, source: {_target_: eenn.data.datasets.FolderImages, root: x}}\n",
    "data: {title: x, source: {_target_: os.mkdir, path: x}}\n",
)


def manifests(random: Random) -> None:
    """Read an artifact with a changed manifest, whose hash is right in most cases."""
    files = dict(_whole())
    changed = json.loads(files[MANIFEST])
    for _ in range(random.randint(1, 3)):
        _change(changed, random)
    if random.random() < 0.9:
        changed["id"] = manifest_id({k: v for k, v in changed.items() if k != "id"})
    files[MANIFEST] = json.dumps(changed).encode()
    if random.random() < 0.2:
        files[MANIFEST] = _cut(files[MANIFEST], random)
    _read(files)


def artifact_files(random: Random) -> None:
    """Load an artifact with one other file changed, and with the hash of the change."""
    files = dict(_whole())
    name = random.choice([name for name in files if name != MANIFEST])
    files[name] = _cut(files[name], random)
    changed = json.loads(files[MANIFEST])
    sha256 = hashlib.sha256(files[name]).hexdigest()
    changed["files"][name] = {"bytes": len(files[name]), "sha256": sha256}
    changed["id"] = manifest_id({k: v for k, v in changed.items() if k != "id"})
    files[MANIFEST] = json.dumps(changed).encode()
    _read(files)


def configurations(random: Random) -> None:
    """Open a run directory whose configuration was changed, cut or made up."""
    text = random.choice(CONFIGURATIONS)
    if random.random() < 0.5:
        changed = yaml.safe_load(text)
        for _ in range(random.randint(1, 3)):
            _change(changed, random)
        with contextlib.suppress(yaml.YAMLError, UnicodeEncodeError):
            text = yaml.safe_dump(changed)
    content = text.encode(errors="surrogatepass")
    if random.random() < 0.5:
        content = _cut(content, random)
    if random.random() < 0.1:
        content += random.choice((b"[", b"- ", b"{a: ", b"&a *a ")) * random.choice(
            (9, 900, 90_000)
        )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        (run / "artifact").mkdir()
        for name, own in _whole().items():
            (run / "artifact" / name).write_bytes(own)
        (run / "config.yaml").write_bytes(content)
        for opens in (lambda: open_artifact(folder), lambda: TrainedImages.of(run)):
            try:
                opens()
            except EennError as error:
                said = str(error)
                if "\n" in said:
                    raise AssertionError(f"an error of several lines: {said!r}") from error


def _read(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        try:
            manifest = read_manifest(folder)
            for part in ("exits", "temperatures", "validation_accuracy", "experts", "head_sets"):
                getattr(manifest, part)
            EvaluatedArtifact(manifest, "none", lambda: DemoImages(1))
            store.load(folder)
        except EennError as error:
            said = str(error)
        else:
            return
    if "\n" in said:
        raise AssertionError(f"an error of several lines: {said!r}")


@cache
def _whole() -> dict[str, bytes]:
    """Make the files of a sound artifact."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact"
        store.save(
            path,
            build(SMALL),
            architecture=SMALL,
            classes=("ant", "bee", "cat"),
            preprocessing=Preprocessing(32, 36),
            temperatures=Temperatures((1.5, 1.2), 1.1),
            fitted="not at all",
            validation_accuracy=(0.5, 0.7),
            split=Split(0, ("a",), ("b",), ("c",)),
        )
        return {file.name: file.read_bytes() for file in path.iterdir()}


def _change(value: object, random: Random) -> None:
    """Change a value somewhere below a JSON object or list."""
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
    elif isinstance(value, list) and value:
        key = random.randrange(len(value))
    else:
        return
    if isinstance(value[key], dict | list) and value[key] and random.random() < 0.7:
        _change(value[key], random)
    elif random.random() < 0.3:
        del value[key]
    elif random.random() < 0.1:
        value[key] = [value[key]] * random.choice((2, 1000))
    else:
        value[key] = random.choice(ODD)


def _cut(content: bytes, random: Random) -> bytes:
    """Change a few bytes, most of them near the start, or leave out an end."""
    changed = bytearray(content)
    for _ in range(random.randint(0, 4)):
        changed[random.randrange(min(len(changed), random.choice((16, 400, 10**9))))] ^= (
            random.randrange(1, 256)
        )
    return bytes(changed[: random.choice((len(changed), random.randrange(len(changed))))])
