"""Bandits as of SplitEE and I-SplitEE: the rewards of arms, and the arms that are played.

Bajpai et al. (2023) and (2024), their algorithms and not their published code. An arm is a place to
split a network. Nothing needs labels: the reward is the confidence of the answer, less what
computing and sending cost.
"""

import math
from dataclasses import dataclass

import numpy as np

from eenn.exits.policies.base import Bools, Floats


def accepted(confidence: Floats, alpha: float) -> Bools:
    """Tell which images each arm answers by itself, (images, arms); the last arm answers all."""
    found = confidence >= alpha
    found[:, -1] = True
    return found


def rewards_of(confidence: Floats, alpha: float, cost: Floats, offload: Floats | float) -> Floats:
    """Compute the reward of every arm for every image, (images, arms).

    Args:
        confidence: of every exit, (images, arms).
        cost: of computing up to every arm, (arms,), in units of confidence.
        offload: of sending what an arm does not accept, in the same units.
    """
    here = confidence - cost
    sent = confidence[:, -1:] - cost - offload
    return np.where(accepted(confidence, alpha), here, sent)


@dataclass(frozen=True)
class Bandit:
    """A way to play arms: each once, and then by upper confidence bounds of their mean rewards.

    Args:
        beta: weight of what is not known about an arm.
        looks_back: whether a play tells the rewards of all earlier arms too, whose confidence was
            computed on the way.
        kept: share of all that is known which is kept from one image to the next.
        trial: images after which the arm with the best mean is played; infinite for bounds always.
        explored: share of the images after the trial for which an arm is drawn. Without any,
            nothing more is learnt.
    """

    beta: float = 1.0
    looks_back: bool = False
    kept: float = 1.0
    trial: float = math.inf
    explored: float = 0.0

    def pulls(self, rewards: Floats, seed: int = 0) -> list[int]:
        """List the arm that is played for each image.

        Args:
            rewards: of every arm for every image, (images, arms).
            seed: of the images and arms that are drawn.
        """
        images, arms = len(rewards), rewards.shape[1]
        generator = np.random.default_rng(seed)
        explores = generator.random(images) < self.explored
        drawn = generator.integers(arms, size=images)
        counts, sums = np.zeros(arms), np.zeros(arms)
        plays, pulls = 0.0, list[int]()
        for image, row in enumerate(rewards):
            tried = image >= self.trial
            if image < arms:
                arm = image
            elif tried and explores[image]:
                arm = int(drawn[image])
            else:
                bonus = 0.0 if tried else self.beta * np.sqrt(np.log(plays) / counts)
                arm = int((sums / counts + bonus).argmax())
            pulls.append(arm)
            if tried and not self.explored:
                continue
            learning = slice(0 if self.looks_back else arm, arm + 1)
            counts *= self.kept
            sums *= self.kept
            plays = self.kept * plays + 1
            counts[learning] += 1
            sums[learning] += row[learning]
        return pulls
