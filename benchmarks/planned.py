"""The planner's choice against the fastest way, on every link and on slower and slower edges.

    python -m benchmarks.planned --artifact DIR --images DIR
    python -m benchmarks.planned --artifact DIR --upstream DIR --min-accuracy 0.91 --out FILE

For each link of conf/link and each slowdown of the edge the parts are measured, a plan is chosen
under an accuracy limit (by default one point below the last exit's on validation), and it runs live
beside the best plan of every other kind that keeps the limit, beside cloud only and the whole
network on the device where these keep it, and beside the plans of named planners. The ways take
turns on the same photographs of the validation split, after a warm-up. Of every way the median at
each exit counts, weighted by the number of validation images that stop there, so that neither a
late sample nor the luck of few photographs decides; an exit that none of the photographs stopped at
counts as predicted. Writes results/planned.json and
results/planned-planners.png.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from benchmarks.planned_figure import planners_figure
from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.threshold import CURVE, DEFAULT
from eenn.exits.settings import ActiveBranches, Swept
from eenn.files import Json, JsonObject, write_json
from eenn.offload.bench.benchmark import Offloading, Server, open_cloud
from eenn.offload.bench.contender_setup import RestTargets, policy_contenders
from eenn.offload.bench.contenders import EdgeContender, Outcome
from eenn.offload.bench.deployments import deployed_offloading, deployment_of
from eenn.offload.bench.measuring import Meter, times_of
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.pieces import borders
from eenn.offload.protocol.codecs import PAYLOADS as FEATURES
from eenn.planning.costs import Link
from eenn.planning.exhaustive import WITHOUT_BRANCHES, Plan, decisions_of
from eenn.planning.planners.comparison import Comparison
from eenn.planning.times import WHOLE_PHOTOGRAPH, Route
from eenn.provenance import processor, provenance
from eenn.reports.figures import save_figure
from eenn.workflows.jobs import exported
from eenn.workflows.offload_plans import Networks, Plans, planned, validation_of

SLOWDOWNS = (1.0, 5.0, 10.0, 30.0)
MOST, FEWEST, BLOCK, WARM_UP, PROBED = 200, 40, 10, 2, 16  # photographs
AT_MOST = 1.1
LINKS = Path("conf/link")
RESULT = Path("results/planned.json")
# The threshold of planners that choose none, as Pacheco et al. (2021a) have it.
PUBLISHED = 0.8
NAMED = ("joint", "neurosurgeon", "dads", "shortest_path", "edgent", "spinn", "flexdnn")
PRISTINE = Distortion("gaussian_blur", 0)


@dataclass(frozen=True)
class Bench:
    """The networks, and the clients of a cloud that has them behind one link."""

    networks: Networks
    photos: Sequence[Photo]
    clouds: dict[str, HttpCloud]
    upstream: tuple[Path, HttpCloud] | None


def offloading_on(link: Link, slowdown: float, min_accuracy: float | None) -> Offloading:
    """Set out the benchmark that is planned for."""
    return Offloading(
        split="val", limit=MOST, policies=[Swept(DEFAULT, {}, (PUBLISHED, *CURVE))], p_tars=[],
        active=ActiveBranches(), distortion="gaussian_blur", levels=[0.0], link=link,
        payload="uint8", compress=False, upload="file", experts=PLAIN_HEADS,
        temperature="per_exit", precision="fp32", slowdown=slowdown, deadline_ms=None,
        min_accuracy=min_accuracy, plan_deadline_ms=None, comparison=Comparison(NAMED),
    )  # fmt: skip


def competitors(plans: Plans, min_accuracy: float | None) -> dict[str, Plan]:
    """Name the plans that keep the limit: of every kind the best, cloud only, the whole network."""
    found = {str(replace(plan.route, further=0)): plan for plan in plans.others}
    for name, route in (("cloud only", WHOLE_PHOTOGRAPH), ("whole network", Route("device"))):
        (alone,) = (p for p in plans.every if not p.setting.active and p.route == route)
        if alone not in found.values() and alone.accuracy >= (min_accuracy or 0.0):
            found[name] = alone
    return found


def way_of(plan: Plan, plans: Plans, bench: Bench, offloading: Offloading) -> EdgeContender:
    """Set up a plan as its deployment says."""
    deployment = replace(deployment_of(plan, plans.made), deadline_ms=60_000.0)
    deployed = deployed_offloading(offloading, deployment)
    behind = RestTargets(bench.clouds.get(deployment.payload, bench.clouds[FEATURES[0]]))
    if plan.route.upstream and bench.upstream is not None:
        behind = RestTargets(bench.upstream[1], bench.upstream[0])
    validation = validation_of(bench.networks, deployed)
    (way,) = policy_contenders(bench.networks.artifact.manifest, behind, deployed, validation)
    assert isinstance(way, EdgeContender)
    return way


def answered(ways: dict[str, EdgeContender], photos: Sequence[Photo]) -> dict[str, list[Outcome]]:
    """Answer every photograph in every way, the ways taking turns."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for start in range(0, len(photos), BLOCK):
        for name, way in ways.items():
            for photo in photos[:WARM_UP]:
                way.answer(photo, PRISTINE)
            for photo in photos[start : start + BLOCK]:
                found[name].append(way.answer(photo, PRISTINE))
    return found


def live_ms(plan: Plan, plans: Plans, outcomes: Sequence[Outcome]) -> float:
    """Weight the median at every exit by the number of validation images that stop there."""
    made, policy = plans.made, plan.setting.policy or WITHOUT_BRANCHES
    outputs = made.cascade if plan.route.upstream and made.cascade else made.outputs
    decisions = decisions_of(outputs, policy, plan.setting.active, plan.route)
    predicted_ms = made.times.answer_ms(decisions, plan.route)
    total = 0.0
    for exit in np.unique(decisions.taken).tolist():
        here = decisions.taken == exit
        took = [o.latency_ms for o in outcomes if o.exit - 1 == exit and not o.failure]
        ms = statistics.median(took) if took else float(predicted_ms[here].mean())
        total += float(here.mean()) * ms
    return total


def spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """Take `count` photographs, evenly spread."""
    step = len(photos) / count
    return [photos[int(step * at)] for at in range(count)]


def cell(bench: Bench, link: Link, slowdown: float, min_accuracy: float | None) -> JsonObject:
    """Plan for one link and edge, and run the chosen plan beside all others.

    A slower edge answers fewer photographs: there the ways differ by more than their samples.
    """
    offloading = offloading_on(link, slowdown, min_accuracy)
    meter = Meter(
        Graphs.read(bench.networks.artifact.manifest.path), bench.clouds, offloading.precision,
        offloading.experts, slowdown, bench.upstream, lambda: None,
    )  # fmt: skip
    probed = spread(bench.photos, PROBED)
    photos = spread(bench.photos, max(FEWEST, round(MOST / slowdown)))
    at = borders(bench.networks.artifact.manifest)
    plans = planned(bench.networks, offloading, times_of(meter.passages(probed), slowdown, at))
    assert isinstance(plans.best, Plan)
    keeping = competitors(plans, min_accuracy)
    named = dict(keeping)
    for row in plans.compared:
        if row.plan not in named.values():
            named[row.planner] = row.plan
    ways = {name: way_of(plan, plans, bench, offloading) for name, plan in named.items()}
    outcomes = answered(ways, photos)
    rows: dict[str, Json] = {}
    measured = {}
    for name, plan in named.items():
        measured[name] = live_ms(plan, plans, outcomes[name])
        rows[name] = {
            "active": plan.setting.branches,
            "policy": plan.setting.policy_text,
            "predicted_ms": plan.latency_ms,
            "measured_ms": measured[name],
            "accuracy": plan.accuracy,
            "edge_probability": plan.edge_probability,
            "sent_bytes": plan.sent_bytes,
            "failed": sum(bool(outcome.failure) for outcome in outcomes[name]),
        }
    chosen = next(name for name, plan in named.items() if plan == plans.best)
    # All of them keep the limit; without one, cloud only answers as the last exit does.
    fastest = min(keeping, key=measured.__getitem__)
    return {
        "slowdown": slowdown,
        "chosen": chosen,
        "fastest": fastest,
        "ratio": measured[chosen] / measured[fastest],
        "photographs": len(photos),
        "ways": rows,
        "planners": {
            row.planner: {
                "way": next(name for name, plan in named.items() if plan == row.plan),
                "cut": row.plan.cut,
                "rest": str(row.plan.route),
                "keeps_limits": row.keeps_limits,
                "regret": row.regret,
            }
            for row in plans.compared
        },
        "measured_link": asdict(plans.made.times.link),
    }


def cells(
    networks: Networks, slowdowns: Sequence[float], min_accuracy: float | None
) -> Iterator[JsonObject]:
    """Measure every link and every slowdown."""
    photos = list(networks.artifact.photos("val", MOST))
    paths = [str(network.manifest.path) for network in networks.every]
    server = Server(None, None, None, 1.0)
    for file in sorted(LINKS.glob("*.yaml")):
        link = Link(**yaml.safe_load(file.read_text()))
        with ExitStack() as stack:
            url = stack.enter_context(open_cloud(server, list(dict.fromkeys(paths)), link))
            own, upstream = Graphs.read(networks.artifact.manifest.path), None
            clouds = {
                str(payload): stack.enter_context(HttpCloud(url, own.id, precision=payload))
                for payload in FEATURES
            }
            if networks.upstream is not None:
                there = Graphs.read(networks.upstream.manifest.path)
                upstream = there.manifest.path, stack.enter_context(HttpCloud(url, there.id))
            bench = Bench(networks, photos, clouds, upstream)
            for slowdown in slowdowns:
                found = {
                    "link": file.stem,
                    **asdict(link),
                    **cell(bench, link, slowdown, min_accuracy),
                }
                print(
                    f"{file.stem}, edge slower by {slowdown:g}: chose {found['chosen']}, fastest "
                    f"{found['fastest']}, ratio {found['ratio']:.3f}",
                    flush=True,
                )
                yield found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="the planner's choice against all other plans, live"
    )
    parser.add_argument("--artifact", required=True, help="directory of an artifact, or latest")
    parser.add_argument("--upstream", help="directory of another network with the same classes")
    parser.add_argument("--min-accuracy", type=float, help="of a plan, on validation images")
    parser.add_argument("--out", type=Path, default=RESULT, help="file to write")
    parser.add_argument("--images", help="folder of class folders that it was trained on")
    given = parser.parse_args()
    artifact = exported(given.artifact, given.images)
    upstream = exported(given.upstream, given.images) if given.upstream else None
    rows = list(cells(Networks(artifact, None, upstream), SLOWDOWNS, given.min_accuracy))
    within = sum(float(str(row["ratio"])) <= AT_MOST for row in rows)
    result: JsonObject = {
        "cells": rows,
        "at_most": AT_MOST,
        "within": within,
        "min_accuracy": given.min_accuracy,
        **provenance(artifact.split.seed, artifact.title, f"{processor()}, 1 thread"),
    }
    write_json(given.out, result)
    save_figure(planners_figure(rows), given.out.with_name(f"{given.out.stem}-planners.png"))
    print(f"{within} of {len(rows)} within {AT_MOST}\nwrote {given.out}")


if __name__ == "__main__":
    main()
