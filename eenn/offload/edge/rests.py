"""Opens the rest of the network for an edge: in the cloud, or on this device."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eenn.artifact.deployment import CONTINUE, Deployment
from eenn.artifact.manifest import Manifest
from eenn.exits.rests import CLOUD, DEVICE
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.deploying import upstream_path
from eenn.offload.edge.experts import cloud_models_for
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import cut_of
from eenn.offload.protocol.errors import OffloadError
from eenn.offload.protocol.wire import IMAGE_MODEL

if TYPE_CHECKING:
    from eenn.offload.client.http_cloud import HttpCloud


@contextmanager
def open_rest(
    given: argparse.Namespace,
    manifest: Manifest,
    deployment: Deployment,
    say: Callable[[str], None],
) -> Iterator[Rest]:
    """Open the rest for images that no branch accepts; warn of a cloud that cannot be asked now.

    Args:
        given: the parsed command line.
        say: called with a line for the user.

    Raises:
        EennError: an upstream network for this device is missing; see also `HttpCloud`.
    """
    upstream = deployment.upstream
    temperature = upstream.temperature if upstream else None
    if deployment.rest == DEVICE:
        path = manifest.path if upstream is None else upstream_path(given, manifest, upstream)
        here = LocalCloud(path, deployment.precision, given.threads)
        if upstream is None:
            yield Rest(here, on_device=True)
        else:
            yield Rest(photographs=here, temperature=temperature, on_device=True)
    elif deployment.rest == CLOUD and given.cloud is not None:
        with _cloud(given, manifest, deployment, say) as rest:
            yield rest
    else:
        yield Rest(temperature=temperature)


@contextmanager
def _cloud(
    given: argparse.Namespace,
    manifest: Manifest,
    deployment: Deployment,
    say: Callable[[str], None],
) -> Iterator[Rest]:
    upstream, features = deployment.upstream, deployment.features
    with open_client(given, manifest, deployment) as cloud:
        try:
            deadline = time.monotonic() + deployment.deadline_ms / 1e3
            models: tuple[str, ...] = (IMAGE_MODEL,)
            if features:
                cut = cut_of(manifest, deployment.active, deployment.cut)
                models = cloud_models_for(manifest, deployment.experts, cut)
            cloud.check(deadline, models)
        except OffloadError as error:
            say(f"warning: {error}; the edge answers meanwhile")
        yield Rest(
            features=cloud if features else None,
            photographs=None if features else cloud,
            temperature=upstream.temperature if upstream else None,
            standby=_standby(given, manifest, deployment),
            cut=deployment.cut,
        )


def open_client(
    given: argparse.Namespace,
    manifest: Manifest,
    deployment: Deployment,
    background: bool = False,
) -> "HttpCloud":
    """Open a client of the deployment's cloud.

    Args:
        background: see `HttpCloud`.

    Raises:
        EennError: see `HttpCloud`.
    """
    # Imported here, so that a device without a cloud starts faster.
    from eenn.offload.client.http_cloud import HttpCloud

    upstream = deployment.upstream
    return HttpCloud(
        given.cloud,
        Graphs.read(manifest.path).id if upstream is None else upstream.artifact_id,
        precision=deployment.features or "fp32",
        token=given.token_file.read_text().strip() if given.token_file else None,
        ca_file=given.ca_file,
        background=background,
    )


def _standby(
    given: argparse.Namespace, manifest: Manifest, deployment: Deployment
) -> LocalCloud | None:
    if deployment.on_failure != CONTINUE:
        return None
    return LocalCloud(manifest.path, deployment.precision, given.threads)
