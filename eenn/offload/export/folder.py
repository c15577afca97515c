"""A folder for a device, with only the files of an artifact that its deployments need. No torch.

FOLDER/manifest.json, and deployment.json or plans.json
FOLDER/onnx/index.json          of all pieces, because edge and cloud compare artifacts by it
FOLDER/onnx/PRECISION/*.onnx    those that a deployment opens
FOLDER/upstream/                the same of an upstream network that runs on the device
"""

from argparse import Namespace
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from eenn.artifact.deployment import FILE, Deployment
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.rests import DEVICE
from eenn.files import new_directory, write_file
from eenn.offload.edge.deploying import UPSTREAM, upstream_path
from eenn.offload.edge.needed import Needed, needed_pieces, needed_upstream_pieces
from eenn.offload.edge.plans import FILE as PLANS
from eenn.offload.edge.plans import Plans
from eenn.offload.graphs.index import FOLDER, INDEX, Graphs
from eenn.run_directory import MANIFEST


@dataclass(frozen=True)
class FolderContent:
    """The content of a folder for a device.

    Args:
        used: the deployment, or the table of plans from which the device chooses.
        needed: pieces of its artifact.
        upstream: the artifact of an upstream network that runs on the device, and its graphs.
    """

    used: Deployment | Plans
    needed: Needed
    upstream: tuple[Graphs, Needed] | None = None


def plan_folder(given: Namespace, manifest: Manifest) -> FolderContent:
    """Read the deployments and find the pieces to copy, before anything is exported or written.

    Args:
        given: the parsed command line, with `deployment` or `plans`, `to`, and `upstream` or None.

    Raises:
        EennError: the file is not a deployment of this artifact; the upstream network is missing,
            not exported or not needed; or `to` exists.
    """
    if given.to.exists():
        raise EennError(f"--to {given.to} exists already; choose another directory")
    if given.plans is not None:
        plans = Plans.load(given.plans)
        every = (needed_pieces(manifest, own) for own in plans.table)
        return FolderContent(plans, tuple(dict.fromkeys(chain.from_iterable(every))))
    deployment = Deployment.load(given.deployment)
    needed, upstream = needed_pieces(manifest, deployment), deployment.upstream
    if upstream is None or deployment.rest != DEVICE:
        if given.upstream is not None:
            raise EennError(
                f"--upstream {given.upstream}: the deployment runs no other network on the device; "
                "leave it out"
            )
        return FolderContent(deployment, needed)
    graphs = Graphs.read(upstream_path(given, manifest, upstream))
    return FolderContent(
        deployment, needed, (graphs, needed_upstream_pieces(graphs.manifest, deployment))
    )


def write_folder(graphs: Graphs, content: FolderContent, folder: Path) -> str:
    """Write the folder, whole or not at all.

    Returns:
        A line about the folder's size, beside the size of the artifact.

    Raises:
        EennError: the folder exists; see `Graphs.content`.
    """
    sources = [(graphs, content.needed, "."), *_upstream(content)]
    whole = sum(_size(own.manifest.path) for own, _, _ in sources)
    with new_directory(folder) as new:
        content.used.save(new / (PLANS if isinstance(content.used, Plans) else FILE))
        for own, needed, place in sources:
            _copy(own, needed, new / place)
    count = sum(len(needed) for _, needed, _ in sources)
    return (
        f"{folder}: {_size(folder) / 1e6:.1f} MB, of {whole / 1e6:.1f} MB in all; pieces: {count} "
        f"of {sum(len(own.rows) for own, _, _ in sources)}"
    )


def _upstream(content: FolderContent) -> list[tuple[Graphs, Needed, str]]:
    return [] if content.upstream is None else [(*content.upstream, UPSTREAM)]


def _copy(graphs: Graphs, needed: Needed, directory: Path) -> None:
    """Copy the manifest, the index and some pieces, verified."""
    (directory / FOLDER).mkdir(parents=True)
    path = graphs.manifest.path
    for name in (MANIFEST, f"{FOLDER}/{INDEX}"):
        write_file(directory / name, (path / name).read_bytes())
    for row in graphs.rows:
        if (row.name, row.precision) in needed:
            file = directory / FOLDER / row.file
            file.parent.mkdir(exist_ok=True)
            write_file(file, graphs.content(row.name, row.precision))


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
