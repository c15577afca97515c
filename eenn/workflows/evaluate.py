"""An evaluation: records of every artifact and level, then every table and figure from those."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.figure import Figure

from eenn.errors import EennError, require_numbers
from eenn.evaluation.answers import answers, check_experts, costs
from eenn.evaluation.exit_metrics import exit_quality
from eenn.evaluation.fitting import Goal, fit_p_tar, observed_risk
from eenn.evaluation.grid import Case, Results, Service, exit_outputs, grid, one_point, tradeoff
from eenn.exits.settings import EDGE_ONLY, LAST_EXIT_ONLY, ORACLE, Threshold, active_sets
from eenn.files import write_json
from eenn.planning.costs import Link
from eenn.records.evaluated_artifact import Subject
from eenn.records.records import ExitRecords
from eenn.reports.evaluation import figures, point_rows, reliability, write_report
from eenn.reports.figures import reliability_figure
from eenn.reports.tables import table
from eenn.run_directory import SUMMARY
from eenn.statistics.intervals import Row
from eenn.workflows.run import Run
from eenn.workflows.tracking import publish_tables


@dataclass(frozen=True)
class Plan:
    """What an evaluation computes.

    Args:
        policies: settings by name of policy; curves against the threshold are the first one's.
        p_tars: thresholds, as in `eenn.evaluation.grid.grid`.
        active: sets of active branches, as in `eenn.exits.settings.active_sets`.
        levels: of the distortion; 0 is none. What is drawn at one level is drawn at the first.
        temperature: `per_exit`, `shared` or `none`.
        experts: who answers, as in `eenn.evaluation.answers.answers`.
        goal: what a threshold is fitted to on the validation split at level 0, or None.

    Raises:
        EennError: nothing to compute, a level twice, or a fit reported on what it was fitted to.
    """

    split: str
    policies: Mapping[str, Mapping[str, Any]]
    p_tars: Sequence[Threshold]
    active: Sequence[int | Sequence[int]] | int | None
    distortion: str
    levels: Sequence[float]
    temperature: str
    experts: str
    link: Link
    service: Service
    goal: Goal | None

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


def run_evaluation(run: Run, subjects: Sequence[Subject], plan: Plan) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Raises:
        EennError: the same artifact twice.
    """
    every = with_names(subjects)
    results, thresholds = evaluate(every, plan)
    # Where networks differ in their seed alone, the first stands for them.
    named: dict[str, Subject] = {}
    for network, subject in every:
        named.setdefault(network, subject)
    policy = next(iter(plan.policies))
    profiles = {network: subject.profile for network, subject in named.items()}
    made = figures(results, policy, profiles, plan.distortion, plan.service)
    made += [
        reliability(
            network, subject.split.seed, plan.distortion, level, _reliability(subject, plan, level)
        )
        for network, subject in named.items()
        for level in plan.levels
    ]
    headline = _headline(results.points, plan.active is not None)
    shown = point_rows(headline)
    summary = {
        "points": headline,
        "table": shown,
        "thresholds": thresholds,
        "artifacts": {s.manifest.id: str(s.manifest.path) for s in subjects},
        "split": plan.split,
        "temperature": plan.temperature,
        "experts": plan.experts,
        "distortion": plan.distortion,
        "link": asdict(plan.link),
        **asdict(plan.service),
        "median_ms": {name: asdict(profile.median) for name, profile in profiles.items()},
        **run.provenance,
    }
    levels = ", ".join(f"{level:g}" for level in plan.levels)
    facts = {
        "artifact": ", ".join(f"{s.manifest.path} ({s.manifest.id[:12]})" for s in subjects),
        "images": f"{plan.split} split",
        "distortion": f"{plan.distortion.replace('_', ' ')}, level {levels}",
        "policy": policy.replace("_", " "),
        "temperature": plan.temperature.replace("_", " "),
        "experts": plan.experts.replace("_", " "),
        "link": f"{plan.link.bandwidth_mbps:g} Mbps, round trip {plan.link.rtt_ms:g} ms",
        "deadline": f"{plan.service.deadline_ms:g} ms, batches of {plan.service.batch_size}",
        **{key.replace("_", " "): str(value) for key, value in run.provenance.items()},
        "overrides": " ".join(run.provenance["overrides"]) or "none",
    }
    title = f"Evaluation: {run.name}"
    pngs = write_report(run.directory, title, facts, results, thresholds, made)
    write_json(run.directory / SUMMARY, summary)
    ends = {f"{level:g}" for level in (min(plan.levels), max(plan.levels))}
    print(f"\n{table(row for row in shown if row.get('level', '0') in ends or len(ends) == 1)}\n")
    print(f"report: {run.directory / 'report.html'}\n")
    if run.project:
        publish_tables(
            run.directory, run.name, run.group, run.project, run.settings, vars(results), headline,
            pngs,
        )  # fmt: skip


