"""Runs of bandits and of choices that stay over a stream whose images turn noisy."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.bandits.arms import Bandit
from benchmarks.bandits.recorded import Answers, Images, Ways
from eenn.exits.policies.base import Ints

SEEDS = 5
IMAGES = 3000  # of each part of the stream
TRIAL, EXPLORED, KEPT = 500, 0.02, 0.99
ALPHAS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
# An arm is found where it answers more than half of so many newest images, and soon by then.
NEWEST, SOON = 100, 500

EXPLORING = f", {100 * EXPLORED:g} % explored"
VARIANTS = {
    "": Bandit(),
    f", {KEPT:g} kept": Bandit(kept=KEPT),
    f", frozen after {TRIAL}": Bandit(trial=TRIAL),
    EXPLORING: Bandit(trial=TRIAL, explored=EXPLORED),
    f"{EXPLORING}, {KEPT:g} kept": Bandit(trial=TRIAL, explored=EXPLORED, kept=KEPT),
}
BANDITS = {
    f"{name}{words}": replace(variant, looks_back=looks_back)
    for name, looks_back in (("SplitEE", False), ("I-SplitEE", True))
    for words, variant in VARIANTS.items()
}


@dataclass(frozen=True)
class PartRow:
    """The outcome of a rule in one part of the stream, a mean over the seeds.

    Args:
        reward: of an image.
        regret: reward lost to the part's best arm, as a share of what its worst arm loses;
            `largest_regret` is that of the worst seed. Means of all recorded images count for the
            arms that were played, not the rewards that were drawn. Sending every photograph is not
            an arm, so that may be better than the best one, or worse than the worst.
        accuracy, sent: shares of images.
        best: the best arm, counted from 1.
        found: images of the part until its best arm is found, the median of the seeds; infinite if
            it is not.
        seeds_found: seeds in which it is found within SOON images.
    """

    rule: str
    part: str
    reward: float
    regret: float
    largest_regret: float
    accuracy: float
    latency_ms: float
    sent: float
    best: int
    found: float
    seeds_found: int


@dataclass(frozen=True)
class Stream:
    """A part of the stream for each kind of image, drawn with replacement.

    Args:
        alpha: the confidence that a branch accepts.
        fixed: the arm that is best on validation images.
    """

    ways: Ways
    parts: Mapping[str, Images]
    alpha: float
    fixed: int

    @classmethod
    def fitted(cls, ways: Ways, validation: Images, parts: Mapping[str, Images]) -> "Stream":
        """Fit the threshold of the best branch, and then the arm, to clean validation images."""
        means = np.array(
            [ways.answers(validation, alpha).reward[:, :-1].mean(axis=0) for alpha in ALPHAS]
        )
        at = int(means[:, :-1].max(axis=1).argmax())
        return cls(ways, parts, ALPHAS[at], int(means[at].argmax()))

    def rows(self) -> Iterator[tuple[PartRow, ...]]:
        """Yield the outcomes of every rule, one for each part."""
        plain, looking_back = (self._answers(looks_back) for looks_back in (False, True))
        arms = len(self.ways.parts.costs.segments)
        always = {"static": self.fixed, "all on the device": arms - 1, "all in the cloud": arms}
        for name, arm in always.items():
            pulls = [np.full((len(self.parts), IMAGES), arm)] * SEEDS
            yield self._judged(name, plain, pulls)
        for name, bandit in BANDITS.items():
            answers = looking_back if bandit.looks_back else plain
            yield self._judged(name, answers, self._pulls(bandit, answers))

    def _answers(self, looks_back: bool) -> list[Answers]:
        return [self.ways.answers(own, self.alpha, looks_back) for own in self.parts.values()]

    def _pulls(self, bandit: Bandit, answers: Sequence[Answers]) -> list[Ints]:
        """Let a bandit meet the stream; gives the arms, (parts, images), for every seed."""
        found = []
        for seed, images in enumerate(self._drawn()):
            rewards = [own.reward[at, :-1] for own, at in zip(answers, images, strict=True)]
            pulls = bandit.pulls(np.concatenate(rewards), seed)
            found.append(np.array(pulls).reshape(images.shape))
        return found

    def _drawn(self) -> Iterator[Ints]:
        """Draw the images of the stream, (parts, images), for every seed."""
        counts = [len(own.confidence) for own in self.parts.values()]
        for seed in range(SEEDS):
            generator = np.random.default_rng(seed)
            yield np.array([generator.integers(count, size=IMAGES) for count in counts])

    def _judged(
        self, name: str, answers: Sequence[Answers], pulls: Sequence[Ints]
    ) -> tuple[PartRow, ...]:
        """Compute the outcome of every part.

        Args:
            pulls: the columns of the answers, (parts, images), for every seed.
        """
        images = zip(*self._drawn(), strict=True)
        played = zip(*pulls, strict=True)
        parts = zip(self.parts, answers, images, played, strict=True)
        return tuple(_row(name, *part) for part in parts)


def _row(
    name: str, part: str, own: Answers, images: Sequence[Ints], played: Sequence[Ints]
) -> PartRow:
    """Compute the outcome of a part from its images and the columns played, for every seed."""
    means = own.reward.mean(axis=0)
    arms = means[:-1]
    best, spread = int(arms.argmax()), float(arms.max() - arms.min())
    regrets = [float((arms[best] - means[columns]).mean()) / spread for columns in played]
    found = [found_after(columns, best) for columns in played]
    met = np.concatenate(images), np.concatenate(played)
    return PartRow(
        rule=name,
        part=part,
        reward=float(own.reward[met].mean()),
        regret=float(np.mean(regrets)),
        largest_regret=max(regrets),
        accuracy=float(own.correct[met].mean()),
        latency_ms=float(own.latency_ms[met].mean()),
        sent=float(own.sent[met].mean()),
        best=best + 1,
        found=float(np.median(found)),
        seeds_found=sum(images <= SOON for images in found),
    )


def found_after(pulls: Ints, best: int) -> float:
    """Count the images until an arm answers more than half of the NEWEST; infinite if it never
    does."""
    newest = np.convolve(pulls == best, np.ones(NEWEST))[: len(pulls)]
    enough = np.flatnonzero(newest > NEWEST / 2)
    return float(enough[0]) + 1 if len(enough) else math.inf
