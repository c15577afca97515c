"""What an evaluation says about its images: which they are, what is left out, what was seen."""

from collections.abc import Iterator, Sequence

from eenn.data.new_images import NewImages
from eenn.files import Json
from eenn.records.evaluated_artifact import FIT_FOLDER, EvaluatedArtifact, ImagesNotFound
from eenn.records.opening import overlap
from eenn.records.records import FOLDER

WORDS = {FOLDER: "images", FIT_FOLDER: "images fitted to"}


def image_facts(artifacts: Sequence[EvaluatedArtifact], split: str) -> dict[str, str]:
    """Say on the page which images were evaluated, and what about them is to be known.

    Args:
        split: that is evaluated where there is no folder.
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
    """Print what `image_facts` says of folders; nothing of a split."""
    return "\n".join(f"{what}: {said}" for what, said in facts.items()) if len(facts) > 1 else ""


def image_summary(artifacts: Sequence[EvaluatedArtifact]) -> dict[str, Json]:
    """Describe the folders in place of a split, for a summary."""
    return {
        WORDS[name].replace(" ", "_"): folder.described
        for artifact in artifacts[:1]
        for name, folder in artifact.folders.items()
    }


def title_of(artifact: EvaluatedArtifact) -> str:
    """Name the images that are evaluated."""
    folder = artifact.folders.get(FOLDER)
    return artifact.title if folder is None else str(folder.root)


def image_line(artifact: EvaluatedArtifact, split: str) -> str:
    """Say before an evaluation which images it is on."""
    folder, manifest = artifact.folders.get(FOLDER), artifact.manifest
    count = artifact.image_count(split if folder is None else FOLDER)
    part = f"{split} images of {artifact.title}" if folder is None else f"images of {folder.root}"
    return (
        f"{manifest.path}: {artifact.branches} branches, {len(manifest.classes)} classes; "
        f"{count:,} {part}"
    )


def fitted_to(artifact: EvaluatedArtifact) -> str:
    """Name the images that a fit is to, as a promise says it."""
    folder = artifact.folders.get(FIT_FOLDER)
    return "validation images" if folder is None else f"images of {folder.root}"


def _warnings(artifact: EvaluatedArtifact) -> Iterator[str]:
    """Say which of the images a network, or a fit, has seen before."""
    for name, folder in artifact.folders.items():
        try:
            yield from _seen(WORDS[name], folder, overlap(artifact, folder))
        except ImagesNotFound as error:
            yield f"whether the {WORDS[name]} were trained on is not known: {error}"
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
