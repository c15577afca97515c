"""An offloading benchmark: photographs through edge and cloud over a link, then its report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from eenn.artifact.manifest import Manifest
from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.errors import EennError, require_numbers
from eenn.evaluation.answers import answers
from eenn.evaluation.grid import exit_outputs
from eenn.exits.decide import Decisions, decide
from eenn.exits.head_sets import PLAIN
from eenn.exits.policies import ExitProbs, Policy, make_policy
from eenn.exits.settings import (
    CLOUD_ONLY,
    EARLY_ON_EDGE,
    EDGE_ONLY,
    WHOLE_ON_EDGE,
    active_sets,
    has_threshold,
    setting_of,
)
from eenn.files import write_json
from eenn.offload.bench.contenders import BLOCK, ByCloud, ByEdge, Way, measure
from eenn.offload.bench.link import EmulatedLink
from eenn.offload.bench.measuring import measure as measure_parts
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.edge.runtime import EdgeRuntime, asked_for
from eenn.offload.graphs.index import Graphs
from eenn.offload.protocol.codecs import Precision
from eenn.planning import exhaustive
from eenn.planning.costs import Link
from eenn.planning.times import IMAGE, Times
from eenn.records.evaluated_artifact import Subject
from eenn.reports.offload import Offloaded, printed, summarised, write_offloaded
from eenn.reports.tables import table, write_csv
from eenn.run_directory import SUMMARY
from eenn.statistics.intervals import Row
from eenn.workflows.run import Run
from eenn.workflows.tracking import publish_tables

UPLOADS = ("file", "crop")
PROBES = 5  # photographs that the parts are measured on


@dataclass(frozen=True)
class Server:
    """The cloud to ask: one of our own behind an emulated link, or a live one.

    Args:
        url: of the live one; None starts our own.
        token: bearer token of the live one.
        ca_file: certificates that the live one is trusted by.
        slowdown: of our own; as of `EdgeRuntime`.

    Raises:
        EennError: what belongs to the one is given for the other.
    """

    url: str | None
    token: str | None
    ca_file: str | None
    slowdown: float

    def __post_init__(self) -> None:
        require_numbers(slowdown=self.slowdown)
        if self.url is None and (self.token or self.ca_file):
            raise EennError("cloud.token_file and cloud.ca_file go with cloud.url; give that too")
        if self.url is not None and self.slowdown != 1:
            raise EennError("cloud.slowdown goes without cloud.url: only our own server has it")


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        limit: photographs at most, spread over the split; None for all.
        policies: settings by name of policy.
        payload: format of the features that are sent; `compress` requests with zstd.
        upload: what cloud only sends: the photograph's `file`, or the network's `crop`.
        experts: whose heads answer, as of `EdgeRuntime`; those of cloud only are the plain ones.
        precision: of the edge's stages.
        slowdown: of the edge.
        deadline_ms: of every answer; None leaves it to the client's own limits.
        min_accuracy, plan_deadline_ms: what the best plan has to keep; see `planner.best`. None is
            one point below the last exit's accuracy, and no deadline.

    Raises:
        EennError: a choice that there is not.
    """

    split: str
    limit: int | None
    policies: Mapping[str, Mapping[str, Any]]
    p_tars: Sequence[float]
    active: Sequence[int | Sequence[int]] | int | None
    distortion: str
    levels: Sequence[float]
    link: Link
    payload: Precision
    compress: bool
    upload: str
    experts: str
    precision: str
    slowdown: float
    deadline_ms: float | None
    min_accuracy: float | None
    plan_deadline_ms: float | None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("payload", self.payload, get_args(Precision)),
            ("upload", self.upload, UPLOADS),
        ):
            if value not in allowed:
                raise EennError(f"{name}={value}: allowed are {', '.join(allowed)}")
        require_numbers(**{"edge.slowdown": self.slowdown})
        require_numbers(**{"plan.min_accuracy": self.min_accuracy or 0.0})
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise EennError(
                f"limit={self.limit}: allowed is 1 or more photographs, or null for all"
            )
        if self.slowdown < 1:
            raise EennError(f"edge.slowdown={self.slowdown}: allowed is 1 or more")
        if self.upload == "file" and any(self.levels):
            raise EennError("distortion.level with upload=file: the file is pristine; upload=crop")


