"""An offloading benchmark: photographs through edge and cloud over a link, then its report."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.errors import EennError
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.files import Json
from eenn.offload.bench.benchmark import Offloading, Server
from eenn.offload.bench.deployments import write_deployments
from eenn.offload.bench.kept import KeptMeasurements
from eenn.offload.protocol.errors import OffloadError
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
from eenn.reports.planners import compared_cells, compared_rows
from eenn.reports.summed_up import measured as measured_points
from eenn.reports.tables import flat, table, write_csv
from eenn.run_directory import MEASURED, SUMMARY, resume_hint
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.offload_live import measure_live
from eenn.workflows.offload_plans import Networks, points_of
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker


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
        live = measure_live(kept, networks, server, [offloading, *beside])
    times, plans = live.times, live.plans
    write_csv(
        run.directory / "requests.csv",
        [request_cells(request) for own in live.measured.values() for request in own],
    )
    points, differing = points_of(
        networks, offloading, times.with_edge(offloading.slowdown), live.measured
    )
    best = plans.best if isinstance(plans.best, Plan) else None
    files = write_deployments(run.directory, best, plans.others, plans.made)
    results = Offloaded(
        points, differing, plans.every, plans.best, plans.others, plans.slower, times,
        offloading.slowdown, plans.compared, live.compared,
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
        "compared": [compared_cells(one, live.compared[one.planner]) for one in plans.compared],
        "parts": [flat(part) for part in times.parts()],
        "payloads": payload_rows(times),
        "measured_link": asdict(times.link),
        **facts,
    }
    tables = filter(None, [rows, compared_rows(plans.compared, live.compared)])
    shown = "\n\n".join([*map(table, tables), f"best plan: {_best(plans.best, run, command)}"])
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
