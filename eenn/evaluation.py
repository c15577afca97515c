"""An evaluation: records of every artifact and level, then every table and figure from those."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eenn.costs import CostModel, Link, macs, payloads
from eenn.files import write_file
from eenn.fitting import Goal, fit_p_tar
from eenn.grid import (
    EDGE_ONLY,
    LAST_EXIT_ONLY,
    ORACLE,
    Case,
    Results,
    Row,
    Service,
    active_sets,
    exit_outputs,
    exit_quality,
    grid,
    one_point,
    tradeoff,
)
from eenn.records import ExitRecords
from eenn.reports.evaluation import figures, point_rows, write_report
from eenn.runs import SUMMARY, table
from eenn.subject import Subject
from eenn.tracking import publish_evaluation


@dataclass(frozen=True)
class Plan:
    """What an evaluation computes.

    Args:
        policies: settings by name of policy; the first is the one the summary speaks of.
        p_tars: thresholds, as in `eenn.grid.grid`.
        active: sets of active branches as in `eenn.grid.active_sets`.
        levels: of the distortion; 0 is none.
        temperature: `per_exit`, `shared` or `none`.
        goal: what a threshold is fitted to on the validation split, or None; see `fit_p_tar`.
    """

    split: str
    policies: Mapping[str, Mapping[str, Any]]
    p_tars: Sequence[float | Sequence[float]]
    active: Sequence[int | Sequence[int]] | int | None
    distortion: str
    levels: Sequence[float]
    temperature: str
    link: Link
    service: Service
    goal: Goal | None


def run_evaluation(
    directory: Path,
    subjects: Sequence[Subject],
    plan: Plan,
    name: str,
    group: str | None,
    project: str | None,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Evaluate, then write tables, figures, `report.html` and `summary.json` into `directory`.

    Args:
        project: W&B's; None leaves W&B out.
        settings: the configuration, for W&B.
        provenance: put into the summary and on the page as it is.
    """
    results, thresholds = evaluate(subjects, plan)
    # Where networks differ in their seed alone, the first stands for them.
    first = {subject.branches: subject for subject in reversed(subjects)}
    profiles = {branches: subject.profile() for branches, subject in first.items()}
    calibrated = {
        branches: (
            subject.records(plan.split, plan.distortion, plan.levels[0]),
            subject.manifest.temperatures,
        )
        for branches, subject in first.items()
    }
    policy = next(iter(plan.policies))
    made = figures(results, policy, profiles, calibrated, plan.distortion)
    headline = _headline(results.points, plan.active is not None)
    summary = {
        "points": headline,
        "thresholds": thresholds,
        "artifacts": [str(subject.manifest.path) for subject in subjects],
        "artifact_ids": [subject.manifest.id for subject in subjects],
        "split": plan.split,
        "distortion": plan.distortion,
        "profiles": {branches: profile.median for branches, profile in profiles.items()},
        **provenance,
    }
    facts = {
        "artifact": ", ".join(f"{s.manifest.path} ({s.manifest.id[:12]})" for s in subjects),
        "images": f"{plan.split} split, {len(next(iter(calibrated.values()))[0].labels)} images",
        "temperature": plan.temperature,
        "link": f"{plan.link.bandwidth_mbps:g} Mbps, round trip {plan.link.rtt_ms:g} ms",
        "deadline": f"{plan.service.deadline_ms:g} ms, batches of {plan.service.batch_size}",
        **{key.replace("_", " "): str(value) for key, value in provenance.items()},
        "overrides": " ".join(provenance["overrides"]) or "none",
    }
    pngs = write_report(directory, f"Evaluation: {name}", facts, results, made)
    write_file(directory / SUMMARY, json.dumps(summary, indent=1, default=asdict))
    publish_evaluation(directory, name, group, project, settings, results, headline, pngs)
    ends = {min(plan.levels), max(plan.levels)}
    shown = point_rows([row for row in headline if row["level"] in ends])
    print(f"\n{table(shown)}\n\nreport: {directory / 'report.html'}\n")


def evaluate(subjects: Sequence[Subject], plan: Plan) -> tuple[Results, list[Row]]:
    """All rows of `plan` for all artifacts, and the fitted thresholds.

    The network runs at most once per artifact and level.
    """
    results = Results([], [], [], [])
    thresholds = [row for subject in subjects for row in _evaluate_one(subject, plan, results)]
    return results, thresholds


def _evaluate_one(subject: Subject, plan: Plan, results: Results) -> list[Row]:
    """Add the rows of one artifact to `results`; returns its fitted thresholds."""
    manifest = subject.manifest
    network = {"branches": subject.branches, "seed": subject.split.seed}
    size, ms = manifest.preprocessing.input_size, subject.profile().median
    costs = CostModel(macs(manifest.exits), ms, ms, payloads(manifest.exits, size), plan.link)
    weights = manifest.validation_accuracy[:-1]
    policies = {name: {"weights": weights, **own} for name, own in plan.policies.items()}
    actives = active_sets(plan.active, subject.branches) if subject.branches else []
    largest = max(actives, key=len, default=())

    def case_of(records: ExitRecords) -> Case:
        outputs = exit_outputs(records, manifest.temperatures, plan.temperature)
        return Case(outputs, records.labels, costs, plan.service)

    fitted: list[Row] = []
    if plan.goal and largest:
        validation = case_of(subject.records("val", plan.distortion, 0))
        fitted = [
            {**network, **fit_p_tar(plan.goal, validation, name, own, largest)}
            for name, own in policies.items()
        ]
    for level in plan.levels:
        records = subject.records(plan.split, plan.distortion, level)
        case, at = case_of(records), {**network, "level": float(level)}
        points, exits = grid(case, policies, plan.p_tars, actives)
        for threshold in fitted:
            name = threshold["policy"]
            row = one_point(case, name, policies[name], threshold["p_tar"], largest)
            points.append({**row, "policy": f"{name}, {plan.goal}"})
        results.points.extend({**at, **row} for row in points)
        results.exits.extend({**at, **row} for row in exits)
        quality = exit_quality(records, manifest.temperatures)
        results.quality.extend({**at, **row} for row in quality)
        # A job of a sweep is one point; curves over settings need more than that.
        if level == plan.levels[0] and largest and len(plan.p_tars) > 1:
            rows = tradeoff(case, weights, largest)
            results.tradeoff.extend({**at, **row} for row in rows)
    return fitted


def _headline(points: Sequence[Row], chosen: bool) -> list[Row]:
    """Of every network and level the policies with the most active branches, and the last exit.

    Args:
        chosen: whether the user chose the sets of active branches; then all of them are in it.
    """
    most = {row["branches"]: 0 for row in points}
    for row in points:
        most[row["branches"]] = max(most[row["branches"]], len(row["active"].split()))
    return [
        row
        for row in points
        if row["policy"] == LAST_EXIT_ONLY
        or (
            (chosen or len(row["active"].split()) == most[row["branches"]])
            and row["policy"] not in (EDGE_ONLY, ORACLE)
        )
    ]
