"""An offloading benchmark: photographs through edge and cloud over a link, then its report."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
from tqdm import tqdm

from eenn.artifact.manifest import Manifest
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.evaluation.answers import answers
from eenn.evaluation.grid import exit_outputs
from eenn.evaluation.rows import Network
from eenn.exits.decide import Decisions, decide
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.base import ExitProbs, Outputs, Validation
from eenn.exits.settings import Baseline, Setting
from eenn.files import Json
from eenn.offload.bench.benchmark import Offloading, Server, asked_cloud
from eenn.offload.bench.contenders import ByCloud, ByEdge, Request, Way
from eenn.offload.bench.kept import KeptMeasurements
from eenn.offload.bench.measuring import measure as measure_parts
from eenn.offload.bench.rows import Foreseen, summarised
from eenn.offload.bench.turns import BLOCK, measure
from eenn.offload.bench.ways import every_way
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.runtime import EdgeRuntime, models_of
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.codecs import Precision
from eenn.offload.protocol.errors import CloudOverloaded, OffloadError
from eenn.planning.costs import Link
from eenn.planning.exhaustive import NoPlan, Plan, SlowerEdge, best, plan, slower_edges
from eenn.planning.times import IMAGE, Times
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.curves import way_name
from eenn.reports.offload import (
    Offloaded,
    OffloadPoint,
    offload_report,
    point_rows,
    request_cells,
)
from eenn.reports.tables import flat, headline_numbers, table, write_csv
from eenn.run_directory import MEASURED, SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

PROBES = 5  # photographs that the parts are measured on
PAUSES_S = (0.5, 1, 2)  # in which a cloud may come back


def run_offloading(
    run: Run,
    artifact: EvaluatedArtifact,
    conventional: EvaluatedArtifact | None,
    server: Server,
    offloading: Offloading,
) -> None:
    """Measure; write requests.csv, tables, figures, `report.html` and `summary.json`.

    Args:
        artifact: on the edge and in the cloud, with exported graphs.
        conventional: a network without branches for the cloud-only baseline; None takes the
            artifact's own last exit.

    Raises:
        EennError: something of the benchmark does not fit the artifact.
        OffloadError: the cloud cannot be asked, not even after a while.
    """
    alone = conventional or artifact
    kept = KeptMeasurements(run.directory / MEASURED, [artifact.manifest.id, alone.manifest.id])
    with _going_on(run, kept):
        times, measured = _live(kept, artifact, alone, server, offloading)
    write_csv(
        run.directory / "requests.csv",
        [request_cells(request) for own in measured.values() for request in own],
    )
    points, differing = _points(
        artifact, offloading, times.with_edge(offloading.slowdown), measured
    )
    plans, best, slower = _planned(artifact, offloading, times)
    results = Offloaded(points, differing, plans, best, slower, times.parts(), offloading.slowdown)
    facts = _facts(artifact, server, offloading, times.link)
    report = offload_report(f"Offloading: {run.name}", facts, results, offloading.distortion)
    rows = point_rows(points)
    summary: dict[str, Json] = {
        "points": [flat(point) for point in points],
        "table": rows,
        "best_plan": best if isinstance(best, str) else flat(best),
        "parts": [flat(part) for part in results.parts],
        "measured_link": asdict(times.link),
        **facts,
    }
    shown = f"{table(rows)}\n\nbest plan: {_sentence(best)}"
    conclusion = Conclusion(report, SUMMARY, summary, shown, headline_numbers(points))
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))
    (run.directory / MEASURED).unlink()


@contextmanager
def _going_on(run: Run, kept: KeptMeasurements) -> Iterator[None]:
    """Say how a run that is cut short goes on, if it measured anything."""
    try:
        yield
    except (KeyboardInterrupt, OffloadError, OSError) as error:
        said = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        if (run.directory / MEASURED).exists():
            said += (
                f"; {len(kept)} measurements are kept, go on with `python offload_bench.py "
                f"resume={run.directory}`"
            )
        if not isinstance(error, KeyboardInterrupt):
            raise EennError(said) from error
        # Not an error of this job alone: a sweep ends, too.
        print(said, file=sys.stderr)
        raise SystemExit(130) from None


def _live(
    kept: KeptMeasurements,
    artifact: EvaluatedArtifact,
    alone: EvaluatedArtifact,
    server: Server,
    offloading: Offloading,
) -> tuple[Times, dict[tuple[Way, float], list[Request]]]:
    """Measure the parts, and every way to answer at every level, against the cloud.

    Args:
        alone: the network of the cloud-only baseline.
    """
    photos = list(artifact.photos(offloading.split, offloading.limit))
    artifacts = dict.fromkeys((artifact.manifest.path, alone.manifest.path))
    with ExitStack() as stack:
        url = stack.enter_context(asked_cloud(server, list(map(str, artifacts)), offloading.link))

        def client(manifest: Manifest, payload: Precision = offloading.payload) -> HttpCloud:
            cloud = HttpCloud(
                url, Graphs.read(manifest.path).id, precision=payload, compress=offloading.compress,
                token=server.token, ca_file=server.ca_file,
            )  # fmt: skip
            return stack.enter_context(cloud)

        clouds = {payload: client(artifact.manifest, payload) for payload in get_args(Precision)}
        cloud = clouds[offloading.payload]
        cloud.check(models=models_of(artifact.manifest, offloading.experts))
        graphs = Graphs.read(artifact.manifest.path)
        baseline = ByCloud(
            Setting(None, (), Baseline.CLOUD_ONLY),
            alone.manifest,
            client(alone.manifest),
            offloading.upload == "crop",
            offloading.slowdown,
        )
        validation = _fitted_to(artifact, lambda: _validation(artifact, offloading))
        ways = [baseline, *every_way(artifact.manifest, cloud, offloading, validation)]
        # Last, as ways that do not fit the network are met above.
        times = kept.times(
            lambda: measure_parts(
                graphs, photos[:PROBES], clouds, offloading.precision, offloading.experts
            )
        )
        found: dict[tuple[Way, float], list[Request]] = {}
        for level in offloading.levels:
            distortion = Distortion(offloading.distortion, level)
            blocks = measure(ways, photos, distortion, kept, lambda: _check_there(cloud))
            title = f"{len(ways)} ways, {offloading.distortion} {level:g}"
            for block in tqdm(blocks, title, -(-len(photos) // BLOCK), unit="block", disable=None):
                for way, request in block:
                    found.setdefault((way, float(level)), []).append(request)
        return times, found


def _check_there(cloud: HttpCloud) -> None:
    """Check that a cloud that did not answer is not gone: it may be busy, or start again.

    Raises:
        OffloadError: it is, and why.
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