def run_offloading(
    run: Run, subject: Subject, conventional: Subject | None, server: Server, plan: Plan
) -> None:
    """Measure; write requests.csv, tables, figures, `report.html` and `summary.json`.

    Args:
        subject: the artifact on the edge and in the cloud, with exported graphs.
        conventional: a network without branches for the cloud-only baseline; None takes the
            subject's own last exit.

    Raises:
        EennError: something of the plan does not fit the artifact.
        OffloadError: the cloud cannot be asked, or fails where nobody else can answer.
    """
    photos = list(subject.photos(plan.split, plan.limit))
    alone = conventional or subject
    artifacts = dict.fromkeys((subject.manifest.path, alone.manifest.path))
    with ExitStack() as stack:
        url = stack.enter_context(_cloud(server, list(map(str, artifacts)), plan.link))

        def client(manifest: Manifest, payload: Precision = plan.payload) -> HttpCloud:
            cloud = HttpCloud(
                url, manifest.id, precision=payload, compress=plan.compress, token=server.token,
                ca_file=server.ca_file,
            )  # fmt: skip
            return stack.enter_context(cloud)

        clouds = {payload: client(subject.manifest, payload) for payload in get_args(Precision)}
        clouds[plan.payload].check(head_sets=asked_for(subject.manifest, plan.experts))
        graphs = Graphs.read(subject.manifest.path)
        times = measure_parts(graphs, photos[:PROBES], clouds, plan.precision, plan.experts)
        baseline = ByCloud(
            setting_of(CLOUD_ONLY, np.nan, (), most_active=True),
            alone.manifest,
            client(alone.manifest),
            plan.upload == "crop",
            plan.slowdown,
        )
        ways = [baseline, *_ways(subject, clouds[plan.payload], plan)]
        measured = _measure(run, ways, photos, plan)
    points, differing = _points(subject, plan, times.with_edge(plan.slowdown), measured)
    plans, best, slower = _planned(subject, plan, times)
    results = Offloaded(points, differing, plans, best, slower, times.rows(), plan.slowdown)
    facts = _facts(subject, server, plan, times.link)
    title = f"Offloading: {run.name}"
    origin = {key.replace("_", " "): str(value) for key, value in run.provenance.items()}
    shown_facts = {**facts, **origin, "overrides": " ".join(run.provenance["overrides"]) or "none"}
    pngs = write_offloaded(run.directory, title, shown_facts, results, plan.distortion)
    shown = printed(points)
    summary = {
        "points": points,
        "table": shown,
        "best_plan": best,
        "parts": results.parts,
        "measured_link": asdict(times.link),
        **facts,
        **run.provenance,
    }
    write_json(run.directory / SUMMARY, summary)
    print(f"\n{table(shown)}\n\nbest plan: {_sentence(best)}")
    print(f"report: {run.directory / 'report.html'}\n")
    if run.project:
        publish_tables(
            run.directory,
            run.name,
            run.group,
            run.project,
            run.settings,
            {"points": points, "plans": plans},
            points,
            pngs,
        )


