"""The train / validation / test split: stratified, disjoint by content, saved and hashed."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eenn.errors import EennError
from eenn.files import from_json

SPLIT_NAMES = ("train", "val", "test")
VAL_SHARE = TEST_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Sample ids of each part, sorted, and the seed that drew them."""

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


def split_samples(
    sample_ids: Sequence[str],
    class_names: Sequence[str],
    content_hashes: Sequence[str],
    seed: int,
) -> Split:
    """Split samples so that every class is in every part and no content is in two.

    Samples with equal `content_hashes` form a group that goes whole into one part, also when they
    carry different class names; such a group is stratified under the class of its first sample.

    Args:
        class_names: class of each sample.

    Raises:
        EennError: a class with fewer than three distinct images.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    groups_of_class: dict[str, list[str]] = {name: [] for name in sorted(set(class_names))}
    for sample_id, name, content in sorted(
        zip(sample_ids, class_names, content_hashes, strict=True)
    ):
        if content not in groups:
            groups_of_class[name].append(content)
        groups[content].append(sample_id)

    few = {name: len(contents) for name, contents in groups_of_class.items() if len(contents) < 3}
    if few:
        listed = ", ".join(f"{name} ({count})" for name, count in few.items())
        raise EennError(
            f"classes with fewer than 3 distinct images: {listed}; each class needs at least one "
            "for training, validation and test: add images or remove the folder"
        )

    generator = np.random.default_rng(seed)
    parts: dict[str, list[str]] = {name: [] for name in SPLIT_NAMES}
    for contents in groups_of_class.values():
        order = [contents[i] for i in generator.permutation(len(contents))]
        n_test = max(1, round(TEST_SHARE * len(order)))
        n_val = max(1, round(VAL_SHARE * len(order)))
        ends = {"test": order[:n_test], "val": order[n_test:][:n_val]}
        ends["train"] = order[n_test + n_val :]
        for part, chosen in ends.items():
            parts[part] += [sample_id for content in chosen for sample_id in groups[content]]
    return Split(seed, *(tuple(sorted(parts[name])) for name in SPLIT_NAMES))
