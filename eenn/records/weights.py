"""The sizes of an artifact's weights, read from their file. No torch."""

from safetensors import SafetensorError
from safetensors.numpy import load

from eenn.artifact.manifest import RESTORE, WEIGHTS, ArtifactTruncated, Manifest
from eenn.planning.costs import Costs


def weight_bytes(manifest: Manifest) -> Costs:
    """Sum up the bytes of the weights of every segment and head.

    Raises:
        ArtifactMissing, ArtifactTruncated, ArtifactEdited: see `Manifest.verified`.
    """
    exits = range(len(manifest.exits))
    sizes = {(part, str(exit)): 0.0 for part in ("segments", "heads") for exit in exits}
    try:
        for name, tensor in load(manifest.verified(WEIGHTS)).items():
            part, number, _ = name.split(".", 2)
            sizes[part, number] += tensor.nbytes
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactTruncated(
            f"{manifest.path / WEIGHTS} does not hold the segments and heads of "
            f"{len(exits)} exits; {RESTORE}"
        ) from error
    segments, heads = (
        tuple(sizes[part, str(exit)] for exit in exits) for part in ("segments", "heads")
    )
    return Costs(segments, heads)
