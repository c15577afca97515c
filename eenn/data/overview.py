"""A training's images in one line, and warnings about probable mistakes in their layout."""

from collections import Counter

from eenn.data.datasets import ImageSource
from eenn.data.splits import Split

# With fewer validation images an accuracy is uncertain by ten points.
FEW = 100
# Names of parts of a split, which may stand where class folders should.
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def overview(source: ImageSource, split: Split) -> str:
    """Say how many images there are of how many classes, and in which part of the split."""
    counts = _counts(source)
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    train, val, test = split.sizes.values()
    return (
        f"{len(source.labels):,} images in {len(counts)} classes, {counts[smallest]:,} "
        f"({smallest}) to {counts[largest]:,} ({largest}); {train:,} to train, {val:,} to "
        f"validate, {test:,} to test"
    )


def likely_mistakes(source: ImageSource, split: Split) -> list[str]:
    """List probable mistakes in the images' layout or number, a line each."""
    found = []
    folders = [sample_id.split("/") for sample_id in source.sample_ids]
    nested = Counter("/".join(folder[:2]) for folder in folders if len(folder) > 2)
    classes = ", ".join(source.classes[:4]) + (", ..." if len(source.classes) > 4 else "")
    if 2 * nested.total() > len(folders) and len(nested) > len(source.classes):
        found.append(
            f"{nested.total():,} images lie in folders inside the class folders, such as "
            f"{min(nested)}: if those are the classes, data.root is one level too high, as now the "
            f"classes are {classes}"
        )
    elif len(PARTS & {name.lower() for name in source.classes}) > 1:
        found.append(
            f"the classes are {classes}: if those are parts of the data, data.root has to be the "
            "folder inside with a folder for each class; the split is drawn from it"
        )
    if split.sizes["val"] < FEW:
        found.append(
            f"only {split.sizes['val']} validation images: accuracies, temperatures and thresholds "
            f"from them are rough; better are {FEW} or more, which takes ten times as many images"
        )
    return found


def _counts(source: ImageSource) -> Counter[str]:
    return Counter(source.classes[label] for label in source.labels)
