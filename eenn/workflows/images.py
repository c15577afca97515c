"""Descriptions of an evaluation's images: their origin, files left out, overlaps with training."""

from collections.abc import Iterator, Sequence

from eenn.data.new_images import NewImages
from eenn.files import Json
from eenn.models.architecture import branches_text
from eenn.records.evaluated_artifact import FIT_FOLDER, EvaluatedArtifact, ImagesNotFound
from eenn.records.opening import overlap
from eenn.records.records import FOLDER

WORDS = {FOLDER: "images", FIT_FOLDER: "images fitted to"}


def image_facts(artifacts: Sequence[EvaluatedArtifact], split: str) -> dict[str, str]:
    """Describe the evaluated images for the page, with warnings about them.

    Args:
        split: the part that is evaluated where no folder is given.
    """
    facts: dict[str, str] = {WORDS[FOLDER]: f"{split} split"}
    for artifact in artifacts:
        for name, folder in artifact.folders.items():
            facts[WORDS[name]] = str(folder)
            before = "" if name == FOLDER else f"{WORDS[name]}: "
            facts |= {f"{before}{what}": said for what, said in folder.left_out.lines.items()}
    warned = dict.fromkeys(line for artifact in artifacts for line in _warnings(artifact))
    return facts | ({"beware": "; ".join(warned)} if warned else {})


def image_notes(facts: dict[str, str]) -> str:
    """Write the facts about folders as lines; empty for a split."""
    return "\n".join(f"{what}: {said}" for what, said in facts.items()) if len(facts) > 1 else ""


def image_summary(artifacts: Sequence[EvaluatedArtifact]) -> dict[str, Json]:
    """Describe the folders that replace a split, for a summary."""
    return {
        WORDS[name].replace(" ", "_"): folder.described
        for artifact in artifacts[:1]
        for name, folder in artifact.folders.items()
    }


def title_of(artifact: EvaluatedArtifact) -> str:
    """Name the evaluated images."""
    folder = artifact.folders.get(FOLDER)
    return artifact.title if folder is None else str(folder.root)


def image_line(artifact: EvaluatedArtifact, split: str) -> str:
    """Describe a network and its images in a line, before an evaluation."""
    folder, manifest = artifact.folders.get(FOLDER), artifact.manifest
    count = artifact.image_count(split if folder is None else FOLDER)
    part = f"{split} images of {artifact.title}" if folder is None else f"images of {folder.root}"
    return (
        f"{manifest.path}: {branches_text(artifact.branches)}, {len(manifest.classes)} classes; "
        f"{count:,} {part}"
    )


def fitted_to(artifact: EvaluatedArtifact) -> str:
    """Name the images of a fit, for a promise."""
    folder = artifact.folders.get(FIT_FOLDER)
    return "validation images" if folder is None else f"images of {folder.root}"


def _warnings(artifact: EvaluatedArtifact) -> Iterator[str]:
    """Say which images a network, or a fit, has seen before."""
    for name, folder in artifact.folders.items():
        try:
            yield from _seen(WORDS[name], folder, overlap(artifact, folder))
        except ImagesNotFound as error:
            yield f"overlap of the {WORDS[name]} with the training images is not known: {error}"
    if len(artifact.folders) > 1:
        known = set(artifact.folders[FIT_FOLDER].content_hashes)
        evaluated = artifact.folders[FOLDER].content_hashes
        if twice := sum(content in known for content in evaluated):
            yield f"{twice} of the {len(evaluated)} images are among those that were fitted to"


def _seen(which: str, folder: NewImages, found: dict[str, int]) -> Iterator[str]:
    for part, done in (("train", "trained"), ("val", "validated")):
        if found[part]:
            n = len(folder.content_hashes)
            yield f"{found[part]} of the {n} {which} are images that the network was {done} on"
