"""Experts over kinds and levels of distortions: their points, and the classifier's choices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eenn.evaluation.answers import kind_probs
from eenn.evaluation.rows import Point
from eenn.exits.head_sets import HeadChoice, HeadMode, choose_head_sets
from eenn.exits.settings import Baseline
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.statistics.intervals import Estimate, share


@dataclass(frozen=True)
class ExpertPoint:
    """A point under one distortion, answered by some heads.

    Args:
        last_exit_accuracy: of the last exit alone, by the same heads.
    """

    distortion: str
    experts: HeadChoice
    point: Point
    last_exit_accuracy: Estimate


@dataclass(frozen=True)
class Confusion:
    """The head sets that the distortion classifier chooses for the images of one kind and level.

    Args:
        chosen: the share of images that each head set is chosen for.
        recognised: the share that goes to the heads made for it: at level 0, and of a kind without
            an expert, the plain ones.
        unsure: the share for which no kind is probable enough.
    """

    network: str
    distortion: str
    level: float
    n: int
    chosen: Mapping[str, Estimate]
    recognised: Estimate
    unsure: Estimate


def with_last_exit(
    distortion: str, experts: HeadChoice, points: Sequence[Point]
) -> Iterator[ExpertPoint]:
    """Yield the policies with all branches active, each beside the last exit alone."""
    alone = {
        (row.network, row.level): row.accuracy
        for row in points
        if row.setting.baseline is Baseline.LAST_EXIT_ONLY
    }
    for row in points:
        if row.setting.baseline is None and row.most_active:
            yield ExpertPoint(distortion, experts, row, alone[row.network, row.level])


def confusion(
    network: str, artifact: EvaluatedArtifact, split: str, kind: str, levels: Sequence[float]
) -> list[Confusion]:
    """Measure the classifier's choices for one kind of distortion, a row per level."""
    rows = []
    classifier = artifact.manifest.classifier
    for level in levels:
        probs = kind_probs(artifact, split, kind, level)
        chosen, n = choose_head_sets(probs, classifier.sure), len(probs)
        right = artifact.heads.index(kind) if level and kind in artifact.heads else 0
        rows.append(
            Confusion(
                network=network,
                distortion=kind,
                level=float(level),
                n=n,
                chosen={
                    heads: share(int((chosen == number).sum()), n)
                    for number, heads in enumerate(artifact.heads)
                },
                recognised=share(int((chosen == right).sum()), n),
                unsure=share(int((probs.max(-1) < classifier.sure).sum()), n),
            )
        )
    return rows


def with_experts(
    named: Sequence[tuple[str, EvaluatedArtifact]], experts: HeadChoice, kind: str
) -> Sequence[tuple[str, EvaluatedArtifact]]:
    """Select the artifacts that such experts add something to.

    Not all artifacts were fine-tuned for every kind, and for a kind without experts in any artifact
    the plain heads match.
    """
    if experts.mode is HeadMode.FINE_TUNED:
        return [(network, artifact) for network, artifact in named if kind in artifact.fine_tuned]
    if experts.mode is HeadMode.MATCHING and not any(
        kind in artifact.heads for _, artifact in named
    ):
        return []
    return named
