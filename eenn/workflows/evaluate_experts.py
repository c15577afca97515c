"""Experts over kinds and levels of distortions: who answers, how well, at what cost."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from eenn.data.distortions import Distortion
from eenn.errors import TRAIN_EXPERTS, EennError
from eenn.evaluation.answers import check_experts, kind_probs
from eenn.exits.head_sets import FINE_TUNED, MATCHING, choose
from eenn.exits.settings import LAST_EXIT_ONLY
from eenn.files import write_json
from eenn.records.evaluated_artifact import Subject
from eenn.reports.experts import Study, confusion_rows, point_rows, write_study
from eenn.reports.tables import table
from eenn.run_directory import SUMMARY
from eenn.statistics.intervals import Row, share
from eenn.workflows.evaluate import Plan, evaluate, with_names
from eenn.workflows.run import Run
from eenn.workflows.tracking import publish_tables


def run_expert_evaluation(
    run: Run,
    subjects: Sequence[Subject],
    plan: Plan,
    distortions: Mapping[str, Sequence[float]],
    experts: Sequence[str],
) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Args:
        plan: but for the distortion, its levels and the experts, which are all of those given.
        distortions: levels by kind.
        experts: as in `eenn.evaluation.answers.answers`.

    Raises:
        EennError: nothing to evaluate, a fit, an unknown kind or level, or an artifact without
            such experts.
    """
    if plan.goal or not distortions or not experts or isinstance(experts, str):
        raise EennError(
            f"distortions={dict(distortions)}, experts={experts}: allowed are levels by kind and a "
            "list of experts, and no fit.goal"
        )
    named = with_names(subjects)
    plans = [
        (replace(plan, distortion=Distortion(kind, 0).kind, levels=levels, experts=name), having)
        for kind, levels in distortions.items()
        for name in experts
        if (having := _having(named, name, kind))
    ]
    for one, having in plans:
        for _, subject in having:
            check_experts(subject, one.experts, one.distortion)
    if not plans:
        raise EennError(
            f"experts={list(experts)}: there are none for {', '.join(distortions)}; "
            f"{TRAIN_EXPERTS} trains some for its kinds"
        )
    study = Study([], [], [])
    for one, having in plans:
        results, _ = evaluate(having, one)
        at = {"distortion": one.distortion, "experts": one.experts}
        study.points.extend({**at, **row} for row in _with_last_exit(results.points, one.policies))
        study.quality.extend({**at, **row} for row in results.quality)
    for network, subject in named:
        if len(subject.heads) > 1:
            study.confusion.extend(
                {"network": network, **row}
                for kind, levels in distortions.items()
                for row in confusion(subject, plan.split, kind, levels)
            )
    shown = point_rows(study.points)
    summary = {
        "points": study.points,
        "table": shown,
        "confusion": study.confusion,
        "artifacts": {s.manifest.id: str(s.manifest.path) for s in subjects},
        "networks": {network: described(subject) for network, subject in named},
        "split": plan.split,
        "temperature": plan.temperature,
        "link": asdict(plan.link),
        **asdict(plan.service),
        **run.provenance,
    }
    facts = {
        "artifact": ", ".join(f"{s.manifest.path} ({s.manifest.id[:12]})" for s in subjects),
        "images": f"{plan.split} split",
        "policy": ", ".join(plan.policies).replace("_", " "),
        "temperature": plan.temperature.replace("_", " "),
        **{key.replace("_", " "): str(value) for key, value in run.provenance.items()},
        "overrides": " ".join(run.provenance["overrides"]) or "none",
    }
    pngs = write_study(run.directory, f"Evaluation: {run.name}", facts, study)
    write_json(run.directory / SUMMARY, summary)
    print(f"\n{table(shown)}\n\n{table(confusion_rows(study.confusion))}\n")
    print(f"report: {run.directory / 'report.html'}\n")
    if run.project:
        tables = {"points": study.points, "quality": study.quality, "confusion": study.confusion}
        publish_tables(
            run.directory, run.name, run.group, run.project, run.settings, tables, [], pngs
        )


def confusion(subject: Subject, split: str, kind: str, levels: Sequence[float]) -> list[Row]:
    """A row per level: the share of images that each head set is chosen for.

    `recognised` is the share that goes to the heads made for it: at level 0, and of a kind without
    an expert, the plain ones. `unsure`: those for which no kind is probable enough.
    """
    rows = []
    classifier = subject.manifest.classifier
    for level in levels:
        probs = kind_probs(subject, split, kind, level)
        chosen, n = choose(probs, classifier.sure), len(probs)
        right = subject.heads.index(kind) if level and kind in subject.heads else 0
        row: Row = {"distortion": kind, "level": float(level), "n": n}
        for number, heads in enumerate(subject.heads):
            row |= share(f"chosen_{heads}", int((chosen == number).sum()), n)
        row |= share("recognised", int((chosen == right).sum()), n)
        row |= share("unsure", int((probs.max(-1) < classifier.sure).sum()), n)
        rows.append(row)
    return rows


def _having(
    named: Sequence[tuple[str, Subject]], experts: str, kind: str
) -> Sequence[tuple[str, Subject]]:
    """The artifacts that such experts add something to: not all were fine-tuned for every kind, and
    where no one has experts for it, the plain heads match."""
    if experts == FINE_TUNED:
        return [(network, subject) for network, subject in named if kind in subject.fine_tuned]
    if experts == MATCHING and not any(kind in subject.heads for _, subject in named):
        return []
    return named


def _with_last_exit(points: Sequence[Row], policies: Container[str]) -> Iterator[Row]:
    """The policies with all branches active, with the accuracy of the last exit alone beside."""
    keys = ("network", "seed", "level")
    alone = {
        tuple(row[key] for key in keys): row for row in points if row["policy"] == LAST_EXIT_ONLY
    }
    for row in points:
        if row["policy"] in policies and row["most_active"]:
            last = alone[tuple(row[key] for key in keys)]
            yield row | {
                f"last_exit_accuracy{end}": last[f"accuracy{end}"] for end in ("", "_low", "_high")
            }


def described(subject: Subject) -> dict[str, Any]:
    """Size and cost of what an artifact's experts add."""
    manifest = subject.manifest
    if not manifest.experts:
        return {}
    return {
        FINE_TUNED: {kind: tuned.manifest.id for kind, tuned in subject.fine_tuned.items()},
        "expert_bytes": {expert.kind: expert.bytes for expert in manifest.experts},
        "levels": {e.kind: [e.mildest, e.strongest] for e in manifest.experts},
        "classifier": asdict(manifest.classifier),
        "classifier_ms": subject.profile.classifier,
        "backbone_macs": manifest.exits[-1]["macs"],
    }
