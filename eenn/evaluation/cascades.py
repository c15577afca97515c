"""A cascade: an artifact and an upstream network that answers the rest from the photograph.

Both are evaluated as one network that has the upstream network's last exit behind all the
artifact's own.
"""

from dataclasses import replace

import numpy as np

from eenn.artifact.manifest import check_classes
from eenn.errors import EennError
from eenn.planning.costs import CostModel, Costs
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.records.records import FOLDER, ExitRecords

Answers = tuple[ExitRecords, tuple[float, ...]]


def check_upstream(artifact: EvaluatedArtifact, upstream: EvaluatedArtifact) -> None:
    """Check that one network can answer images that another leaves.

    Raises:
        EennError: both are one network, have other classes, or split the images in another way.
    """
    other = upstream.manifest
    if artifact.manifest.id == other.id:
        raise EennError(
            f"upstream={other.path}: this is the artifact itself, whose rest answers anyway; give "
            "another network, or leave upstream out"
        )
    check_together(artifact, upstream)


def check_together(artifact: EvaluatedArtifact, upstream: EvaluatedArtifact) -> None:
    """Check that two networks answer the same question, and that neither has seen the test images.

    Raises:
        EennError: they have other classes, or split the images in another way.
    """
    own, other = artifact.manifest, upstream.manifest
    check_classes(own, other)
    new = FOLDER in artifact.folders
    if artifact.split.hash != upstream.split.hash and not new:
        raise EennError(
            f"{other.path}: its images are split in another way than those of {own.path}, "
            "so that it may have been trained on images that are to test it; train both with the "
            "same images and seed"
        )


def cascaded(own: Answers, upstream: Answers) -> Answers:
    """Put the upstream network's last exit behind all exits of the artifact.

    Returns:
        Records with one exit more, and their temperatures.

    Raises:
        EennError: the records are of different images.
    """
    (records, temperatures), (others, their_temperatures) = own, upstream
    place = {sample_id: at for at, sample_id in enumerate(others.sample_ids)}
    if set(place) != set(records.sample_ids):
        raise EennError(
            "records of a cascade are of different images; record both networks on the same images"
        )
    order = [place[sample_id] for sample_id in records.sample_ids]
    logits = np.concatenate([records.logits, others.logits[-1:, order]])
    return replace(records, logits=logits), (*temperatures, their_temperatures[-1])


def cascade_costs(own: CostModel, upstream: CostModel | None, photograph_bytes: float) -> CostModel:
    """Model the costs of a rest that starts from the photograph.

    Args:
        upstream: costs of the network that answers; None where that is the artifact itself.
        photograph_bytes: mean size of the files that are sent.
    """
    theirs = upstream or own

    def whole(costs: Costs, other: Costs) -> Costs:
        return replace(costs, upstream=sum(other.segments) + other.heads[-1])

    return replace(
        own,
        macs=whole(own.macs, theirs.macs),
        weight_bytes=own.weight_bytes
        and theirs.weight_bytes
        and whole(own.weight_bytes, theirs.weight_bytes),
        edge_ms=whole(own.edge_ms, theirs.edge_ms),
        cloud_ms=whole(own.cloud_ms, theirs.cloud_ms),
        payload_bytes=(len(own.payload_bytes) + 1) * (photograph_bytes,),
    )
