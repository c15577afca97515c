"""Images on their way through an edge runtime, and the answers that come of them."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import PLAIN
from eenn.exits.policies.base import Bools, ExitProbs
from eenn.offload.graphs.parts import Names

Floats = NDArray[np.float32]
File = str | PathLike[str] | BinaryIO


@dataclass(frozen=True)
class Result:
    """The answer for one image, and how it came about.

    Args:
        label: the answer, an index into the manifest's classes; `class_name` is its name.
        confidence: the probability that the answer was given.
        exit: at which computing stopped, counted from 0; an upstream network's comes after all
            exits of the artifact.
        answered_by: the exit whose answer is given, which is an earlier one where no exit accepted
            and the policy falls back on it.
        on_edge: it was answered without the cloud.
        failure: why the cloud, although asked, did not answer (`OffloadError.cause`), or empty.
        exits: that were evaluated, in their order, and the `confidences` of each.
        stages_ms: of every stage that was run, its decision included, for the whole batch; the
            last one is the rest of the network where this device ran it.
        cloud_ms: from the last stage to the cloud's reply or failure; 0 if it was not asked.
        preprocess_ms: from the image's file to the network's input; 0 for arrays.
        heads: the head set that answered.
        classifier_ms: of the distortion classifier, for the whole batch; 0 if it was not asked.
    """

    label: int
    class_name: str
    confidence: float
    exit: int
    answered_by: int
    on_edge: bool
    failure: str
    exits: tuple[int, ...]
    confidences: tuple[float, ...]
    stages_ms: tuple[float, ...]
    cloud_ms: float = 0.0
    preprocess_ms: float = 0.0
    heads: str = PLAIN
    classifier_ms: float = 0.0

    @property
    def degraded(self) -> bool:
        """The edge answered in place of a cloud that failed."""
        return bool(self.failure)

    @property
    def latency_ms(self) -> float:
        """From the image to the answer."""
        return self.preprocess_ms + self.classifier_ms + sum(self.stages_ms) + self.cloud_ms


class Batch:
    """Images on their way: those that are left, what is known of them, and results so far.

    Args:
        heads: the head set of every image.
        files: the photographs, where they may be asked for.
    """

    def __init__(
        self, images: Floats, heads: Names, classifier_ms: float, files: Sequence[File]
    ) -> None:
        self.left, self._files = np.arange(len(images)), files
        self.features, self.heads, self.classifier_ms = images, heads, classifier_ms
        self.seen: list[ExitProbs] = []
        self.stages_ms: list[float] = []
        self.cloud_ms, self.failure, self.rest_on_device = 0.0, "", False
        self.results: dict[int, Result] = {}

    @property
    def is_settled(self) -> bool:
        """Every image has its answer."""
        return not len(self.left)

    def photographs(self) -> list[bytes]:
        """Read the files of the samples left.

        Raises:
            OSError: a file is gone.
        """
        return [_content(self._files[sample]) for sample in self.left.tolist()]

    def keep(self, who: Bools) -> None:
        """Drop the other samples."""
        self.left, self.features = self.left[who], self.features[who]
        self.heads = self.heads[who]
        self.seen = [ExitProbs(seen.exit, seen.probs[who]) for seen in self.seen]

    def split_by_heads(self) -> Iterator["Batch"]:
        """What is left, head set by head set; results are shared."""
        for name in sorted(set(self.heads.tolist())):
            own = copy.copy(self)
            own.keep(self.heads == name)
            yield own


def _content(file: File) -> bytes:
    if not isinstance(file, str | PathLike):
        file.seek(0)
        return file.read()
    return Path(file).read_bytes()
