"""The head sets that answer on an edge: those asked for, and the choice among them by image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.head_sets import CLASSIFIER, HeadChoice, HeadMode, Ints, choose_head_sets
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.wire import FEATURES, LOGITS, model_name
from eenn.statistics.calibration import probabilities

Floats = NDArray[np.float32]


def asked_for(manifest: Manifest, experts: HeadChoice) -> tuple[str, ...]:
    """List the head sets that may answer: one, or all where the classifier chooses.

    Args:
        experts: as of `EdgeRuntime`.

    Raises:
        EennError: the artifact has no such experts.
    """
    every = manifest.head_sets
    if experts.mode is HeadMode.CHOSEN and manifest.experts:
        return every
    if str(experts) in every:
        return (str(experts),)
    allowed = (*every, HeadMode.CHOSEN.value) if manifest.experts else every
    raise EennError(f"experts={experts}: of {manifest.path} allowed are {', '.join(allowed)}")


def models_of(manifest: Manifest, experts: HeadChoice) -> tuple[str, ...]:
    """List the cloud's models that an edge with these experts asks, at split point 0.

    Raises:
        EennError: see `asked_for`.
    """
    return tuple(model_name(0, heads) for heads in asked_for(manifest, experts))


def chooser(graphs: Graphs, threads: int) -> Callable[[Floats], Ints]:
    """Open the distortion classifier, which gives the head set of every image as its number."""
    classifier = graphs.manifest.classifier
    session = graphs.session(CLASSIFIER, "fp32", threads)

    def choose_heads(images: Floats) -> Ints:
        (logits,) = session.run([LOGITS], {FEATURES: images})
        return choose_head_sets(probabilities(logits, classifier.temperature), classifier.sure)

    return choose_heads
