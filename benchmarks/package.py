"""The package for a machine that has a GPU for a few minutes: small photographs and weights.

PACKAGE/photographs/CLASS/HASH.jpg    HASH begins the SHA-256 of the photograph's own file
PACKAGE/weights.pth                   the backbone's weights at the start
PACKAGE/package.json                  a description, `Package`
"""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

from PIL import Image

from eenn.cli import with_progress
from eenn.data.datasets import FolderImages
from eenn.data.splits import split_samples
from eenn.errors import EennError
from eenn.files import from_json, new_directory
from eenn.provenance import git_commit

PHOTOGRAPHS, WEIGHTS, ABOUT = "photographs", "weights.pth", "package.json"
QUALITIES = range(95, 45, -5)  # of JPEG; the first that fits is taken
HASH_LENGTH = 16
MIB = 2**20


@dataclass(frozen=True)
class Package:
    """The content of a package.

    Args:
        source: name of the folder that the photographs come from.
        per_class: the most photographs of a class.
        shorter_side: of larger photographs, in pixels; smaller ones keep their size.
        git_commit: that the package was made by; None outside a checkout.
    """

    source: str
    photographs: int
    classes: int
    per_class: int
    shorter_side: int
    jpeg_quality: int
    git_commit: str | None
    date: str

    @property
    def title(self) -> str:
        """Describe the photographs in a line."""
        return (
            f"{self.source}, {self.photographs} photographs, at most {self.per_class} a class, "
            f"shorter side at most {self.shorter_side} px, JPEG quality {self.jpeg_quality}"
        )

    @classmethod
    def read(cls, package: Path) -> "Package":
        """Read the description of a package.

        Raises:
            EennError: the file does not describe a package.
            OSError: the file cannot be read.
        """
        try:
            return from_json(cls, json.loads((package / ABOUT).read_text(encoding="utf-8")))
        except ValueError as error:
            raise EennError(
                f"{package / ABOUT} does not describe a package: {error}; pack it again"
            ) from None


def pack(
    root: Path, weights: Path, package: Path, per_class: int, shorter_side: int, limit_mib: float
) -> int:
    """Write a package at the best quality that fits, and return its size in bytes.

    Args:
        root: folder of class folders.
        limit_mib: of all files of the package together.

    Raises:
        EennError: nothing fits, photographs that cannot be split, or `package` exists already.
    """
    if min(per_class, shorter_side) < 1:
        raise EennError(f"per_class={per_class}, shorter_side={shorter_side}: allowed is 1 or more")
    with new_directory(package) as folder:
        source, start = FolderImages(root), weights.read_bytes()
        samples = chosen(source, per_class)
        for quality in QUALITIES:
            about = Package(
                source.root.resolve().name,
                len(samples),
                len(source.classes),
                per_class,
                shorter_side,
                quality,
                git_commit(),
                datetime.now().date().isoformat(),
            )
            files = {
                ABOUT: json.dumps(asdict(about), indent=1).encode(),
                WEIGHTS: start,
                **photographs(source, samples, shorter_side, quality),
            }
            size = sum(map(len, files.values()))
            if size <= limit_mib * MIB:
                break
        else:
            raise EennError(
                f"{len(samples)} photographs and weights of {len(start) / MIB:.1f} MiB take "
                f"{size / MIB:.1f} MiB even at JPEG quality {quality}; allowed are {limit_mib:g} "
                "MiB: give a smaller --per-class or --shorter-side"
            )
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return size


def chosen(source: FolderImages, per_class: int) -> list[int]:
    """Choose at most `per_class` photographs of every class, those of the least hashes.

    Of photographs with the same content one alone is chosen.

    Raises:
        EennError: a class with too few photographs for a split.
    """
    by_class = defaultdict(list)
    first = {content: sample for sample, content in enumerate(source.content_hashes)}
    for _, sample in sorted(first.items()):
        by_class[source.classes[source.labels[sample]]].append(sample)
    samples = [sample for own in by_class.values() for sample in own[:per_class]]
    # A package that cannot be split would be found out on the other machine.
    split_samples(
        [source.sample_ids[sample] for sample in samples],
        [source.classes[source.labels[sample]] for sample in samples],
        [source.content_hashes[sample] for sample in samples],
        seed=0,
    )
    return samples


def photographs(
    source: FolderImages, samples: list[int], shorter_side: int, quality: int
) -> dict[str, bytes]:
    """Encode photographs as JPEGs, by their path in a package."""
    files = {}
    for sample in with_progress(samples, f"JPEG quality {quality}", "photographs"):
        image = source.read(sample, shorter_side)
        factor = min(1, shorter_side / min(image.size))
        size = (round(image.width * factor), round(image.height * factor))
        encoded = BytesIO()
        image.resize(size, Image.Resampling.BICUBIC).save(
            encoded, "JPEG", quality=quality, optimize=True
        )
        name = f"{source.content_hashes[sample][:HASH_LENGTH]}.jpg"
        files[f"{PHOTOGRAPHS}/{source.classes[source.labels[sample]]}/{name}"] = encoded.getvalue()
    return files
