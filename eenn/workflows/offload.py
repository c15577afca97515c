"""An offloading benchmark: photographs through edge and cloud over a link, then its report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.artifact.manifest import Manifest
from eenn.cli import with_progress
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.settings import Baseline, Setting
from eenn.files import Json
from eenn.offload.bench.benchmark import Offloading, Server, open_cloud
from eenn.offload.bench.contender_setup import RestTargets, baselines, policy_contenders
from eenn.offload.bench.contenders import CloudContender, Contender, Request
from eenn.offload.bench.deployments import write_deployments
from eenn.offload.bench.kept import KeptMeasurements
from eenn.offload.bench.measuring import Meter, Passage, times_of
from eenn.offload.bench.turns import BLOCK, measure
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.experts import cloud_models_for
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.codecs import PAYLOADS as FEATURES
from eenn.offload.protocol.errors import CloudOverloaded, OffloadError
from eenn.planning.costs import Link
from eenn.planning.exhaustive import Plan
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.commands import device_command
from eenn.reports.offload import (
    Offloaded,
    offload_report,
    payload_rows,
    plan_text,
    point_rows,
    request_cells,
)
from eenn.reports.summed_up import measured as measured_points
from eenn.reports.tables import flat, table, write_csv
from eenn.run_directory import MEASURED, SUMMARY, resume_hint
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.offload_plans import Networks, planned, points_of, validation_of
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

PAUSES_S = (0.5, 1, 2)  # in which a cloud may come back


def run_offloading(
    run: Run,
    networks: Networks,
    server: Server,
    offloading: Offloading,
    beside: Sequence[Offloading] = (),
) -> None:
    """Measure; write requests.csv, tables, figures, `report.html`, `summary.json`, deployments.

    Args:
        offloading: the settings measured and planned for.
        beside: settings that differ from `offloading` in policies, branches and rest, and are
            measured in turns with it.

    Raises:
        EennError: something of the benchmark does not fit the artifact.
        OffloadError: the cloud cannot be asked, not even after a while.
    """
    ids = [network.manifest.id for network in networks.every]
    kept = KeptMeasurements(run.directory / MEASURED, ids)
    with _going_on(run, kept):
        passages, measured = _live(kept, networks, server, [offloading, *beside])
    write_csv(
        run.directory / "requests.csv",
        [request_cells(request) for own in measured.values() for request in own],
    )
    times = times_of(passages, offloading.slowdown)
    points, differing = points_of(
        networks, offloading, times.with_edge(offloading.slowdown), measured
    )
    plans = planned(networks, offloading, times)
    best = plans.best if isinstance(plans.best, Plan) else None
    files = write_deployments(run.directory, best, plans.others, plans.made)
    results = Offloaded(
        points, differing, plans.every, plans.best, plans.others, plans.slower, times,
        offloading.slowdown,
    )  # fmt: skip
    facts = _facts(networks, server, offloading, times.link)
    command = _command(run.directory / DEPLOYMENT, best, networks) if best is not None else ""
    report = offload_report(
        f"Offloading: {run.name}", facts, results, offloading.distortion, command
    )
    rows = point_rows(points)
    summary: dict[str, Json] = {
        "points": [flat(point) for point in points],
        "table": rows,
        "best_plan": plans.best if isinstance(plans.best, str) else flat(plans.best),
        "plans": {name: asdict(own.promise) for name, own in files.items() if own.promise},
        "parts": [flat(part) for part in times.parts()],
        "payloads": payload_rows(times),
        "measured_link": asdict(times.link),
        **facts,
    }
    shown = f"{table(rows)}\n\nbest plan: {_best(plans.best, run, command)}"
    link = offloading.link if server.url is None else times.link
    summed_up = measured_points(points, link, offloading.label)
    conclusion = Conclusion(report, SUMMARY, summary, shown, summed_up)
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))
    (run.directory / MEASURED).unlink()


def _best(plan: Plan | str, run: Run, command: str) -> str:
    """Describe the best plan and the command that runs it, or why there is none."""
    if isinstance(plan, str):
        return plan
    return f"{plan_text(plan)}\ndeployment: {run.directory / DEPLOYMENT}\nrun it: {command}"


@contextmanager
def _going_on(run: Run, kept: KeptMeasurements) -> Iterator[None]:
    """Say how to go on with a run that lost its cloud, if it measured anything."""
    try:
        yield
    except (OffloadError, OSError) as error:
        said = str(error)
        if way := resume_hint(run.directory):
            said += f"; {len(kept)} measurements are kept, {way}"
        raise EennError(said) from error


def _live(
    kept: KeptMeasurements, networks: Networks, server: Server, every: Sequence[Offloading]
) -> tuple[list[Passage], dict[tuple[Contender, float], list[Request]]]:
    """Measure the parts, and every way to answer at every level, against the cloud.

    Args:
        every: the benchmark's settings; the first one's count where all have to be the same.
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

        cloud, ways, meter = _set_up(networks, every, client)
        passages, found = list[Passage](), dict[tuple[Contender, float], list[Request]]()
        for level in offloading.levels:
            distortion = Distortion(offloading.distortion, level)
            blocks = measure(ways, photos, distortion, kept, lambda: _check_there(cloud))
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
        return passages, found


