"""The edge: an artifact's exported stages, run until an exit accepts, and the cloud for the rest.

Exits and answers are those of `eenn.exits.decide.decide` on records of the same images. No torch.
"""

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.decide import check_active
from eenn.exits.head_sets import CLASSIFIER, PLAIN, PLAIN_HEADS, HeadChoice, How, Ints, choose
from eenn.exits.policies.base import Answer, Bools, ExitProbs, Policy
from eenn.offload.edge.clouds import Cloud, stretched_ms
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Names, Part, open_heads
from eenn.offload.protocol.errors import BadReply, OffloadError
from eenn.offload.protocol.wire import FEATURES, LOGITS
from eenn.statistics.calibration import probabilities

Floats = NDArray[np.float32]

# Of the deadline; the edge settles with its own answer in it.
RESERVE_S = 0.005


@dataclass(frozen=True)
class Result:
    """The answer for one image, and how it came about.

    Args:
        label: the answer, an index into the manifest's classes; `class_name` is its name.
        confidence: the probability that the answer was given.
        exit: at which computing stopped, counted from 0.
        answered_by: the exit whose answer is given, which is an earlier one where no exit accepted
            and the policy falls back on it.
        on_edge: it was answered without the cloud.
        failure: why the cloud, although asked, did not answer (`OffloadError.cause`), or empty.
        confidences: of every exit that was evaluated, in their order.
        stages_ms: of every stage that was run, its decision included, for the whole batch.
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


class _Stage(NamedTuple):
    """The segments up to an active branch, and its heads."""

    branch: int
    part: Part


class EdgeRuntime:
    """Classifies images on this machine, and asks the cloud where no active branch accepts.

    `failures` counts images that the cloud did not answer, by cause.

    Args:
        active: the branches to evaluate, counted from 0, ascending.
        cloud: runs the rest of the network; without one the last active branch has to answer.
        threads: of every stage; stages take turns.
        deadline_ms: until which an answer must be there, from the call on: when the cloud has none
            shortly before, the edge answers.
        slowdown: stands for a device that computes so many times slower: preprocessing, classifier
            and every stage then take so many times as long.
        experts: who answers: the plain heads, those of a kind of distortion, or those of the kind
            that the distortion classifier is sure of.

    Raises:
        EennError: a choice of branches, a policy or experts that do not fit the network; nobody to
            answer; no such precision; see `Graphs.read` and `Graphs.session`.
    """

    def __init__(
        self,
        artifact_dir: str | Path,
        policy: Policy,
        active: Sequence[int],
        cloud: Cloud | None = None,
        precision: str = "fp32",
        threads: int = 1,
        deadline_ms: float | None = None,
        slowdown: float = 1.0,
        experts: HeadChoice = PLAIN_HEADS,
    ) -> None:
        graphs = Graphs.read(artifact_dir)
        self.manifest = graphs.manifest
        self._head_sets = asked_for(self.manifest, experts)
        self.branches = len(self.manifest.exits) - 1
        self.active = check_active(active, self.branches)
        policy.check(self.branches)
        if not self.active and cloud is None:
            raise EennError("no active branch and no cloud: nobody answers; activate a branch")
        self.policy, self.cloud, self.deadline_ms = policy, cloud, deadline_ms
        self.slowdown = slowdown
        self.failures: Counter[str] = Counter()
        self._counting = Lock()
        self._preprocessing = self.manifest.preprocessing
        self._temperatures = {
            heads: self.manifest.temperatures_of(heads).per_exit for heads in self._head_sets
        }
        self._classes = self.manifest.classes
        ends = [branch + 1 for branch in self.active]
        self.split_point = ends[-1] if ends else 0
        self._stages = [
            _Stage(
                stop - 1,
                Part(
                    graphs,
                    start,
                    stop,
                    open_heads(graphs, stop, self._head_sets, threads),
                    precision,
                    threads,
                ),
            )
            for start, stop in pairwise([0, *ends])
        ]
        self._choose = _chooser(graphs, threads) if experts.asks_classifier else None

    def classify_file(self, file: str | PathLike[str] | BinaryIO) -> Result:
        """The answer for an image file.

        Raises:
            UnreadableImage: it is not one.
            OffloadError: see `classify`.
        """
        deadline = self._deadline()
        start = time.perf_counter()
        image = self._preprocessing(self._preprocessing.read(file))
        preprocess_ms = stretched_ms(start, self.slowdown)
        (result,) = self._classify(image[None], deadline)
        return replace(result, preprocess_ms=preprocess_ms)

    def classify(self, images: Floats) -> list[Result]:
        """The answers for a batch of preprocessed images, in its order.

        Images that leave are dropped from the batch; those that remain are offloaded together, one
        request for every head set.

        Args:
            images: float32 (N, 3, H, W).

        Raises:
            EennError: images of another shape or type, or that are not finite.
            OffloadError: the cloud failed, and there is no active branch to answer instead.
        """
        size = self._preprocessing.input_size
        if images.dtype != np.float32 or images.shape[1:] != (3, size, size):
            raise EennError(
                f"images of {images.dtype} {images.shape}; allowed is float32 "
                f"(N, 3, {size}, {size}), as the preprocessing gives them"
            )
        if not np.isfinite(images).all():
            raise EennError("images that are not finite; allowed is what the preprocessing gives")
        return self._classify(images, self._deadline())

    def _deadline(self) -> float | None:
        """Of the cloud, for a call that begins now."""
        if self.deadline_ms is None:
            return None
        return time.monotonic() + self.deadline_ms / 1e3 - RESERVE_S

    def _classify(self, images: Floats, deadline: float | None) -> list[Result]:
        start = time.perf_counter()
        heads = self._heads_of(images)
        classifier_ms = stretched_ms(start, self.slowdown) if self._choose else 0.0
        batch = _Batch(images, heads, classifier_ms)
        for stage in self._stages:
            if batch.is_settled:
                break
            start = time.perf_counter()
            logits, batch.features = stage.part.step(batch.features, batch.heads)
            accepted = self._look(batch, stage.branch, logits)
            batch.stages_ms.append(stretched_ms(start, self.slowdown))
            if accepted.any():
                self._settle(batch, accepted, self.policy.answer(batch.seen))
        start = time.perf_counter()
        for own in batch.by_heads():
            if self.cloud is not None:
                self._offload(own, self.cloud, deadline, start)
            if not own.is_settled:
                everyone = np.ones(len(own.left), bool)
                self._settle(own, everyone, self.policy.fallback(own.seen))
        return [batch.results[sample] for sample in range(len(images))]

    def _heads_of(self, images: Floats) -> Names:
        """The head set of every image."""
        if self._choose is None:
            return np.repeat(self._head_sets, len(images))
        return np.array(self._head_sets)[self._choose(images)]

    def _offload(self, batch: "_Batch", cloud: Cloud, deadline: float | None, start: float) -> None:
        """Ask the cloud about images with the same heads, and settle what the last exit accepts.

        Args:
            start: since when these images wait for it, of `time.perf_counter()`.
        """
        try:
            logits = cloud.infer(batch.features, self.split_point, deadline, str(batch.heads[0]))
            if logits.shape != (len(batch.left), len(self._classes)):
                raise BadReply(
                    f"the cloud gives logits of shape {logits.shape} for {len(batch.left)} images "
                    f"and {len(self._classes)} classes"
                )
        except OffloadError as error:
            with self._counting:
                self.failures[error.cause] += len(batch.left)
            if not batch.seen:
                raise
            batch.failure, batch.cloud_ms = error.cause, stretched_ms(start)
            return
        accepted = self._look(batch, self.branches, logits)
        batch.cloud_ms = stretched_ms(start)
        if accepted.any():
            self._settle(batch, accepted, self.policy.answer(batch.seen))

    def _look(self, batch: "_Batch", exit: int, logits: Floats) -> Bools:
        """Which of the samples left are accepted at an exit."""
        temperatures = [[self._temperatures[heads][exit]] for heads in batch.heads.tolist()]
        batch.seen.append(ExitProbs(exit, probabilities(logits / np.array(temperatures))))
        return self.policy.accept(batch.seen, exit == self.split_point - 1)

    def _settle(self, batch: "_Batch", who: Bools, answer: Answer) -> None:
        """Note the newest exit's answer for the samples `who` of those left, and drop them."""
        exit = batch.seen[-1].exit
        confidences = np.stack([seen.confidence for seen in batch.seen], axis=1)
        for row in np.flatnonzero(who):
            label = int(answer.label[row])
            batch.results[int(batch.left[row])] = Result(
                label=label,
                class_name=self._classes[label],
                confidence=float(answer.confidence[row]),
                exit=exit,
                answered_by=int(answer.exit[row]),
                on_edge=exit < self.branches,
                failure=batch.failure,
                confidences=tuple(confidences[row].tolist()),
                stages_ms=tuple(batch.stages_ms),
                cloud_ms=batch.cloud_ms,
                heads=str(batch.heads[row]),
                classifier_ms=batch.classifier_ms,
            )
        batch.keep(~who)