def _points(
    artifact: EvaluatedArtifact,
    offloading: Offloading,
    times: Times,
    measured: Mapping[tuple[Way, float], list[Request]],
) -> tuple[list[OffloadPoint], list[Request]]:
    """Summarise every way and level, and find the requests that did not go as the records say."""
    network = Network(f"{artifact.branches} branches", artifact.branches, artifact.split.seed)
    points, differing = [], []
    alone = {level: own for (way, level), own in measured.items() if isinstance(way, ByCloud)}
    for (way, level), requests in measured.items():
        foreseen = Foreseen()
        if isinstance(way, ByEdge) and way.setting.baseline is None:
            decisions = _recorded(artifact, offloading, way.runtime, requests)
            same = np.array([r.outcome.exit - 1 for r in requests]) == decisions.taken
            same &= np.array([r.outcome.label for r in requests]) == decisions.label
            same |= np.array([bool(r.outcome.failure) for r in requests])
            others = [r for r, is_same in zip(requests, same, strict=True) if not is_same]
            predicted_ms = times.latency_ms(decisions, offloading.payload)
            foreseen = Foreseen(predicted_ms, float(len(others)))
            differing += others
        points.append(OffloadPoint(network, summarised(requests, alone[level]), foreseen))
    return points, differing


def _planned(
    artifact: EvaluatedArtifact, offloading: Offloading, times: Times
) -> tuple[list[Plan], Plan | str, list[SlowerEdge]]:
    """Plan by the exits of validation: all plans, the best one or why there is none, and slower
    edges."""
    outputs = _validation(artifact, offloading)
    policies = offloading.policies[0].policies(_fitted_to(artifact, lambda: outputs))
    offered = times.with_edge(offloading.slowdown)
    if offloading.experts != PLAIN_HEADS:
        # The cloud answers whole images with the plain heads, and these are the experts' outputs.
        requests = {way: cost for way, cost in times.requests.items() if way != (0, IMAGE)}
        offered = replace(offered, requests=requests)
    plans = plan(offered, outputs, policies)
    enough = offloading.min_accuracy
    if enough is None:
        enough = float((outputs.exits[-1].prediction == outputs.labels).mean()) - 0.01
    chosen: Plan | str
    try:
        chosen = best(plans, enough, offloading.plan_deadline_ms or np.inf)
    except NoPlan as error:
        # What was measured is worth its report all the same.
        chosen = str(error)
    every_branch = tuple(range(artifact.branches))
    # Lines of knobs between would lie between.
    ends = dict.fromkeys((policies[0], policies[-1])) if every_branch else {}
    ways = {
        way_name(Setting(policy, every_branch)): decide(policy, outputs.exits, every_branch)
        for policy in ends
    }
    return plans, chosen, slower_edges(times, ways, offloading.payload)


def _recorded(
    artifact: EvaluatedArtifact,
    offloading: Offloading,
    runtime: EdgeRuntime,
    requests: Sequence[Request],
) -> Decisions:
    """Decide by the recorded logits of the same images."""
    records, temperatures = answers(
        artifact,
        offloading.split,
        offloading.distortion,
        requests[0].level,
        offloading.experts,
        offloading.temperature,
    )
    place = {sample_id: at for at, sample_id in enumerate(records.sample_ids)}
    chosen = [place[request.image] for request in requests]
    exits = [
        ExitProbs(output.exit, output.probs[chosen])
        for output in exit_outputs(records, temperatures).exits
    ]
    return decide(runtime.policy, exits, runtime.active)


def _validation(artifact: EvaluatedArtifact, offloading: Offloading) -> Outputs:
    """The calibrated probabilities of undistorted validation images."""
    experts, temperature = offloading.experts, offloading.temperature
    return exit_outputs(*answers(artifact, "val", offloading.distortion, 0, experts, temperature))


def _fitted_to(artifact: EvaluatedArtifact, read: Callable[[], Outputs]) -> Validation:
    return Validation(artifact.manifest.validation_accuracy, read)


def _sentence(plan: Plan | str) -> str:
    if isinstance(plan, str):
        return plan
    setting = plan.setting
    way = f"branches {setting.branches}, {way_name(setting)}" if setting.active else "none"
    return (
        f"{way}, {plan.payload}: {plan.latency_ms:.2f} ms, accuracy "
        f"{100 * plan.accuracy:.1f} %, {100 * plan.edge_probability:.1f} % on the edge"
    )


def _facts(
    artifact: EvaluatedArtifact, server: Server, offloading: Offloading, measured: Link
) -> dict[str, str]:
    """What was measured, for the page and the summary."""
    own = server.url is None
    link = f"{offloading.link.bandwidth_mbps:g} Mbps, round trip {offloading.link.rtt_ms:g} ms"
    return {
        "artifact": f"{artifact.manifest.path} ({artifact.manifest.id[:12]})",
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