def _measure(
    run: Run, ways: Sequence[Way], photos: Sequence[Photo], plan: Plan
) -> dict[tuple[Way, float], list[Row]]:
    """The rows of every way at every level, and all of them in requests.csv."""
    found: dict[tuple[Way, float], list[Row]] = {}
    partial = run.directory / "requests.partial.csv"
    for level in plan.levels:
        blocks = measure(ways, photos, Distortion(plan.distortion, level))
        title = f"{len(ways)} ways, {plan.distortion} {level:g}"
        for block in tqdm(blocks, title, -(-len(photos) // BLOCK), unit="block", disable=None):
            for way, row in block:
                found.setdefault((way, float(level)), []).append(row)
            # What was measured is kept if the run is cut short.
            write_csv(partial, [row for rows in found.values() for row in rows])
    partial.rename(run.directory / "requests.csv")
    return found


def _points(
    subject: Subject, plan: Plan, times: Times, measured: Mapping[tuple[Way, float], list[Row]]
) -> tuple[list[Row], list[Row]]:
    """A row for every way and level, and the requests that did not go as the records say."""
    network = {
        "network": f"{subject.branches} branches",
        "branches": subject.branches,
        "seed": subject.split.seed,
    }
    points, differing = [], []
    alone = {level: rows for (way, level), rows in measured.items() if isinstance(way, ByCloud)}
    for (way, level), rows in measured.items():
        point = {**network, **summarised(rows, alone[level])}
        point |= {"predicted_ms": np.nan, "differing": np.nan}
        if isinstance(way, ByEdge) and way.setting["policy"] in plan.policies:
            decisions = _recorded(subject, plan, way.runtime, rows)
            point["predicted_ms"] = times.latency_ms(decisions, plan.payload)
            same = np.array([row["exit"] - 1 for row in rows]) == decisions.taken
            same &= np.array([row["label"] for row in rows]) == decisions.label
            others = [row for row, is_same in zip(rows, same, strict=True) if not is_same]
            point["differing"] = float(len(others))
            differing += others
        points.append(point)
    return points, differing


def _planned(subject: Subject, plan: Plan, times: Times) -> tuple[list[Row], Row, list[Row]]:
    """All plans, the best one, and what slower edges would take, by the exits of validation."""
    validation, temperatures = answers(subject, "val", plan.distortion, 0, plan.experts, "per_exit")
    outputs = exit_outputs(validation, temperatures)
    name = next(iter(plan.policies))
    policies = _policies(subject, plan, name)
    offered = times.with_edge(plan.slowdown)
    if plan.experts != PLAIN:
        # The cloud answers whole images with the plain heads, and these are the experts' outputs.
        requests = {way: cost for way, cost in times.requests.items() if way != (0, IMAGE)}
        offered = replace(offered, requests=requests)
    plans = exhaustive.plan(offered, outputs, validation.labels, policies)
    enough = plan.min_accuracy
    if enough is None:
        enough = float((outputs[-1].prediction == validation.labels).mean()) - 0.01
    best = exhaustive.best(plans, enough, plan.plan_deadline_ms or np.inf)
    every_branch = tuple(range(subject.branches))
    # Lines of thresholds between would lie between.
    ways = {
        f"{name}, {p_tar:g}": decide(policies[p_tar], outputs, every_branch)
        for p_tar in dict.fromkeys((min(policies), max(policies)))
        if every_branch
    }
    return plans, best, exhaustive.slower_edges(times, ways, plan.payload)


def _recorded(subject: Subject, plan: Plan, runtime: EdgeRuntime, rows: Sequence[Row]) -> Decisions:
    """What the recorded logits of the same images lead to."""
    level = rows[0]["level"]
    records, temperatures = answers(
        subject, plan.split, plan.distortion, level, plan.experts, "per_exit"
    )
    place = {sample_id: at for at, sample_id in enumerate(records.sample_ids)}
    chosen = [place[row["image"]] for row in rows]
    outputs = [
        ExitProbs(output.exit, output.probs[chosen])
        for output in exit_outputs(records, temperatures)
    ]
    return decide(runtime.policy, outputs, runtime.active)


@contextmanager
def _cloud(server: Server, artifacts: Sequence[str], link: Link) -> Iterator[str]:
    """The URL of the cloud."""
    if server.url is not None:
        yield server.url
        return
    with running(artifacts, slowdown=server.slowdown) as own:
        target = urlsplit(own.url)
        assert target.hostname
        assert target.port
        with EmulatedLink(target.hostname, target.port, link) as emulated:
            yield f"http://{emulated.host}:{emulated.port}"


def _ways(subject: Subject, cloud: HttpCloud, plan: Plan) -> Iterator[Way]:
    path, branches = subject.manifest.path, subject.branches
    actives = [active for active in active_sets(plan.active, branches) if active]
    largest = max(actives, key=len, default=())

    def runtime(
        policy: Policy, active: tuple[int, ...], behind: HttpCloud | LocalCloud | None
    ) -> EdgeRuntime:
        return EdgeRuntime(
            path,
            policy,
            active,
            behind,
            plan.precision,
            deadline_ms=plan.deadline_ms,
            slowdown=plan.slowdown,
            experts=plan.experts,
        )

    never = make_policy("confidence", {"p_tar": 1.0, "fallback_to": "last_exit"})
    whole = LocalCloud(path, plan.precision, slowdown=plan.slowdown)
    yield ByEdge(
        setting_of(WHOLE_ON_EDGE, np.nan, (), most_active=True),
        runtime(never, (), whole),
        None,
        on_edge=True,
    )
    if not actives:
        return
    for p_tar in plan.p_tars:
        policy = make_policy("confidence", {"p_tar": p_tar, "fallback_to": "last_exit"})
        own = setting_of(EDGE_ONLY, p_tar, largest, most_active=True)
        yield ByEdge(own, runtime(policy, largest, None), None)
        own = setting_of(EARLY_ON_EDGE, p_tar, largest, most_active=True)
        yield ByEdge(own, runtime(policy, largest, whole), None, on_edge=True)
    for name in plan.policies:
        for p_tar, policy in _policies(subject, plan, name).items():
            for active in actives:
                own = setting_of(name, p_tar, active, active == largest)
                yield ByEdge(own, runtime(policy, active, cloud), cloud)


def _policies(subject: Subject, plan: Plan, name: str) -> dict[float, Policy]:
    """The policy of that name at every threshold, or at NaN if it has none."""
    given = {"weights": subject.manifest.validation_accuracy[:-1], **plan.policies[name]}
    p_tars = plan.p_tars if has_threshold(name) else [np.nan]
    return {p_tar: make_policy(name, {**given, "p_tar": p_tar}) for p_tar in p_tars}


def _sentence(plan: Row) -> str:
    branches = f"branches {plan['active']} at p_tar {plan['p_tar']:g}" if plan["active"] else "none"
    return (
        f"{branches}, {plan['payload']}: {plan['latency_ms']:.2f} ms, accuracy "
        f"{100 * plan['accuracy']:.1f} %, {100 * plan['edge_probability']:.1f} % on the edge"
    )


def _facts(subject: Subject, server: Server, plan: Plan, measured: Link) -> dict[str, str]:
    """What was measured, for the page and the summary."""
    own = server.url is None
    link = f"{plan.link.bandwidth_mbps:g} Mbps, round trip {plan.link.rtt_ms:g} ms"
    return {
        "artifact": f"{subject.manifest.path} ({subject.manifest.id[:12]})",
        "images": f"{plan.split} split",
        "cloud": "a server on this machine" if own else str(server.url),
        "link": f"emulated, {link}" if own else "as it is",
        "link as measured": f"{measured.bandwidth_mbps:.1f} Mbps, {measured.rtt_ms:.2f} ms",
        "slowdown": f"edge {plan.slowdown:g}, cloud {server.slowdown:g}",
        "features": f"{plan.payload}{', zstd' if plan.compress else ''}",
        "cloud only": f"sends the photograph's {plan.upload}"
        + ("" if plan.experts == PLAIN else ", answered by the plain heads"),
        "edge": f"ONNX Runtime, {plan.precision}, 1 thread",
        "experts": plan.experts,
        "distortion": plan.distortion.replace("_", " "),
    }