def with_names(subjects: Sequence[Subject]) -> list[tuple[str, Subject]]:
    """Every artifact with a name, the same for those that differ in nothing but their seed."""
    short = [f"{s.branches} branches" if s.branches else "conventional network" for s in subjects]
    details: dict[str, set[str]] = {}
    for name, subject in zip(short, subjects, strict=True):
        details.setdefault(name, set()).add(subject.details)
    return [
        (name if len(details[name]) == 1 else f"{name}, {subject.details}", subject)
        for name, subject in zip(short, subjects, strict=True)
    ]


def evaluate(named: Sequence[tuple[str, Subject]], plan: Plan) -> tuple[Results, list[Row]]:
    """All rows of `plan` for all artifacts, and the fitted thresholds.

    The network runs at most once per artifact and level.

    Args:
        named: see `with_names`.

    Raises:
        EennError: the same artifact twice, or one that has no such experts.
    """
    for _, subject in named:
        check_experts(subject, plan.experts, plan.distortion)
    ids = [subject.manifest.id for _, subject in named]
    if not ids or len(set(ids)) < len(ids):
        raise EennError(f"artifacts: {len(ids)} given; allowed are one or more different ones")
    results = Results([], [], [], [])
    thresholds: list[Row] = []
    for name, subject in named:
        network = {"network": name, "branches": subject.branches, "seed": subject.split.seed}
        thresholds += _evaluate_one(subject, network, plan, results)
    return results, thresholds


def _evaluate_one(subject: Subject, network: Row, plan: Plan, results: Results) -> list[Row]:
    """Add the rows of one artifact to `results`; returns its fitted thresholds."""
    spent = costs(subject, plan.link, plan.experts)
    weights = subject.manifest.validation_accuracy[:-1]
    policies = {name: {"weights": weights, **own} for name, own in plan.policies.items()}
    actives = active_sets(plan.active, subject.branches) if subject.branches else []
    largest = max(actives, key=len, default=())

    def case_of(records: ExitRecords, temperatures: Sequence[float]) -> Case:
        return Case(exit_outputs(records, temperatures), records.labels, spent, plan.service)

    fitted: list[Row] = []
    if plan.goal:
        validation = case_of(*_answers(subject, plan, "val", 0))
        fitted = [
            {**network, **fit_p_tar(plan.goal, validation, name, own, active)}
            for name, own in policies.items()
            for active in actives
        ]
    for level in plan.levels:
        records, temperatures = _answers(subject, plan, plan.split, level)
        case, at = case_of(records, temperatures), {**network, "level": float(level)}
        points, exits = grid(case, policies, plan.p_tars, actives)
        for threshold in fitted:
            name = threshold["policy"]
            active = tuple(int(branch) - 1 for branch in threshold["active"].split())
            row = one_point(case, name, policies[name], threshold["p_tar"], active)
            points.append({**row, "policy": f"{name}, {plan.goal}"})
            if plan.goal and plan.goal.goal == "risk" and level == 0:
                threshold |= observed_risk(plan.goal, case, name, policies[name], threshold)
        results.points.extend({**at, **row} for row in points)
        results.exits.extend({**at, **row} for row in exits)
        quality = exit_quality(records, temperatures)
        results.quality.extend({**at, **row} for row in quality)
        # A job of a sweep is one point; curves over settings need more than that.
        if level == plan.levels[0] and largest and len(plan.p_tars) > 1:
            rows = tradeoff(case, weights, largest)
            results.tradeoff.extend({**at, **row} for row in rows)
    return fitted


def _reliability(subject: Subject, plan: Plan, level: float) -> Figure:
    records, temperatures = _answers(subject, plan, plan.split, level)
    return reliability_figure(records.logits, records.labels, temperatures)


def _answers(
    subject: Subject, plan: Plan, split: str, level: float
) -> tuple[ExitRecords, tuple[float, ...]]:
    return answers(subject, split, plan.distortion, level, plan.experts, plan.temperature)


def _headline(points: Sequence[Row], chosen: bool) -> list[Row]:
    """Of every network and level the policies with the most active branches, and the last exit.

    Args:
        chosen: whether the user chose the sets of active branches; then all of them are in it.
    """
    return [
        row
        for row in points
        if row["policy"] == LAST_EXIT_ONLY
        or ((chosen or row["most_active"]) and row["policy"] not in (EDGE_ONLY, ORACLE))
    ]
