"""Batches of images in an edge runtime, and the results for each image."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN
from eenn.exits.policies.base import Answer, Bools, ExitProbs, Policy
from eenn.files import JsonObject
from eenn.offload.graphs.parts import Names
from eenn.offload.protocol.errors import BadReply

Floats = NDArray[np.float32]
File = str | PathLike[str] | BinaryIO


@dataclass(frozen=True)
class Result:
    """The result for one image: the answer, the exit, and the times.

    Args:
        label: the answer, an index into the manifest's classes; `class_name` is its name.
        confidence: the probability of the answer.
        exit: the exit at which computing stopped, counted from 0; that of an upstream network comes
            after all exits of the artifact.
        answered_by: the exit that gave the answer; an earlier exit than `exit` where none accepted
            and the policy falls back on an earlier one.
        on_edge: whether the image was answered without the cloud.
        failure: the cause if the cloud was asked and did not answer (`OffloadError.cause`), else
            empty.
        exits: the evaluated exits, in their order; `confidences` has the confidence of each.
        stages_ms: time of every stage with its decision, for the whole batch; the last one is the
            rest of the network where this device ran it.
        cloud_ms: from the last stage to the cloud's reply or failure; 0 if the cloud was not asked.
        preprocess_ms: from the image's file to the network's input; 0 for arrays.
        heads: the head set that answered.
        classifier_ms: time of the distortion classifier, for the whole batch; 0 if it did not run.
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
        """Tell whether the edge answered in place of a cloud that failed."""
        return bool(self.failure)

    @property
    def latency_ms(self) -> float:
        """Sum the milliseconds from the image to the answer, without waits for other images."""
        return self.preprocess_ms + self.classifier_ms + sum(self.stages_ms) + self.cloud_ms


class Watch(Protocol):
    """The protocol of who watches one image on its way."""

    @property
    def policy(self) -> Policy:
        """Return the policy that decides when the image leaves."""
        ...

    def asking(self) -> AbstractContextManager[None]:
        """Return a context in which the cloud is asked about the image."""
        ...

    def answered(self, batch: "Batch") -> None:
        """Take note of the image's answer; the batch still has all that was seen of the image."""
        ...


class Watcher(Protocol):
    """The protocol of who watches every image; thread-safe."""

    def begin(self) -> Watch:
        """Begin to watch the next image, before anything of it is seen."""
        ...

    def retire(self) -> None:
        """Write nothing any more, because another watcher goes on from what was written."""
        ...

    def status(self) -> JsonObject | None:
        """Describe the guard, as of `eenn.offload.adaptation.status`; None without one."""
        ...

    def save(self) -> None:
        """Write what a guard has learnt so far to its file."""
        ...


class Batch:
    """A batch of images: those still unanswered, their features, and the results so far.

    `images` are all of them, as they were given.

    Args:
        heads: the head set of every image.
        files: files of the photographs, where the rest or the watch may need them.
        preprocess_ms: from the images' files to the images.
        policy: decides when an image leaves.
        watch: is told of the image's answer, for a batch of one image; None where nobody watches.
        deadline: of the cloud, seconds of `time.monotonic()`; None for no deadline.
    """

    def __init__(
        self,
        images: Floats,
        heads: Names,
        classifier_ms: float,
        files: Sequence[File],
        preprocess_ms: float,
        policy: Policy,
        watch: Watch | None,
        deadline: float | None,
    ) -> None:
        self.left, self._files = np.arange(len(images)), files
        self.images, self.deadline = images, deadline
        self.preprocess_ms, self.policy, self.watch = preprocess_ms, policy, watch
        self.features, self.heads, self.classifier_ms = images, heads, classifier_ms
        self.seen: list[ExitProbs] = []
        self.stages_ms: list[float] = []
        self.cloud_ms, self.failure, self.rest_on_device = 0.0, "", False
        self.results: dict[int, Result] = {}

    @property
    def is_settled(self) -> bool:
        """Tell whether every image has an answer."""
        return not len(self.left)

    def photographs(self) -> list[bytes]:
        """Read the files of the remaining samples.

        Raises:
            OSError: a file cannot be read.
        """
        return [_content(self._files[sample]) for sample in self.left.tolist()]

    def settle(self, who: Bools, answer: Answer, classes: Sequence[str], cloud_exit: int) -> None:
        """Store the latest exit's answer for the samples that `who` marks, and drop them.

        Args:
            classes: names of the classes.
            cloud_exit: the exit that the cloud has.
        """
        exit = self.seen[-1].exit
        confidences = np.stack([seen.confidence for seen in self.seen], axis=1)
        for row in np.flatnonzero(who):
            label = int(answer.label[row])
            self.results[int(self.left[row])] = Result(
                label=label,
                class_name=classes[label],
                confidence=float(answer.confidence[row]),
                exit=exit,
                answered_by=int(answer.exit[row]),
                on_edge=self.rest_on_device or exit < cloud_exit,
                failure=self.failure,
                exits=tuple(seen.exit for seen in self.seen),
                confidences=tuple(confidences[row].tolist()),
                stages_ms=tuple(self.stages_ms),
                cloud_ms=self.cloud_ms,
                heads=str(self.heads[row]),
                preprocess_ms=self.preprocess_ms,
                classifier_ms=self.classifier_ms,
            )
        if self.watch is not None:
            self.watch.answered(self)
        self.keep(~who)

    def keep(self, who: Bools) -> None:
        """Keep the remaining samples that `who` marks, bool (left,), and drop the others."""
        self.left, self.features = self.left[who], self.features[who]
        self.heads = self.heads[who]
        self.seen = [ExitProbs(seen.exit, seen.probs[who]) for seen in self.seen]

    def split_by_heads(self) -> Iterator["Batch"]:
        """Split the remaining samples by head set; the parts share the results."""
        for name in sorted(set(self.heads.tolist())):
            own = copy.copy(self)
            own.keep(self.heads == name)
            yield own


def check_images(images: Floats, size: int) -> None:
    """Check images as an input of the network.

    Args:
        size: side of the network's input, in pixels.

    Raises:
        EennError: the images have another shape or type or are not finite.
    """
    if images.dtype != np.float32 or images.shape[1:] != (3, size, size):
        raise EennError(
            f"images of {images.dtype} {images.shape}; allowed is float32 "
            f"(N, 3, {size}, {size}), as the preprocessing gives them"
        )
    if not np.isfinite(images).all():
        raise EennError(
            "images that are not finite; allowed are images as the preprocessing gives them"
        )


def check_logits(logits: Floats, images: int, classes: int) -> Floats:
    """Check logits of the rest; return them, (images, classes).

    Raises:
        BadReply: the logits have another shape.
    """
    if logits.shape != (images, classes):
        raise BadReply(
            f"the cloud sent logits of shape {logits.shape} for {images} images and {classes} "
            "classes"
        )
    return logits


def _content(file: File) -> bytes:
    if not isinstance(file, str | PathLike):
        file.seek(0)
        return file.read()
    return Path(file).read_bytes()
