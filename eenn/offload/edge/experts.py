"""The head sets that may answer on an edge, and the choice among them for each image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.head_sets import CLASSIFIER, HeadChoice, HeadMode, Ints, choose_head_sets
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.wire import FEATURES, IMAGE_CUT, LOGITS, Cut, model_name
from eenn.statistics.calibration import probabilities

Floats = NDArray[np.float32]


def head_sets_for(manifest: Manifest, experts: HeadChoice) -> tuple[str, ...]:
    """List the head sets that may answer: one, or all where the distortion classifier chooses.

    Args:
        experts: see `EdgeRuntime`.

    Raises:
        EennError: the artifact does not have the experts.
    """
    every = manifest.head_sets
    if experts.mode is HeadMode.CHOSEN and manifest.experts:
        return every
    if str(experts) in every:
        return (str(experts),)
    allowed = (*every, HeadMode.CHOSEN.value) if manifest.experts else every
    raise EennError(f"experts={experts}: of {manifest.path} allowed are {', '.join(allowed)}")


def cloud_models_for(
    manifest: Manifest, experts: HeadChoice, cut: Cut = IMAGE_CUT
) -> tuple[str, ...]:
    """List the cloud's models at a cut that an edge with these experts asks.

    Raises:
        EennError: see `head_sets_for`.
    """
    return tuple(model_name(cut, heads) for heads in head_sets_for(manifest, experts))


def judges_kinds(manifest: Manifest, deployment: Deployment) -> bool:
    """Tell whether a guard judges which experts its images look like, as plain heads answer."""
    is_plain = deployment.experts.mode is HeadMode.PLAIN
    return deployment.guard is not None and is_plain and bool(manifest.experts)


def open_head_chooser(graphs: Graphs, threads: int) -> Callable[[Floats], Ints]:
    """Open a function from images (N, 3, H, W) to numbers of head sets: the classifier."""
    classifier = graphs.manifest.classifier
    session = graphs.session((CLASSIFIER,), "fp32", threads)

    def choose_heads(images: Floats) -> Ints:
        (logits,) = session.run([LOGITS], {FEATURES: images})
        return choose_head_sets(probabilities(logits, classifier.temperature), classifier.sure)

    return choose_heads
