"""An evaluation: records of every artifact and level, then every table and figure from those."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.artifact.deployment import Upstream
from eenn.errors import EennError, require_numbers
from eenn.evaluation.answers import answers, check_experts, costs
from eenn.evaluation.cascades import cascade_costs, cascaded, check_upstream
from eenn.evaluation.exit_metrics import exit_quality
from eenn.evaluation.fitting import Fitted, Goal, fit
from eenn.evaluation.grid import (
    Case,
    Decided,
    Service,
    by_baselines,
    by_policies,
    exit_outputs,
    exits_taken,
    point,
    tradeoff,
)
from eenn.evaluation.promises import best_of, deployment_of
from eenn.evaluation.rows import ExitTaken, Network, Point, Results
from eenn.exits.head_sets import DEPLOYED, PLAIN_HEADS, HeadChoice
from eenn.exits.policies.base import KnobValue, Validation
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.exits.settings import ActiveBranches, Baseline, Swept
from eenn.files import Json
from eenn.offload.protocol.codecs import BYTES_OF
from eenn.planning.costs import CostModel, Link
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.records.records import ExitRecords
from eenn.reports.evaluation import (
    Drawing,
    evaluation_report,
    fitted_cells,
    point_rows,
    reliability,
)
from eenn.reports.figures import Drawn, reliability_figure
from eenn.reports.tables import flat, headline_numbers, table
from eenn.run_directory import SUMMARY
from eenn.statistics.risk_control import Infeasible
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation computes.

    Args:
        policies: curves against a knob are the first one's.
        p_tars: thresholds of the baselines.
        levels: of the distortion; 0 is none. What is drawn at one level is drawn at the first.
        temperature: `per_exit`, `shared` or `none`.
        experts: who answers.
        goal: what a knob is fitted to on the validation split at level 0, or None.
        upstream: a network that answers from the photograph what no active branch accepts.
        rest, payload: as of `Deployment`.

    Raises:
        EennError: nothing to compute, a level twice, or a fit reported on what it was fitted to.
    """

    split: str
    policies: Sequence[Swept]
    p_tars: Sequence[KnobValue]
    active: ActiveBranches
    distortion: str
    levels: Sequence[float]
    temperature: str
    experts: HeadChoice
    link: Link
    service: Service
    goal: Goal | None
    upstream: EvaluatedArtifact | None = None
    rest: str = CLOUD
    payload: str = "fp32"

    def __post_init__(self) -> None:
        if not self.p_tars:
            raise EennError("p_tar=[]: allowed is a number or a list of them")
        for level in self.levels:
            require_numbers(level=level)
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise EennError(
                f"distortion.level={list(self.levels)}: allowed is a number, or a list of "
                "different numbers"
            )
        if self.goal and self.split == "val":
            raise EennError("fit with split=val: thresholds are fitted there; use split=test")


