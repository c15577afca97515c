"""The train / validation / test split: drawn or given, saved and hashed.

What is drawn is stratified by class and disjoint by content.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eenn.errors import EennError
from eenn.files import from_json

SPLIT_NAMES = ("train", "val", "test")
VAL_SHARE = TEST_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Sample ids of each part, sorted, and the seed that drew those that were not given."""

    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Count the samples in each part."""
        return {name: len(getattr(self, name)) for name in SPLIT_NAMES}

    @property
    def hash(self) -> str:
        """Compute the split's identity, the SHA-256 over all parts."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Write the split as JSON text, the same for the same split."""
        return json.dumps(asdict(self), indent=0)

    @classmethod
    def load(cls, path: Path) -> "Split":
        """Read a split that was written from `to_json`.

        Raises:
            EennError: the file is not a whole split.
        """
        try:
            return cls.from_json(path.read_bytes())
        except EennError as error:
            raise EennError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> "Split":
        """Read the split that `to_json` wrote as `text`.

        Raises:
            EennError: the text is not a whole split.
        """
        try:
            return from_json(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise EennError("this is not a whole split; copy the artifact again") from error


class _Sample(NamedTuple):
    sample_id: str
    class_name: str
    content: str
    part: str | None


def split_samples(
    sample_ids: Sequence[str],
    class_names: Sequence[str],
    content_hashes: Sequence[str],
    seed: int,
    parts: Sequence[str] | None = None,
) -> Split:
    """Split samples so that every class is in every part and no content is in two.

    Samples with equal `content_hashes` form a group that goes whole into one part, also when they
    carry different class names; such a group is stratified under the class of its first sample.

    Args:
        class_names: class of each sample.
        parts: given part of each sample, which it stays in; without a sample in `val`, that part
            is drawn from `train`. None draws all parts.

    Raises:
        EennError: a class with too few distinct images to draw from; of given parts, no images to
            train or to test on, or a class without images to train on.
    """
    own = [None] * len(sample_ids) if parts is None else parts
    rows = zip(sample_ids, class_names, content_hashes, own, strict=True)
    samples = sorted(_Sample(*row) for row in rows)
    if parts is None:
        drawn = _draw(samples, seed, {"test": TEST_SHARE, "val": VAL_SHARE})
    else:
        given = {name: [one for one in samples if one.part == name] for name in SPLIT_NAMES}
        _require_trained_classes(given)
        drawn = {name: [one.sample_id for one in own] for name, own in given.items()}
        if not drawn["val"]:
            drawn |= _draw(given["train"], seed, {"val": VAL_SHARE})
    return Split(seed, *(tuple(sorted(drawn[name])) for name in SPLIT_NAMES))


def _draw(
    samples: Sequence[_Sample], seed: int, shares: Mapping[str, float]
) -> dict[str, list[str]]:
    """Draw a share of every class for each of some parts; the rest is `train`."""
    groups: dict[str, list[str]] = defaultdict(list)
    names = sorted({one.class_name for one in samples})
    groups_of_class: dict[str, list[str]] = {name: [] for name in names}
    for sample_id, name, content, _ in samples:
        if content not in groups:
            groups_of_class[name].append(content)
        groups[content].append(sample_id)

    least = len(shares) + 1
    few = {name: len(own) for name, own in groups_of_class.items() if len(own) < least}
    if few:
        listed = ", ".join(f"{name} ({count})" for name, count in few.items())
        needed, otherwise = (
            ("training, validation and test", "remove the folder")
            if "test" in shares
            else ("training and validation", "give validation images")
        )
        raise EennError(
            f"classes with fewer than {least} distinct images: {listed}; each class needs at least "
            f"one for {needed}: add images or {otherwise}"
        )

    generator = np.random.default_rng(seed)
    parts: dict[str, list[str]] = {name: [] for name in (*shares, "train")}
    for contents in groups_of_class.values():
        rest = [contents[i] for i in generator.permutation(len(contents))]
        for part, share in shares.items():
            count = max(1, round(share * len(contents)))
            chosen, rest = rest[:count], rest[count:]
            parts[part] += [sample_id for content in chosen for sample_id in groups[content]]
        parts["train"] += [sample_id for content in rest for sample_id in groups[content]]
    return parts


def _require_trained_classes(given: Mapping[str, Sequence[_Sample]]) -> None:
    for part in ("train", "test"):
        if not given[part]:
            raise EennError(f"the images have parts, and no readable image in {part}: add some")
    trained = {one.class_name for one in given["train"]}
    others = {one.class_name for own in given.values() for one in own} - trained
    if others:
        raise EennError(
            f"classes without training images: {', '.join(sorted(others))}; add images of them to "
            "the training part, or remove their folders from the others"
        )
