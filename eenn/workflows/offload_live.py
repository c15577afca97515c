"""The live part of an offloading benchmark: every way to answer, the parts, and compared plans."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from eenn.artifact.manifest import Manifest
from eenn.cli import with_progress
from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.exits.settings import Baseline, Setting
from eenn.offload.bench.benchmark import Offloading, Server, open_cloud
from eenn.offload.bench.contender_setup import RestTargets, baselines, policy_contenders
from eenn.offload.bench.contenders import CloudContender, Contender, Request
from eenn.offload.bench.deployments import deployed_offloading, deployment_of
from eenn.offload.bench.kept import KeptMeasurements
from eenn.offload.bench.measuring import Meter, Passage, times_of
from eenn.offload.bench.rows import Measured, summarise
from eenn.offload.bench.turns import BLOCK, measure
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.experts import cloud_models_for
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import borders
from eenn.offload.protocol.codecs import PAYLOADS as FEATURES
from eenn.offload.protocol.errors import CloudOverloaded, OffloadError
from eenn.planning.times import Times
from eenn.workflows.offload_plans import Networks, Plans, planned, validation_of

PAUSES_S = (0.5, 1, 2)  # in which a cloud may come back


@dataclass(frozen=True)
class Live:
    """The results of a live benchmark.

    Args:
        times: of the measured parts, of the edge without its slowdown.
        compared: measurements of the plan of every named planner.
    """

    times: Times
    plans: Plans
    measured: dict[tuple[Contender, float], list[Request]]
    compared: dict[str, Measured]


def measure_live(
    kept: KeptMeasurements, networks: Networks, server: Server, every: Sequence[Offloading]
) -> Live:
    """Measure the parts, and every way to answer at every level; plan; measure compared plans.

    Args:
        every: the benchmark's settings; the first one's count where all have to be the same.

    Raises:
        EennError: something of the benchmark does not fit the artifact.
        OffloadError: the cloud cannot be asked, not even after a while.
    """
    offloading = every[0]
    photos = list(networks.artifact.photos(offloading.split, offloading.limit))
    paths = dict.fromkeys(str(network.manifest.path) for network in networks.every)
    with ExitStack() as stack:
        url = stack.enter_context(open_cloud(server, list(paths), offloading.link))

        def client(manifest: Manifest, payload: str = FEATURES[0]) -> HttpCloud:
            cloud = HttpCloud(
                url, Graphs.read(manifest.path).id, precision=payload,
                compress=offloading.compress, token=server.token, ca_file=server.ca_file,
            )  # fmt: skip
            return stack.enter_context(cloud)

        clients = _Clients(networks, client, offloading)
        ways, meter = clients.ways(every), clients.meter(offloading)
        passages, found = list[Passage](), dict[tuple[Contender, float], list[Request]]()
        for level in offloading.levels:
            distortion = Distortion(offloading.distortion, level)
            blocks = measure(ways, photos, distortion, kept, clients.check_there)
            title = f"{len(ways)} ways, {offloading.distortion} {level:g}"
            turns = [photos[at : at + BLOCK] for at in range(0, len(photos), BLOCK)]
            told = with_progress(blocks, title, "blocks", len(turns))
            for number, (block, turn) in enumerate(zip(told, turns, strict=True)):
                for way, request in block:
                    found.setdefault((way, float(level)), []).append(request)
                if level == offloading.levels[0]:
                    # Between the ways' turns, so that other load on the machine affects the parts
                    # as it affects the ways.
                    passages += kept.passages(number, partial(meter.passages, turn))
        at = borders(networks.artifact.manifest)
        times = times_of(passages, offloading.slowdown, at)
        plans = planned(networks, offloading, times)
        cloud_only = found[ways[0], float(offloading.levels[0])]
        compared = _compared(plans, offloading, clients, kept, photos, len(ways))
    by_planner = {name: summarise(own, cloud_only) for name, own in compared.items()}
    return Live(times, plans, found, by_planner)


def _compared(
    plans: Plans,
    offloading: Offloading,
    clients: "_Clients",
    kept: KeptMeasurements,
    photos: Sequence[Photo],
    first: int,
) -> dict[str, list[Request]]:
    """Answer the photographs, undistorted, by the plan of every named planner.

    Args:
        first: number of the first of these ways among the kept measurements.
    """
    made = plans.made
    different = list(dict.fromkeys(row.plan for row in plans.compared))
    if not different:
        return {}
    ways: list[Contender] = []
    for plan in different:
        own = deployed_offloading(offloading, deployment_of(plan, made))
        ways += clients.contenders(replace(own, deadline_ms=offloading.deadline_ms))
    pristine = Distortion(offloading.distortion, 0)
    blocks = measure(ways, photos, pristine, kept, clients.check_there, first)
    found: dict[Contender, list[Request]] = {way: [] for way in ways}
    title, count = f"{len(ways)} plans of named planners", -(-len(photos) // BLOCK)
    for block in with_progress(blocks, title, "blocks", count):
        for way, request in block:
            found[way].append(request)
    return {row.planner: found[ways[different.index(row.plan)]] for row in plans.compared}


class _Clients:
    """The clients of the cloud, and the ways to answer that they serve.

    Args:
        client: opens a client for a manifest's network and a format of features.

    Raises:
        EennError: the cloud does not have the networks.
        OffloadError: the cloud cannot be asked.
    """

    def __init__(
        self, networks: Networks, client: Callable[..., HttpCloud], offloading: Offloading
    ) -> None:
        self._networks = networks
        artifact, upstream = networks.artifact, networks.upstream
        self._clouds = {payload: client(artifact.manifest, payload) for payload in FEATURES}
        self._cloud = self._clouds[FEATURES[0]]
        self._cloud.check(models=cloud_models_for(artifact.manifest, offloading.experts))
        self._upstream: tuple[Path, HttpCloud] | None = None
        if upstream is not None:
            self._upstream = upstream.manifest.path, client(upstream.manifest)
        self._alone = client(networks.alone.manifest)

    def ways(self, every: Sequence[Offloading]) -> list[Contender]:
        """Set up every way to answer; sending every photograph comes first."""
        artifact, alone, offloading = self._networks.artifact, self._networks.alone, every[0]
        return [
            CloudContender(
                Setting(None, (), Baseline.CLOUD_ONLY),
                alone.manifest,
                alone is not artifact,
                self._alone,
                offloading.upload == "crop",
                offloading.slowdown,
            ),
            *baselines(artifact.manifest, offloading),
            *(way for own in every for way in self.contenders(own)),
        ]

    def contenders(self, own: Offloading) -> Iterator[Contender]:
        """Set up every policy and set of active branches of some settings."""
        behind = RestTargets(self._clouds.get(own.payload, self._cloud))
        if self._upstream is not None and own.route.upstream:
            behind = RestTargets(self._upstream[1], self._upstream[0])
        validation = validation_of(self._networks, own)
        return policy_contenders(self._networks.artifact.manifest, behind, own, validation)

    def meter(self, offloading: Offloading) -> Meter:
        """Set up the measurement of the parts."""
        return Meter(
            Graphs.read(self._networks.artifact.manifest.path), self._clouds,
            offloading.precision, offloading.experts, offloading.slowdown, self._upstream,
            self.check_there,
        )  # fmt: skip

    def check_there(self) -> None:
        """Check that a cloud that did not answer is not gone: it may be busy, or start again.

        Raises:
            OffloadError: the cloud is gone, and why.
        """
        for pause_s in (*PAUSES_S, None):
            try:
                self._cloud.check()
            except CloudOverloaded:
                return
            except OffloadError:
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                return
