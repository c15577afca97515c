"""The pieces of an artifact's graphs that a device opens for a deployment."""

from collections.abc import Sequence
from itertools import pairwise

from eenn.artifact.deployment import CONTINUE, Deployment
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.head_sets import CLASSIFIER
from eenn.exits.rests import CLOUD, DEVICE
from eenn.offload.edge.experts import head_sets_for, judges_kinds
from eenn.offload.graphs.index import PRECISIONS
from eenn.offload.graphs.pieces import alone, between, borders, cut_of, steps

Needed = tuple[tuple[str, str], ...]  # names and precisions


def needed_pieces(manifest: Manifest, deployment: Deployment) -> Needed:
    """List the pieces of the deployment's own artifact, by name and precision.

    Raises:
        EennError: the precision does not exist; see also `Deployment.check` and `head_sets_for`.
    """
    deployment.check(manifest)
    precision = deployment.precision
    if precision not in PRECISIONS:
        raise EennError(f"precision={precision}: allowed are {', '.join(PRECISIONS)}")
    head_sets = head_sets_for(manifest, deployment.experts)
    ends, at = [0, *(branch + 1 for branch in deployment.active)], borders(manifest)
    needed = [
        piece
        for start, exit in pairwise(ends)
        for piece in _part(manifest, at[start], exit, head_sets, precision)
    ]
    cut = cut_of(manifest, deployment.active, deployment.cut).blocks
    if cut > at[ends[-1]]:
        needed += ((piece, precision) for piece in between(at[ends[-1]], cut))
    if deployment.experts.asks_classifier or judges_kinds(manifest, deployment):
        needed.append((CLASSIFIER, "fp32"))
    if _has_own_rest(deployment):
        needed += _part(manifest, cut, len(manifest.exits), manifest.head_sets, precision)
    return tuple(dict.fromkeys(needed))


def needed_upstream_pieces(upstream: Manifest, deployment: Deployment) -> Needed:
    """List the pieces of an upstream network's artifact, if it runs on the device."""
    if deployment.upstream is None or deployment.rest != DEVICE:
        return ()
    exits = len(upstream.exits)
    return tuple(_part(upstream, 0, exits, upstream.head_sets, deployment.precision))


def _has_own_rest(deployment: Deployment) -> bool:
    """Tell whether the device may compute the artifact's rest, even if only on failure."""
    if deployment.rest == DEVICE:
        return deployment.upstream is None
    return deployment.rest == CLOUD and deployment.on_failure == CONTINUE


def _part(
    manifest: Manifest, first: int, exit: int, head_sets: Sequence[str], precision: str
) -> list[tuple[str, str]]:
    """List the pieces of a `Part` and its heads; behind the last exit only heads."""
    blocks = steps(manifest, first, exit) if first < borders(manifest)[exit] else ()
    heads = [alone(manifest, exit, name) for name in head_sets if manifest.experts]
    return [
        *((piece, precision) for piece in blocks),
        *((piece, "fp32") for pieces in heads for piece in pieces),
    ]
