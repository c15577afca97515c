"""Streams of images that the guard meets: that of the acceptance, other orders, other drifts."""

from collections.abc import Sequence

import numpy as np

from benchmarks.guard.recorded import BLUR, CLEAN, NOISE, Field, Part, Place, Stream, drawn, joined
from eenn.exits.policies.base import Ints
from eenn.offload.bench.stream import RecordedImages

ACCEPTANCE = joined(
    drawn("clean", CLEAN, 4000),
    drawn("blur 2", BLUR, 3000),
    drawn("noise 20", NOISE, 3000),
    drawn("clean again", CLEAN, 4000),
)
BLURS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
FEW_CLASSES = 10


def after_clean(name: str, place: Place) -> Stream:
    """Make a stream of 3,000 clean images and 3,000 of another kind."""
    return joined(drawn("clean", CLEAN, 3000), drawn(name, place, 3000))


def growing_blur(field: Field, generator: np.random.Generator) -> list[Part]:
    """Let the blur grow from 0 to 3 over 3,000 images, behind 3,000 clean ones.

    An image is one of the two nearest recorded levels, more likely of the nearer one.
    """
    every = [field.images(Place("gaussian_blur", level)) for level in BLURS]
    images = RecordedImages(
        np.concatenate([own.leaves for own in every]),
        np.concatenate([own.differs for own in every]),
    )
    each = len(every[0].leaves)
    at = np.linspace(0, len(BLURS) - 1, 3000)
    level = np.floor(at + generator.random(3000)).clip(0, len(BLURS) - 1).astype(np.int64)
    order = level * each + generator.integers(each, size=3000)
    (clean,) = drawn("clean", CLEAN, 3000)(field, generator)
    return [clean, Part("blur grows from 0 to 3", images, order)]


def without_class(field: Field, generator: np.random.Generator) -> list[Part]:
    """Let the most frequent class vanish."""
    labels = field.labels()
    return _of_images("a class vanishes", field, labels != np.bincount(labels).argmax(), generator)


def few_classes(field: Field, generator: np.random.Generator) -> list[Part]:
    """Let all but the FEW_CLASSES hardest classes vanish, those that leave least often."""
    labels, images = field.labels(), field.images(CLEAN)
    leaves = images.leaves[:, field.start]
    share = [leaves[labels == own].mean() for own in range(labels.max() + 1)]
    hardest = np.argsort(share)[:FEW_CLASSES]
    name = f"the {FEW_CLASSES} hardest classes"
    return _of_images(name, field, np.isin(labels, hardest), generator)


def in_runs(field: Field, generator: np.random.Generator) -> list[Part]:
    """Let clean images come in runs of a class, as from a camera in front of one scene."""
    labels, images = field.labels(), field.images(CLEAN)
    runs = [
        generator.choice(np.flatnonzero(labels == own), size=50)
        for own in generator.choice(labels, size=60)
    ]
    (clean,) = drawn("clean", CLEAN, 3000)(field, generator)
    return [clean, Part("runs of 50 of a class", images, np.concatenate(runs))]


def _of_images(
    name: str, field: Field, which: np.ndarray, generator: np.random.Generator
) -> list[Part]:
    (clean,) = drawn("clean", CLEAN, 3000)(field, generator)
    order: Ints = generator.choice(np.flatnonzero(which), size=3000)
    return [clean, Part(name, field.images(CLEAN), order)]


ORDERS = (
    (("noise 20", NOISE, 3000), ("clean", CLEAN, 4000), ("blur 2", BLUR, 3000)),
    (("blur 2", BLUR, 3000), ("noise 20", NOISE, 3000), ("clean", CLEAN, 4000)),
)
OTHERS: Sequence[Stream] = (
    *(joined(*(drawn(*part) for part in order)) for order in ORDERS),
    after_clean("blur 1", Place("gaussian_blur", 1)),
    after_clean("blur 1.5", Place("gaussian_blur", 1.5)),
    growing_blur,
    without_class,
    few_classes,
    in_runs,
    after_clean("half the light", Place("light", 0.5)),
    after_clean("a quarter of the light", Place("light", 0.25)),
    after_clean("twice the light", Place("light", 2)),
    after_clean("a dirty lens", Place("dirty_lens", 0.3)),
    after_clean("motion blur 10", Place("motion_blur", 10)),
    after_clean("jpeg 10", Place("jpeg", 10)),
)
