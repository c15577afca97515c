"""A training's images in one line, and warnings about probable mistakes in their layout."""

from collections import Counter
from collections.abc import Iterator

from eenn.data.datasets import ImageSource, shortened
from eenn.data.layout import PART_OF
from eenn.data.splits import SPLIT_NAMES, Split

# With fewer validation images an accuracy is uncertain by ten points.
FEW = 100
# Pairs of parts that should have no image in common.
APART = (("test", "train"), ("test", "val"), ("val", "train"))
CALLED = {"train": "training", "val": "validation", "test": "test"}


def overview(source: ImageSource, split: Split) -> str:
    """Say how many images there are of how many classes, and in which part of which split."""
    counts = Counter(source.classes[label] for label in source.labels)
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    train, val, test = split.sizes.values()
    return (
        f"{len(source.labels):,} images in {len(counts)} classes, {counts[smallest]:,} "
        f"({smallest}) to {counts[largest]:,} ({largest}); {train:,} to train, {val:,} to "
        f"validate, {test:,} to test{_given(source)}"
    )


def likely_mistakes(source: ImageSource, split: Split) -> list[str]:
    """List probable mistakes in the images' layout, number or split, a line each."""
    found = [*_layout(source), *_unlike_classes(source, split), *_shared(source, split)]
    if split.sizes["val"] < FEW:
        more = "" if _has_own_validation(source) else ", which takes ten times as many images"
        found.append(
            f"only {split.sizes['val']} validation images: accuracies, temperatures and thresholds "
            f"from them are rough; better are {FEW} or more{more}"
        )
    return found


def _has_own_validation(source: ImageSource) -> bool:
    return source.parts is not None and "val" in source.parts


def _given(source: ImageSource) -> str:
    if source.parts is None:
        return ""
    if _has_own_validation(source):
        return ", which are the data's own parts"
    return "; the test images are the data's own, validation images were drawn from its training"


def _layout(source: ImageSource) -> Iterator[str]:
    """Find folders on a wrong level."""
    inside = 0 if source.parts is None else 1
    folders = [sample_id.split("/")[inside:] for sample_id in source.sample_ids]
    nested = Counter("/".join(folder[:2]) for folder in folders if len(folder) > 2)
    classes = ", ".join(source.classes[:4]) + (", ..." if len(source.classes) > 4 else "")
    if 2 * nested.total() > len(folders) and len(nested) > len(source.classes):
        remedy = "they have to lie in the parts" if inside else "data.root is one level too high"
        yield (
            f"{nested.total():,} images lie in folders inside the class folders, such as "
            f"{min(nested)}: if those are the classes, {remedy}, as now the classes are "
            f"{classes}"
        )
    elif len(PART_OF.keys() & {name.lower() for name in source.classes}) > 1:
        yield (
            f"the classes are {classes}: if those are parts of the data, each has to hold a folder "
            "for each class and no images beside those, and no other folder may lie among them"
        )


def _unlike_classes(source: ImageSource, split: Split) -> Iterator[str]:
    """Find classes that a part does not have."""
    label_of = dict(zip(source.sample_ids, source.labels.tolist(), strict=True))
    for part in ("val", "test"):
        here = {label_of[sample_id] for sample_id in getattr(split, part)}
        missing = [name for label, name in enumerate(source.classes) if label not in here]
        if missing:
            yield (
                f"classes without {CALLED[part]} images: {shortened(missing)}; {CALLED[part]} "
                "results say nothing about them"
            )


def _shared(source: ImageSource, split: Split) -> Iterator[str]:
    """Find images that two parts have in common, as only a given split can."""
    content_of = dict(zip(source.sample_ids, source.content_hashes, strict=True))
    by_content = {
        part: {content_of[sample_id]: sample_id for sample_id in getattr(split, part)}
        for part in SPLIT_NAMES
    }
    for part, other in APART:
        known = by_content[other]
        both = [one for one in getattr(split, part) if content_of[one] in known]
        if both:
            what, against = CALLED[part], CALLED[other]
            yield (
                f"{len(both)} of {split.sizes[part]} {what} images are also {against} images, byte "
                f"for byte, such as {both[0]} and {known[content_of[both[0]]]}: {what} results are "
                "too good; remove the images from one of the two"
            )