def run_evaluation(
    run: Run, artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation
) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Raises:
        EennError: the same artifact twice.
    """
    named = with_names(artifacts, evaluation.upstream)
    results, fitted, unmet = evaluate(named, evaluation)
    for line in unmet:
        log.warning("%s", line)
    # Where networks differ in their seed alone, the first stands for them.
    drawn: dict[str, EvaluatedArtifact] = {}
    for name, artifact in named:
        drawn.setdefault(name, artifact)
    drawing = Drawing(
        results,
        next((row.setting.policy.label for row in results.points if row.setting.policy), ""),
        {name: artifact.profile for name, artifact in drawn.items()},
        evaluation.distortion,
        evaluation.service,
    )
    report = evaluation_report(
        f"Evaluation: {run.name}",
        {**_facts(artifacts, evaluation), **({"not fitted": " | ".join(unmet)} if unmet else {})},
        drawing,
        fitted,
        list(_reliability(drawn, evaluation)),
    )
    headline = _headline(results.points, evaluation.active.chosen)
    rows = point_rows(headline)
    ends = {f"{level:g}" for level in (min(evaluation.levels), max(evaluation.levels))}
    summary: dict[str, Json] = {
        "points": [flat(row) for row in headline],
        "table": rows,
        "thresholds": [fitted_cells(each) for each in fitted],
        "not_fitted": unmet,
        "distortion": evaluation.distortion,
        "experts": str(evaluation.experts),
        "median_ms": {n: asdict(profile.median) for n, profile in drawing.profiles.items()},
        **described(artifacts, evaluation),
    }
    shown = table(row for row in rows if row.get("level", "0") in ends or len(ends) == 1)
    if fitted:
        shown = f"{shown}\n\n{_deployed(run, named, evaluation, fitted)}"
    conclusion = Conclusion(report, SUMMARY, summary, shown, headline_numbers(headline))
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))


def _deployed(
    run: Run,
    named: Sequence[tuple[str, EvaluatedArtifact]],
    evaluation: Evaluation,
    fitted: Sequence[Fitted],
) -> str:
    """Write the best of what was fitted as a deployment, and say what it promises."""
    chosen = best_of(fitted)
    if evaluation.experts.how not in DEPLOYED:
        return f"no {DEPLOYMENT}: experts={evaluation.experts} are for evaluations only"
    network = chosen.validation.network
    (manifest,) = (
        artifact.manifest
        for name, artifact in named
        if (name, artifact.split.seed) == (network.network, network.seed)
    )
    deployment = replace(
        deployment_of(chosen, manifest.id, evaluation.temperature, evaluation.experts),
        **_rest_of(evaluation),
    )
    path = run.directory / DEPLOYMENT
    deployment.save(path)
    setting = deployment.setting
    way = f"{setting.policy_text}, branches {setting.branches}"
    return f"deployment: {path}\n{way} of {manifest.path}; {deployment.promise}"


def _rest_of(evaluation: Evaluation) -> dict[str, Any]:
    """Name the rest that an evaluation has, as fields of `Deployment`."""
    if evaluation.upstream is None:
        return {"rest": evaluation.rest, "payload": evaluation.payload}
    manifest = evaluation.upstream.manifest
    temperature = manifest.temperatures.chosen(evaluation.temperature)[-1]
    upstream = Upstream(manifest.id, temperature)
    return {"rest": evaluation.rest, "payload": PHOTOGRAPH, "upstream": upstream}


def described(artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation) -> dict[str, Json]:
    """Describe what was evaluated, for a summary."""
    return {
        "artifacts": {each.manifest.id: str(each.manifest.path) for each in artifacts},
        "split": evaluation.split,
        "temperature": evaluation.temperature,
        "link": asdict(evaluation.link),
        **asdict(evaluation.service),
    }


def with_names(
    artifacts: Sequence[EvaluatedArtifact], upstream: EvaluatedArtifact | None = None
) -> list[tuple[str, EvaluatedArtifact]]:
    """Name every artifact, alike where they differ in nothing but their seed.

    Args:
        upstream: the network that answers the rest, where that is another one.
    """
    then = ""
    if upstream is not None:
        size = upstream.manifest.preprocessing.input_size
        then = f", then {upstream.branches} branches at {size} px"
    short = [
        f"{each.branches} branches" if each.branches else "conventional network"
        for each in artifacts
    ]
    details: dict[str, set[str]] = {}
    for name, artifact in zip(short, artifacts, strict=True):
        details.setdefault(name, set()).add(artifact.details)
    return [
        (f"{name if len(details[name]) == 1 else f'{name}, {artifact.details}'}{then}", artifact)
        for name, artifact in zip(short, artifacts, strict=True)
    ]


def evaluate(
    named: Sequence[tuple[str, EvaluatedArtifact]], evaluation: Evaluation
) -> tuple[Results, list[Fitted], list[str]]:
    """Compute all rows of an evaluation for all artifacts, the fitted policies, and what could not
    be fitted, a line each.

    The network runs at most once per artifact and level.

    Args:
        named: see `with_names`.

    Raises:
        EennError: the same artifact twice, or one that has no such experts.
    """
    for _, artifact in named:
        check_experts(artifact, evaluation.experts, evaluation.distortion)
    ids = [artifact.manifest.id for _, artifact in named]
    if not ids or len(set(ids)) < len(ids):
        raise EennError(f"artifact: {len(ids)} given; allowed are one or more different ones")
    results = Results([], [], [], [])
    fitted: list[Fitted] = []
    unmet: list[str] = []
    for name, artifact in named:
        evaluated = _Evaluated(name, artifact, evaluation)
        fitted += evaluated.add_to(results)
        unmet += evaluated.unmet
    return results, fitted, unmet


class _Evaluated:
    """One artifact under evaluation; `unmet` says which policies could not be fitted, and why."""

    def __init__(self, name: str, artifact: EvaluatedArtifact, evaluation: Evaluation) -> None:
        self.artifact, self.evaluation = artifact, evaluation
        self.unmet: list[str] = []
        upstream, accuracy = evaluation.upstream, artifact.manifest.validation_accuracy
        branches = artifact.branches
        if upstream is not None:
            check_upstream(artifact, upstream)
            accuracy = (*accuracy, upstream.manifest.validation_accuracy[-1])
            branches += 1
        self.network = Network(name, artifact.branches, artifact.split.seed)
        self.spent = _spent(artifact, evaluation)
        self.actives = evaluation.active.sets(branches) if branches else []
        self.largest = max(self.actives, key=len, default=())
        self.validation = Validation(accuracy, lambda: exit_outputs(*self._answers("val", 0)))

    def add_to(self, results: Results) -> list[Fitted]:
        """Add the rows of all levels; gives the fitted policies."""
        evaluation = self.evaluation
        fitted = list(self._fitted())
        for level in evaluation.levels:
            records, temperatures = self._answers(evaluation.split, level)
            case = self._case(records, temperatures, level)
            decided = by_policies(case, evaluation.policies, self.actives, self.validation)
            decided += by_baselines(case, evaluation.p_tars, self.largest)
            results.exits.extend(row for each in decided for row in self._exits(case, each))
            decided += [each.decide(case) for each in fitted]
            results.points.extend(self._point(case, each) for each in decided)
            results.quality.extend(exit_quality(self.network, case.level, records, temperatures))
            if level == 0 and evaluation.goal and evaluation.goal.goal == "risk":
                fitted = [each.observed(case) for each in fitted]
            # A job of a sweep is one point; curves over settings need more than that.
            if level == evaluation.levels[0] and self.largest and len(evaluation.p_tars) > 1:
                results.tradeoff.extend(tradeoff(case, self.largest, self.validation))
        return fitted

    def _fitted(self) -> Iterator[Fitted]:
        evaluation = self.evaluation
        if not evaluation.goal:
            return
        case = self._case(*self._answers("val", 0), 0)
        for policy in evaluation.policies:
            for active in self.actives:
                try:
                    yield fit(
                        evaluation.goal, case, policy.name, policy.settings, active, self.validation
                    )
                except Infeasible as error:
                    shown = " ".join(str(branch + 1) for branch in active)
                    self.unmet.append(f"{self.network.network}, branches {shown}: {error}")

    def _answers(self, split: str, level: float) -> tuple[ExitRecords, tuple[float, ...]]:
        found, evaluation = (
            answers_of(self.artifact, self.evaluation, split, level),
            self.evaluation,
        )
        if evaluation.upstream is None:
            return found
        plain = replace(evaluation, experts=PLAIN_HEADS)
        return cascaded(found, answers_of(evaluation.upstream, plain, split, level))

    def _case(self, records: ExitRecords, temperatures: Sequence[float], level: float) -> Case:
        outputs = exit_outputs(records, temperatures)
        return Case(
            self.network,
            float(level),
            outputs.exits,
            outputs.labels,
            self.spent,
            self.evaluation.service,
            self.evaluation.rest,
        )

    def _point(self, case: Case, decided: Decided) -> Point:
        # What was fitted is shown for every set of branches.
        most_active = decided.setting.active == self.largest or bool(decided.setting.goal)
        return point(case, decided, most_active)

    def _exits(self, case: Case, decided: Decided) -> list[ExitTaken]:
        return exits_taken(case, decided, decided.setting.active == self.largest)


def _spent(artifact: EvaluatedArtifact, evaluation: Evaluation) -> CostModel:
    """Model what answers cost, with the rest where and from what the evaluation has it."""
    spent = costs(artifact, evaluation.link, evaluation.experts)
    upstream, photographs = evaluation.upstream, evaluation.payload == PHOTOGRAPH
    if upstream is None and not photographs:
        share = BYTES_OF[evaluation.payload] / BYTES_OF["fp32"]
        features = (share * size for size in spent.payload_bytes[1:])
        return replace(spent, payload_bytes=(spent.payload_bytes[0], *features))
    theirs = costs(upstream, evaluation.link, PLAIN_HEADS) if upstream else None
    sent = artifact.photograph_bytes if evaluation.rest == CLOUD else 0.0
    return cascade_costs(spent, theirs, sent)


def answers_of(
    artifact: EvaluatedArtifact, evaluation: Evaluation, split: str, level: float
) -> tuple[ExitRecords, tuple[float, ...]]:
    """Fetch the logits and temperatures of those who answer; see `answers`."""
    return answers(
        artifact, split, evaluation.distortion, level, evaluation.experts, evaluation.temperature
    )


def _reliability(drawn: Mapping[str, EvaluatedArtifact], evaluation: Evaluation) -> Iterator[Drawn]:
    """Draw the reliability diagrams of every network and level."""
    for name, artifact in drawn.items():
        for level in evaluation.levels:
            records, temperatures = answers_of(artifact, evaluation, evaluation.split, level)
            figure = reliability_figure(records.logits, records.labels, temperatures)
            yield reliability(name, artifact.split.seed, evaluation.distortion, level, figure)


def _facts(artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation) -> dict[str, str]:
    """Say on the page what was evaluated."""
    levels = ", ".join(f"{level:g}" for level in evaluation.levels)
    link, service = evaluation.link, evaluation.service
    return {
        "artifact": ", ".join(f"{a.manifest.path} ({a.manifest.id[:12]})" for a in artifacts),
        "images": f"{evaluation.split} split",
        "distortion": f"{evaluation.distortion.replace('_', ' ')}, level {levels}",
        "policy": evaluation.policies[0].name.replace("_", " "),
        "temperature": evaluation.temperature.replace("_", " "),
        "experts": str(evaluation.experts).replace("_", " "),
        "link": f"{link.bandwidth_mbps:g} Mbps, round trip {link.rtt_ms:g} ms",
        "deadline": f"{service.deadline_ms:g} ms, batches of {service.batch_size}",
    }


def _headline(points: Sequence[Point], chosen: bool) -> list[Point]:
    """Of every network and level the policies with the most active branches, and the last exit.

    Args:
        chosen: whether the user chose the sets of active branches; then all of them are in it.
    """
    return [
        row
        for row in points
        if row.setting.baseline is Baseline.LAST_EXIT_ONLY
        or ((chosen or row.most_active) and row.setting.baseline is None)
    ]
