"""Whose heads answer in an evaluation: the records of their answers, and what they cost."""

from dataclasses import replace

import numpy as np

from eenn.errors import TRAIN_EXPERTS, EennError
from eenn.exits.head_sets import (
    AUTO,
    CLASSIFIER,
    FINE_TUNED,
    MATCHING,
    PLAIN,
    SOFT,
    Floats,
    choose,
    mixed,
    picked,
)
from eenn.planning.costs import CostModel, Link, macs, payloads
from eenn.records.evaluated_artifact import Subject
from eenn.records.records import ExitRecords
from eenn.statistics.calibration import log_probabilities, probabilities


def answers(
    subject: Subject, split: str, distortion: str, level: float, experts: str, temperature: str
) -> tuple[ExitRecords, tuple[float, ...]]:
    """The logits of those who answer, and the temperature of every exit.

    Where images have different heads these are log-probabilities, calibrated with each head set's
    own temperatures, and have none left to apply.

    Args:
        experts: `plain`, a kind, `auto`, `soft`, `matching` or `fine_tuned`; see
            `eenn.exits.head_sets`.
        temperature: as in `Temperatures.chosen`.

    Raises:
        EennError: the artifact has no such experts.
    """
    check_experts(subject, experts, distortion)
    exits = subject.branches + 1
    if experts == FINE_TUNED:
        if level:
            subject = subject.fine_tuned[distortion]
        experts = PLAIN
    if experts == MATCHING:
        experts = distortion if level and distortion in subject.heads else PLAIN
    if experts not in (AUTO, SOFT):
        records = subject.records(split, distortion, level, experts)
        return records, _temperatures(subject, experts, temperature)
    by_set = [subject.records(split, distortion, level, heads) for heads in subject.heads]
    log_probs = [
        log_probabilities(records.logits, _temperatures(subject, heads, temperature))
        for heads, records in zip(subject.heads, by_set, strict=True)
    ]
    probs = kind_probs(subject, split, distortion, level)
    if experts == AUTO:
        answered = picked(log_probs, choose(probs, subject.manifest.classifier.sure))
    else:
        answered = mixed(log_probs, probs)
    plain = by_set[0]
    merged = ExitRecords(
        answered.astype(np.float32),
        plain.labels,
        plain.sample_ids,
        replace(plain.origin, heads=experts),
        plain.made,
    )
    return merged, exits * (1.0,)


def check_experts(subject: Subject, experts: str, distortion: str) -> None:
    """See whether an artifact has the experts that are asked for.

    Args:
        distortion: the kind at hand.

    Raises:
        EennError: the artifact has no such experts.
    """
    allowed = [*subject.heads]
    if subject.manifest.experts:
        allowed += [AUTO, SOFT, MATCHING]
    # Looked for on disk, so only where it matters.
    if experts == FINE_TUNED and distortion in subject.fine_tuned:
        allowed += [FINE_TUNED]
    if experts not in allowed:
        raise EennError(
            f"experts={experts}: of {subject.manifest.path}, for {distortion}, allowed are "
            f"{', '.join(allowed)}; {TRAIN_EXPERTS} trains experts and fine-tuned networks for "
            "the kinds in recipe.levels"
        )


def kind_probs(subject: Subject, split: str, distortion: str, level: float) -> Floats:
    """The distortion classifier's calibrated probabilities, (samples, 1 + kinds)."""
    classifier = subject.manifest.classifier
    (logits,) = subject.records(split, distortion, level, CLASSIFIER).logits
    return probabilities(logits, classifier.temperature)


def costs(subject: Subject, link: Link, experts: str) -> CostModel:
    """What answers cost; that of the classifier, where it is asked, comes first on the edge.

    A soft mixture runs the heads of all sets.
    """
    manifest, profile = subject.manifest, subject.profile
    own_macs, own_ms = macs(manifest.exits), profile.median
    if experts in (AUTO, SOFT):
        own_macs = replace(own_macs, first=float(manifest.classifier.macs))
        own_ms = replace(own_ms, first=profile.classifier["p50"])
    if experts == SOFT:
        own_macs, own_ms = (
            replace(each, heads=tuple(len(subject.heads) * head for head in each.heads))
            for each in (own_macs, own_ms)
        )
    sizes = payloads(manifest.exits, manifest.preprocessing.input_size)
    return CostModel(own_macs, own_ms, own_ms, sizes, link)


def _temperatures(subject: Subject, heads: str, choice: str) -> tuple[float, ...]:
    return subject.manifest.temperatures_of(heads).chosen(choice)
