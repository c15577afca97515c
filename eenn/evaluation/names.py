"""The names of evaluated networks."""

from collections.abc import Sequence

from eenn.models.architecture import branches_text
from eenn.records.evaluated_artifact import EvaluatedArtifact


def named_artifacts(
    artifacts: Sequence[EvaluatedArtifact], upstream: EvaluatedArtifact | None = None
) -> list[tuple[str, EvaluatedArtifact]]:
    """Name every artifact, alike where artifacts differ in nothing but their seed.

    Args:
        upstream: the network that answers the rest, where that is another one.
    """
    then = ""
    if upstream is not None:
        size = upstream.manifest.preprocessing.input_size
        then = f", then {branches_text(upstream.branches)} at {size} px"
    short = [
        branches_text(each.branches) if each.branches else "conventional network"
        for each in artifacts
    ]
    return [
        (", ".join([name, *_apart(artifact, _alike(short, artifacts, name))]) + then, artifact)
        for name, artifact in zip(short, artifacts, strict=True)
    ]


def _alike(
    names: Sequence[str], artifacts: Sequence[EvaluatedArtifact], name: str
) -> list[EvaluatedArtifact]:
    return [each for own, each in zip(names, artifacts, strict=True) if own == name]


def _apart(artifact: EvaluatedArtifact, alike: Sequence[EvaluatedArtifact]) -> list[str]:
    """List the first details that distinguish an artifact from those that are named alike.

    A detail that follows from those before it, as positions from the input's size, is left out.
    """
    every, used = {each.details for each in alike}, list[int]()
    for index in range(len(artifact.details)):
        if len(_parted(every, [*used, index])) > len(_parted(every, used)):
            used.append(index)
    return [artifact.details[index] for index in used]


def _parted(details: set[tuple[str, ...]], used: Sequence[int]) -> set[tuple[str, ...]]:
    return {tuple(own[index] for index in used) for own in details}
