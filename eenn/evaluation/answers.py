"""Answers of an evaluation: the records and temperatures behind them, and their costs."""

from dataclasses import replace
from typing import assert_never

import numpy as np

from eenn.errors import EennError
from eenn.exits.head_sets import (
    CLASSIFIER,
    PLAIN,
    PLAIN_HEADS,
    Floats,
    HeadChoice,
    HeadMode,
    choose_head_sets,
    mix_heads,
    pick_heads,
)
from eenn.planning.costs import CostModel, Costs, Link, macs, payloads
from eenn.programs import TRAIN_EXPERTS
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.records.records import ExitRecords
from eenn.records.weights import weight_bytes
from eenn.statistics.calibration import log_probabilities, probabilities


def answers(
    artifact: EvaluatedArtifact,
    split: str,
    distortion: str,
    level: float,
    experts: HeadChoice,
    temperature: str,
) -> tuple[ExitRecords, tuple[float, ...]]:
    """Fetch the logits of the heads that answer, and the temperature of every exit.

    Where images have different heads the logits are log-probabilities, calibrated with each head
    set's own temperatures, and the temperatures that are left to apply are 1.

    Args:
        temperature: as in `Temperatures.chosen`.

    Raises:
        EennError: the artifact has no such experts.
    """
    check_experts(artifact, experts, distortion)
    match experts.mode:
        case HeadMode.PLAIN:
            heads = PLAIN
        case HeadMode.ONE_KIND:
            heads = experts.kind
        case HeadMode.MATCHING:
            heads = distortion if level and distortion in artifact.heads else PLAIN
        case HeadMode.FINE_TUNED:
            tuned = artifact.fine_tuned[distortion] if level else artifact
            return answers(tuned, split, distortion, level, PLAIN_HEADS, temperature)
        case HeadMode.CHOSEN | HeadMode.MIXTURE:
            return _by_image(artifact, split, distortion, level, experts, temperature)
        case _:
            assert_never(experts.mode)
    records = artifact.records(split, distortion, level, heads)
    return records, artifact.manifest.temperatures_of(heads).chosen(temperature)


def _by_image(
    artifact: EvaluatedArtifact,
    split: str,
    distortion: str,
    level: float,
    experts: HeadChoice,
    temperature: str,
) -> tuple[ExitRecords, tuple[float, ...]]:
    """Choose or mix head sets image by image, by the distortion classifier's probabilities."""
    manifest = artifact.manifest
    by_set = [artifact.records(split, distortion, level, heads) for heads in artifact.heads]
    log_probs = [
        log_probabilities(records.logits, manifest.temperatures_of(heads).chosen(temperature))
        for heads, records in zip(artifact.heads, by_set, strict=True)
    ]
    probs = kind_probs(artifact, split, distortion, level)
    if experts.mode is HeadMode.CHOSEN:
        answered = pick_heads(log_probs, choose_head_sets(probs, manifest.classifier.sure))
    else:
        answered = mix_heads(log_probs, probs)
    plain = by_set[0]
    merged = ExitRecords(
        answered.astype(np.float32),
        plain.labels,
        plain.sample_ids,
        replace(plain.origin, heads=str(experts)),
        plain.made,
    )
    return merged, len(answered) * (1.0,)


def check_experts(artifact: EvaluatedArtifact, experts: HeadChoice, distortion: str) -> None:
    """Check that an artifact has the experts that are asked for.

    Args:
        distortion: the kind of the evaluated images.

    Raises:
        EennError: the artifact has no such experts.
    """
    allowed = [HeadChoice.named(heads) for heads in artifact.heads]
    if artifact.manifest.experts:
        allowed += map(HeadChoice, (HeadMode.CHOSEN, HeadMode.MIXTURE, HeadMode.MATCHING))
    # Fine-tuned networks are looked up on disk, so only on demand.
    if experts.mode is HeadMode.FINE_TUNED and distortion in artifact.fine_tuned:
        allowed += [experts]
    if experts not in allowed:
        raise EennError(
            f"experts={experts}: of {artifact.manifest.path}, for {distortion}, allowed are "
            f"{', '.join(map(str, allowed))}; {TRAIN_EXPERTS} trains experts and fine-tuned "
            "networks for the kinds in recipe.levels"
        )


def kind_probs(artifact: EvaluatedArtifact, split: str, distortion: str, level: float) -> Floats:
    """Calibrate the distortion classifier's probabilities, (samples, 1 + kinds)."""
    classifier = artifact.manifest.classifier
    (logits,) = artifact.records(split, distortion, level, CLASSIFIER).logits
    return probabilities(logits, classifier.temperature)


def costs(artifact: EvaluatedArtifact, link: Link, experts: HeadChoice) -> CostModel:
    """Model the costs of answers; a classifier that is asked comes first on the edge.

    A mixture runs the heads of all sets.
    """
    manifest, profile = artifact.manifest, artifact.profile
    own_macs, own_ms = macs(manifest.exits), profile.median
    sizes = payloads(manifest.exits, manifest.preprocessing.input_size)
    if experts.asks_classifier:
        own_macs = replace(own_macs, first=float(manifest.classifier.macs))
        own_ms = replace(own_ms, first=profile.classifier["p50"])
    if experts.mode is HeadMode.MIXTURE:
        own_macs, own_ms = (
            replace(each, heads=tuple(len(artifact.heads) * head for head in each.heads))
            for each in (own_macs, own_ms)
        )
    return CostModel(own_macs, own_ms, own_ms, sizes, link, kept(artifact, experts))


def kept(artifact: EvaluatedArtifact, experts: HeadChoice) -> Costs:
    """Sum up the bytes of the weights that an edge keeps, with all head sets that may answer."""
    own = weight_bytes(artifact.manifest)
    if experts.asks_classifier or experts.mode is HeadMode.MIXTURE:
        own = replace(own, heads=tuple(len(artifact.heads) * head for head in own.heads))
    return own