class _Batch:
    """Images on their way: those that are left, what is known of them, and results so far.

    Args:
        heads: the head set of every image.
    """

    def __init__(self, images: Floats, heads: Names, classifier_ms: float) -> None:
        self.left = np.arange(len(images))
        self.features, self.heads, self.classifier_ms = images, heads, classifier_ms
        self.seen: list[ExitProbs] = []
        self.stages_ms: list[float] = []
        self.cloud_ms, self.failure = 0.0, ""
        self.results: dict[int, Result] = {}

    @property
    def is_settled(self) -> bool:
        """Every image has its answer."""
        return not len(self.left)

    def keep(self, who: Bools) -> None:
        """Drop the other samples."""
        self.left, self.features = self.left[who], self.features[who]
        self.heads = self.heads[who]
        self.seen = [ExitProbs(seen.exit, seen.probs[who]) for seen in self.seen]

    def by_heads(self) -> Iterator["_Batch"]:
        """What is left, head set by head set; results are shared."""
        for name in sorted(set(self.heads.tolist())):
            own = copy.copy(self)
            own.keep(self.heads == name)
            yield own


def asked_for(manifest: Manifest, experts: HeadChoice) -> tuple[str, ...]:
    """List the head sets that may answer: one, or all where the classifier chooses.

    Args:
        experts: as of `EdgeRuntime`.

    Raises:
        EennError: the artifact has no such experts.
    """
    every = manifest.head_sets
    if experts.how is How.CHOSEN and manifest.experts:
        return every
    if str(experts) in every:
        return (str(experts),)
    allowed = (*every, How.CHOSEN.value) if manifest.experts else every
    raise EennError(f"experts={experts}: of {manifest.path} allowed are {', '.join(allowed)}")


def _chooser(graphs: Graphs, threads: int) -> Callable[[Floats], Ints]:
    """What gives the head set of every image, as its number, by the distortion classifier."""
    classifier = graphs.manifest.classifier
    session = graphs.session(CLASSIFIER, "fp32", threads)

    def choose_heads(images: Floats) -> Ints:
        (logits,) = session.run([LOGITS], {FEATURES: images})
        return choose(probabilities(logits, classifier.temperature), classifier.sure)

    return choose_heads