def _set_up(
    networks: Networks, every: Sequence[Offloading], client: Callable[..., HttpCloud]
) -> tuple[HttpCloud, list[Contender], Meter]:
    """Set up the cloud that has to be there, every way to answer, and what measures the parts.

    Args:
        client: opens a client for a manifest's network and a format of features.
    """
    artifact, alone, offloading = networks.artifact, networks.alone, every[0]
    clouds = {payload: client(artifact.manifest, payload) for payload in FEATURES}
    cloud, there = clouds[FEATURES[0]], None
    cloud.check(models=cloud_models_for(artifact.manifest, offloading.experts))
    if networks.upstream is not None:
        there = networks.upstream.manifest.path, client(networks.upstream.manifest)
    ways: list[Contender] = [
        CloudContender(
            Setting(None, (), Baseline.CLOUD_ONLY),
            alone.manifest,
            alone is not artifact,
            client(alone.manifest),
            offloading.upload == "crop",
            offloading.slowdown,
        ),
        *baselines(artifact.manifest, offloading),
    ]
    for own in every:
        behind = RestTargets(clouds.get(own.payload, cloud))
        if there is not None and own.route.upstream:
            behind = RestTargets(there[1], there[0])
        ways += policy_contenders(artifact.manifest, behind, own, validation_of(networks, own))
    meter = Meter(
        Graphs.read(artifact.manifest.path), clouds, offloading.precision, offloading.experts,
        offloading.slowdown, there, lambda: _check_there(cloud),
    )  # fmt: skip
    return cloud, ways, meter


def _check_there(cloud: HttpCloud) -> None:
    """Check that a cloud that did not answer is not gone: it may be busy, or start again.

    Raises:
        OffloadError: the cloud is gone, and why.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            cloud.check()
        except CloudOverloaded:
            return
        except OffloadError:
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return


def _command(file: Path, plan: Plan, networks: Networks) -> str:
    """Give the command that runs a plan's deployment."""
    then = networks.upstream.manifest.path if plan.route.upstream and networks.upstream else None
    return device_command(networks.artifact.manifest.path, file, plan.route.rest, then)


def _facts(
    networks: Networks, server: Server, offloading: Offloading, measured: Link
) -> dict[str, str]:
    """Describe the benchmark, for the page and the summary."""
    own = server.url is None
    link = f"{offloading.link.bandwidth_mbps:g} Mbps, round trip {offloading.link.rtt_ms:g} ms"
    return {
        "artifact": _named(networks.artifact),
        "upstream network": "none" if networks.upstream is None else _named(networks.upstream),
        "images": f"{offloading.split} split",
        "cloud": "a server on this machine" if own else str(server.url),
        "link": f"emulated, {link}" if own else "as it is",
        "link as measured": f"{measured.bandwidth_mbps:.1f} Mbps, {measured.rtt_ms:.2f} ms",
        "slowdown": f"edge {offloading.slowdown:g}, cloud {server.slowdown:g}",
        "features": f"{offloading.payload}{', zstd' if offloading.compress else ''}",
        "cloud only": f"sends the photograph's {offloading.upload}"
        + ("" if offloading.experts == PLAIN_HEADS else ", answered by the plain heads"),
        "edge": f"ONNX Runtime, {offloading.precision}, 1 thread",
        "experts": str(offloading.experts),
        "distortion": offloading.distortion.replace("_", " "),
    }


def _named(artifact: EvaluatedArtifact) -> str:
    return f"{artifact.manifest.path} ({artifact.manifest.id[:12]})"
