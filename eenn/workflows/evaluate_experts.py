"""An evaluation of experts over kinds and levels of distortions: their accuracies and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.evaluation.answers import check_experts
from eenn.evaluation.evaluated import Evaluation, evaluate
from eenn.evaluation.experts import confusion, with_experts, with_last_exit
from eenn.evaluation.names import named_artifacts
from eenn.exits.head_sets import DEPLOYED, FINE_TUNED, PLAIN_HEADS, HeadChoice
from eenn.files import Json
from eenn.programs import TRAIN_EXPERTS
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.experts import Study, confusion_rows, point_rows, study_report, study_tables
from eenn.reports.opening import summary_point
from eenn.reports.summed_up import SummedUp, evaluated
from eenn.reports.tables import table
from eenn.run_directory import SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.evaluate import described
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

# An evaluation under one distortion by one choice of heads, and the evaluated artifacts.
Part = tuple[Evaluation, Sequence[tuple[str, EvaluatedArtifact]]]


def run_expert_evaluation(
    run: Run,
    artifacts: Sequence[EvaluatedArtifact],
    evaluation: Evaluation,
    distortions: Mapping[str, Sequence[float]],
    experts: Sequence[HeadChoice],
) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Args:
        evaluation: all settings but the distortion, its levels and the experts.
        distortions: levels by kind.
        experts: the choices of heads to compare.

    Raises:
        EennError: nothing to evaluate, a fit, an unknown kind or level, or an artifact without
            such experts.
    """
    if evaluation.goal or not distortions or not experts:
        raise EennError(
            f"distortions={dict(distortions)}, experts={[*map(str, experts)]}: allowed are levels "
            "by kind and a list of experts, and no fit.goal"
        )
    named = named_artifacts(artifacts)
    parts = _parts(named, evaluation, distortions, experts)
    study, summed_up = Study([], [], []), SummedUp()
    shown_part = _headline_part(parts)
    for part, own in parts:
        results = evaluate(own, part).results
        if part is shown_part:
            point = summary_point(results.points)
            summed_up = evaluated(point, part.link, experts=str(part.experts), kind=part.distortion)
        study.points.extend(with_last_exit(part.distortion, part.experts, results.points))
        study.exit_metrics.extend(
            (part.distortion, part.experts, row) for row in results.exit_metrics
        )
    for name, artifact in named:
        if len(artifact.heads) > 1:
            for kind, levels in distortions.items():
                study.confusion.extend(confusion(name, artifact, evaluation.split, kind, levels))
    first = next(a for name, a in named if name == study.points[0].point.network.network)
    report = study_report(
        f"Evaluation: {run.name}", _facts(artifacts, evaluation), study, first.manifest.path
    )
    rows, tables = point_rows(study.points), study_tables(study)
    summary: dict[str, Json] = {
        "points": tables["points"],
        "table": rows,
        "confusion": tables["confusion"],
        "networks": {name: _experts_of(artifact) for name, artifact in named},
        **described(artifacts, evaluation),
    }
    shown = f"{table(rows)}\n\n{table(confusion_rows(study.confusion))}"
    conclusion = Conclusion(report, SUMMARY, summary, shown, summed_up)
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))


def _parts(
    named: Sequence[tuple[str, EvaluatedArtifact]],
    evaluation: Evaluation,
    distortions: Mapping[str, Sequence[float]],
    experts: Sequence[HeadChoice],
) -> list[Part]:
    """Set out an evaluation for every kind of distortion and choice of heads; check them all."""
    parts = [
        (replace(evaluation, distortion=kind, levels=levels, experts=choice), own)
        for kind, levels in distortions.items()
        for choice in experts
        if Distortion(kind, 0) and (own := with_experts(named, choice, kind))
    ]
    for part, own in parts:
        for _, artifact in own:
            check_experts(artifact, part.experts, part.distortion)
    if not parts:
        raise EennError(
            f"experts={[*map(str, experts)]}: the artifacts have none for "
            f"{', '.join(distortions)}; {TRAIN_EXPERTS} trains experts for the kinds of its recipe"
        )
    return parts


def _headline_part(parts: Sequence[Part]) -> Evaluation:
    """Choose the evaluation that sums up the others: the first by experts that a device can use."""
    evaluations = [part for part, _ in parts]
    usable = [e for e in evaluations if e.experts.mode in DEPLOYED and e.experts != PLAIN_HEADS]
    return (usable or evaluations)[0]


def _facts(artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation) -> dict[str, str]:
    """Describe the evaluation for the head of its page."""
    return {
        "artifact": ", ".join(f"{a.manifest.path} ({a.manifest.id[:12]})" for a in artifacts),
        "images": f"{evaluation.split} split",
        "policy": ", ".join(p.name for p in evaluation.policies).replace("_", " "),
        "temperature": evaluation.temperature.replace("_", " "),
    }


def _experts_of(artifact: EvaluatedArtifact) -> Json:
    """Describe the size and cost of an artifact's experts."""
    manifest = artifact.manifest
    if not manifest.experts:
        return {}
    return {
        FINE_TUNED: {kind: tuned.manifest.id for kind, tuned in artifact.fine_tuned.items()},
        "expert_bytes": {expert.kind: expert.bytes for expert in manifest.experts},
        "levels": {e.kind: [e.mildest, e.strongest] for e in manifest.experts},
        "classifier": asdict(manifest.classifier),
        "classifier_ms": artifact.profile.classifier,
        "backbone_macs": manifest.exits[-1].macs,
    }
