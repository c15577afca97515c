"""The edge runtime: an artifact's exported stages, run until an exit accepts, then the rest.

Exits and answers equal those of `eenn.exits.decide.decide` on records of the same images. No torch.
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from eenn.errors import EennError
from eenn.exits.decide import check_active
from eenn.exits.head_sets import PLAIN_HEADS, HeadChoice
from eenn.exits.policies.base import Bools, ExitProbs, Policy
from eenn.offload.edge.batch import Batch, File, Result, Watcher, check_images, check_logits
from eenn.offload.edge.clouds import Cloud, Rest, slowed_ms
from eenn.offload.edge.deadlines import deadline_from_now, given_up, turn_in_time
from eenn.offload.edge.experts import head_sets_for, open_head_chooser
from eenn.offload.edge.stages import open_further, open_stages
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Names
from eenn.offload.graphs.pieces import cut_of
from eenn.offload.protocol.errors import OffloadError
from eenn.statistics.calibration import probabilities

Floats = NDArray[np.float32]


class EdgeRuntime:
    """Classifies images on this device, and asks the rest where no active branch accepts.

    Thread-safe: computing takes turns, and while one thread waits for the cloud, another may
    compute. `failures` counts images that the cloud did not answer, by cause. Where `watcher` is
    set, images of a batch are answered one by one, by the policies that it gives.

    Args:
        active: the branches to evaluate, counted from 0, ascending; with an upstream network the
            artifact's last exit may be among them.
        rest: answers images that no active branch accepts; a `Cloud` is asked with features.
            Without a rest the last active branch answers.
        threads: threads of every stage; stages take turns.
        deadline_ms: time limit for an answer, from the image's turn on this device on: if the
            cloud has not answered shortly before, the edge answers.
        slowdown: emulates a device that computes this many times slower: preprocessing, distortion
            classifier and every stage take this many times as long.
        experts: the head set that answers: the plain heads, those of a kind of distortion, or those
            of the kind that the distortion classifier is sure of.
        temperature: see `Temperatures.chosen`.

    Raises:
        EennError: branches, policy, rest or experts do not fit the network; there is neither a
            branch nor a rest to answer; the precision does not exist; see also `Graphs.read` and
            `Graphs.session`.
    """

    def __init__(
        self,
        artifact_dir: str | Path,
        policy: Policy,
        active: Sequence[int],
        rest: Rest | Cloud | None = None,
        precision: str = "fp32",
        threads: int = 1,
        deadline_ms: float | None = None,
        slowdown: float = 1.0,
        experts: HeadChoice = PLAIN_HEADS,
        temperature: str = "per_exit",
    ) -> None:
        graphs = Graphs.read(artifact_dir)
        self.manifest = graphs.manifest
        self._head_sets = head_sets_for(self.manifest, experts)
        self.rest = rest if isinstance(rest, Rest) else Rest(rest)
        self.branches = len(self.manifest.exits) - 1
        if self.rest.temperature is not None:
            self.branches += 1
        self.active = check_active(active, self.branches)
        policy.check(self.branches)
        if not self.active and self.rest.is_nobody:
            raise EennError(
                "no active branch and no cloud, so no exit answers; activate a branch or name a "
                "cloud"
            )
        self.policy, self.deadline_ms = policy, deadline_ms
        self.slowdown = slowdown
        self.watcher: Watcher | None = None
        self.failures: Counter[str] = Counter()
        self._computing, self._counting = Lock(), Lock()
        self._preprocessing = self.manifest.preprocessing
        self._temperatures = {
            heads: self.manifest.temperatures_of(heads).chosen(temperature)
            for heads in self._head_sets
        }
        self._classes = self.manifest.classes
        self.cut = cut_of(self.manifest, self.active, self.rest.cut)
        self._stages = open_stages(graphs, self.active, self._head_sets, precision, threads)
        self._further = open_further(graphs, self.active, self.cut, precision, threads)
        self._choose = open_head_chooser(graphs, threads) if experts.asks_classifier else None
        # Behind the artifact's last exit a standby has nothing to compute.
        is_over = len(self.manifest.exits) - 1 in self.active
        self._standby = None if is_over else self.rest.standby
        if self._standby is not None:
            self._standby.expected_s(self.cut)  # measured while nothing else computes

    def classify_file(self, file: File) -> Result:
        """Classify an image file.

        Raises:
            UnreadableImage: the file is not an image that can be read.
            OffloadError, OSError: see `classify`.
        """
        (result,) = self.finish(self.begin(file))
        return result

    def begin(self, file: File) -> Batch:
        """Compute an image file's part on this device, once it has its turn.

        Returns:
            A batch of the image, for `finish`.

        Raises:
            UnreadableImage: see `classify_file`.
        """
        with self._computing:
            deadline = deadline_from_now(self.deadline_ms)
            start = time.perf_counter()
            if self._sees_nothing:
                size = self._preprocessing.input_size
                image = np.zeros((3, size, size), np.float32)
            else:
                image = self._preprocessing(self._preprocessing.read(file))
            preprocess_ms = slowed_ms(start, self.slowdown)
            return self._begun(image[None], [file], deadline, preprocess_ms)

    def classify(self, images: Floats, files: Sequence[File] = ()) -> list[Result]:
        """Classify a batch of preprocessed images; return results in the order of the images.

        Images that leave are dropped from the batch; the remaining ones are offloaded together, in
        one request for every head set.

        Args:
            images: float32 (N, 3, H, W).
            files: files of the photographs, for a rest that needs them.

        Raises:
            EennError: the images have another shape or type or are not finite, or the rest needs
                files and there are none.
            OSError: a photograph's file cannot be read again.
            OffloadError: the cloud failed, and no active branch can answer instead.
        """
        check_images(images, self._preprocessing.input_size)
        if self.rest.photographs and len(files) != len(images):
            raise EennError(
                f"{len(files)} files for {len(images)} images; the rest needs photographs, so give "
                "every image's file"
            )
        together = max(len(images), 1) if self.watcher is None else 1
        results = list[Result]()
        for at in range(0, len(images), together):
            own = slice(at, at + together)
            with self._computing:
                batch = self._begun(images[own], files[own], deadline_from_now(self.deadline_ms))
            results += self.finish(batch)
        return results

    @property
    def _sees_nothing(self) -> bool:
        """Tell whether nothing is computed here, because the photograph itself is passed on."""
        if self._stages or self._choose or self.rest.standby is not None:
            return False
        return self.rest.photographs is not None

    def ahead(self, features: Floats, branch: int, heads: Names) -> Floats:
        """Compute the features at the cut of images that left at an earlier branch.

        Args:
            features: those behind `branch`, (N, C, H, W).
            heads: the head set of every image.
        """
        for stage in self._stages:
            if stage.branch > branch:
                _, features = stage.part.step(features, heads)
        return features if self._further is None else self._further.features(features)

    def _begun(
        self,
        images: Floats,
        files: Sequence[File],
        deadline: float | None,
        preprocess_ms: float = 0.0,
    ) -> Batch:
        """Compute what this device computes before the cloud is asked."""
        watch = None if self.watcher is None else self.watcher.begin()
        start = time.perf_counter()
        heads = self._heads_of(images)
        classifier_ms = slowed_ms(start, self.slowdown) if self._choose else 0.0
        policy = self.policy if watch is None else watch.policy
        batch = Batch(images, heads, classifier_ms, files, preprocess_ms, policy, watch, deadline)
        for stage in self._stages:
            if batch.is_settled:
                break
            start = time.perf_counter()
            logits, batch.features = stage.part.step(batch.features, batch.heads)
            accepted = self._look(batch, stage.branch, logits)
            batch.stages_ms.append(slowed_ms(start, self.slowdown))
            if accepted.any():
                batch.settle(
                    accepted, batch.policy.answer(batch.seen), self._classes, self.branches
                )
        if self._further is not None and self.rest.features is not None and not batch.is_settled:
            start = time.perf_counter()
            batch.features = self._further.features(batch.features)
            batch.stages_ms.append(slowed_ms(start, self.slowdown))
        if self.rest.on_device:
            self.finish(batch)
        return batch

    def finish(self, batch: Batch) -> list[Result]:
        """Ask the rest about begun images without an answer; return all results in order.

        Other images may be begun meanwhile.

        Raises:
            OffloadError, OSError: see `classify`.
        """
        start = time.perf_counter()
        for own in batch.split_by_heads():
            if not self.rest.is_nobody:
                self._pass_on(own, self.rest, start)
            if not own.is_settled:
                everyone = np.ones(len(own.left), bool)
                own.settle(everyone, own.policy.fallback(own.seen), self._classes, self.branches)
        batch.keep(np.zeros(len(batch.left), bool))
        return [batch.results[sample] for sample in range(len(batch.images))]

    def _heads_of(self, images: Floats) -> Names:
        """Choose the head set of every image."""
        if self._choose is None:
            return np.repeat(self._head_sets, len(images))
        return np.array(self._head_sets)[self._choose(images)]

    def _pass_on(self, batch: Batch, rest: Rest, start: float) -> None:
        """Ask the rest about images with the same head set, and settle those that its exit accepts.

        Args:
            start: seconds of `time.perf_counter()` since which the images wait for the rest.
        """
        standby, standby_s = self._standby, 0.0
        if standby is not None:
            standby_s = len(batch.left) * standby.expected_s(self.cut)
        exit = self.branches
        try:
            with nullcontext() if batch.watch is None else batch.watch.asking():
                logits = self._asked(batch, rest, given_up(batch.deadline, standby_s))
            batch.rest_on_device = rest.on_device
        except OffloadError as error:
            with self._counting:
                self.failures[error.cause] += len(batch.left)
            batch.failure, batch.cloud_ms = error.cause, slowed_ms(start)
            turn = turn_in_time(self._computing, batch.deadline, standby_s)
            with nullcontext(False) if standby is None else turn as has_turn:
                if standby is None or not has_turn:
                    if not batch.seen:
                        raise
                    return
                start, batch.rest_on_device = time.perf_counter(), True
                exit = len(self.manifest.exits) - 1
                heads = str(batch.heads[0])
                logits = standby.infer(batch.features, self.cut, None, heads)
        accepted = self._look(batch, exit, logits)
        if batch.rest_on_device:
            batch.stages_ms = [*batch.stages_ms, slowed_ms(start)]
        else:
            batch.cloud_ms = slowed_ms(start)
        if accepted.any():
            batch.settle(accepted, batch.policy.answer(batch.seen), self._classes, self.branches)

    def _asked(self, batch: Batch, rest: Rest, deadline: float | None) -> Floats:
        """Get raw logits of the remaining images from the rest.

        Raises:
            OffloadError: the cloud did not answer; the message says why.
        """
        if rest.photographs is not None:
            logits = rest.photographs.infer_files(batch.photographs(), deadline)
        else:
            assert rest.features is not None
            heads = str(batch.heads[0])
            logits = rest.features.infer(batch.features, self.cut, deadline, heads)
        return check_logits(logits, len(batch.left), len(self._classes))

    def _look(self, batch: Batch, exit: int, logits: Floats) -> Bools:
        """Note an exit's probabilities, and find the remaining samples that the exit accepts."""
        temperatures = [[self._temperature(heads, exit)] for heads in batch.heads.tolist()]
        batch.seen.append(ExitProbs(exit, probabilities(logits / np.array(temperatures))))
        return batch.policy.accept(batch.seen, exit in (*self.active[-1:], self.branches))

    def _temperature(self, heads: str, exit: int) -> float:
        if exit == self.branches and self.rest.temperature is not None:
            return self.rest.temperature
        return self._temperatures[heads][exit]
