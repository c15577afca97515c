"""An evaluation: records of every artifact and level, then every table and figure from those."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.artifact.deployment import Deployment, Upstream
from eenn.evaluation.classes import classes_of
from eenn.evaluation.evaluated import Computed, Evaluated, Evaluation, evaluate
from eenn.evaluation.fitting import Fitted
from eenn.evaluation.names import named_artifacts
from eenn.evaluation.promises import best_of, deployment_of
from eenn.evaluation.rows import Network, Point
from eenn.evaluation.unlabelled import unlabelled
from eenn.exits.head_sets import DEPLOYED
from eenn.exits.rests import PHOTOGRAPH
from eenn.exits.settings import Baseline
from eenn.files import Json
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.records.records import FOLDER
from eenn.reports.commands import device_command, evaluate_command, fit_settings
from eenn.reports.differences import saving_lines
from eenn.reports.evaluation import Drawing, evaluation_report, reliability, unlabelled_tables
from eenn.reports.figures import Drawn, reliability_figure
from eenn.reports.opening import Answer, correctness_of, summary_point, why_chosen
from eenn.reports.rows import fitted_cells, point_rows, verdicts
from eenn.reports.summed_up import evaluated
from eenn.reports.tables import distorted, flat, table
from eenn.run_directory import SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.images import fitted_to, image_facts, image_notes, image_summary
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

log = logging.getLogger(__name__)


def run_evaluation(
    run: Run, artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation
) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Raises:
        EennError: the same artifact twice.
    """
    named = named_artifacts(artifacts, evaluation.upstream)
    computed, seen = evaluate(named, evaluation), unlabelled(named, evaluation)
    results, fitted, unmet = computed.results, computed.fitted, computed.unmet
    for line in (*unmet, *seen.left_out):
        log.warning("%s", line)
    drawn = _drawn(named)
    drawing = Drawing(
        results,
        next((row.setting.policy.label for row in results.points if row.setting.policy), ""),
        {name: artifact.profile for name, artifact in drawn.items()},
        evaluation.distortion,
        evaluation.service,
    )
    images = image_facts([*artifacts, *filter(None, [evaluation.upstream])], evaluation.split)
    not_fitted = {"not fitted": " | ".join(unmet)} if unmet else {}
    answer = _answer(run, named, evaluation, computed)
    report = evaluation_report(
        f"Evaluation: {run.name}",
        facts(artifacts, evaluation, images) | not_fitted,
        drawing,
        fitted,
        computed.savings,
        seen,
        list(reliabilities(drawn, evaluation)),
        answer,
    )
    headline = _headline(results.points, evaluation.active.chosen)
    rows = point_rows(headline)
    ends = {f"{level:g}" for level in (min(evaluation.levels), max(evaluation.levels))}
    summary: dict[str, Json] = {
        "points": [flat(row) for row in headline],
        "exit_metrics": [flat(row) for row in results.exit_metrics],
        "table": rows,
        "thresholds": [fitted_cells(each) for each in fitted],
        "not_fitted": unmet,
        "savings": [flat(row) for row in computed.savings],
        "verdicts": (said := [*verdicts(seen.drift, evaluation.distortion), *seen.left_out]),
        **unlabelled_tables(seen),
        "distortion": evaluation.distortion,
        "experts": str(evaluation.experts),
        "median_ms": {n: asdict(profile.median) for n, profile in drawing.profiles.items()},
        **described(artifacts, evaluation),
    }
    shown = table(row for row in rows if row.get("level", "0") in ends or len(ends) == 1)
    parts = [shown, "\n".join(said), image_notes(images)]
    if fitted:
        parts += saving_lines(computed.savings, evaluation.distortion)
        parts.append(_deployed(run, named, evaluation, fitted))
    shown = "\n\n".join(filter(None, parts))
    summed_up = evaluated(answer.point, evaluation.link)
    conclusion = Conclusion(report, SUMMARY, summary, shown, summed_up)
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))


def _drawn(named: Sequence[tuple[str, EvaluatedArtifact]]) -> dict[str, EvaluatedArtifact]:
    """Choose the networks of figures: the first of those that differ in their seed alone."""
    drawn: dict[str, EvaluatedArtifact] = {}
    for name, artifact in named:
        drawn.setdefault(name, artifact)
    return drawn


def _answer(
    run: Run,
    named: Sequence[tuple[str, EvaluatedArtifact]],
    evaluation: Evaluation,
    computed: Computed,
) -> Answer:
    """Choose the point that sums up an evaluation, and the command to go on with."""
    points = computed.results.points
    fitted = best_of(computed.fitted) if computed.fitted else None
    point = summary_point(points, fitted)
    path = _artifact_of(named, point.network).manifest.path
    purpose, command = "", ""
    if fitted is not None and evaluation.experts.mode in DEPLOYED:
        upstream = evaluation.upstream.manifest.path if evaluation.upstream else None
        purpose = "Run it on a device:"
        command = device_command(path, run.directory / DEPLOYMENT, evaluation.rest, upstream)
    elif point.setting.policy is not None and fitted is None:
        purpose = "Fit this on validation images, and write a deployment:"
        images = run.settings.get("images")
        command = evaluate_command(
            path,
            *([f"images={images}"] if images else []),
            *fit_settings(point.setting, correctness_of(points) == "accuracy"),
        )
    return Answer(
        point,
        why_chosen(points, point, fitted),
        classes_of(named, evaluation, point.network, point.level, point.setting),
        purpose,
        command,
    )


def _artifact_of(
    named: Sequence[tuple[str, EvaluatedArtifact]], network: Network
) -> EvaluatedArtifact:
    (found,) = (
        artifact
        for name, artifact in named
        if (name, artifact.split.seed) == (network.network, network.seed)
    )
    return found


def _deployed(
    run: Run,
    named: Sequence[tuple[str, EvaluatedArtifact]],
    evaluation: Evaluation,
    fitted: Sequence[Fitted],
) -> str:
    """Write the best fitted policy as a deployment, and say what it promises."""
    chosen = best_of(fitted)
    if evaluation.experts.mode not in DEPLOYED:
        return (
            f"{DEPLOYMENT} was not written: experts={evaluation.experts} are for evaluations only"
        )
    artifact = _artifact_of(named, chosen.validation.network)
    manifest, images = artifact.manifest, fitted_to(artifact)
    deployment = with_rest(
        deployment_of(chosen, manifest.id, evaluation.temperature, evaluation.experts, images),
        evaluation,
    )
    path = run.directory / DEPLOYMENT
    deployment.save(path)
    setting = deployment.setting
    way = f"{setting.policy_text}, branches {setting.branches}"
    return f"deployment: {path}\n{way} of {manifest.path}; {deployment.promise}"


def with_rest(deployment: Deployment, evaluation: Evaluation) -> Deployment:
    """Give a deployment the rest, the payload and the upstream network of its evaluation."""
    rest, payload = evaluation.rest, evaluation.payload
    if evaluation.upstream is None:
        return replace(deployment, rest=rest, payload=payload)
    manifest = evaluation.upstream.manifest
    temperature = manifest.temperatures.chosen(evaluation.temperature)[-1]
    upstream = Upstream(manifest.id, temperature)
    return replace(deployment, rest=rest, payload=PHOTOGRAPH, upstream=upstream)


def described(artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation) -> dict[str, Json]:
    """Describe the evaluated artifacts, images and link, for a summary."""
    return {
        "artifacts": {each.manifest.id: str(each.manifest.path) for each in artifacts},
        "split": FOLDER if image_summary(artifacts).get("images") else evaluation.split,
        **image_summary(artifacts),
        "temperature": evaluation.temperature,
        "link": asdict(evaluation.link),
        **asdict(evaluation.service),
    }


def reliabilities(
    drawn: Mapping[str, EvaluatedArtifact], evaluation: Evaluation
) -> Iterator[Drawn]:
    """Draw the reliability diagrams of every network and level, where there are labels."""
    for name, artifact in drawn.items():
        evaluated = Evaluated(name, artifact, evaluation)
        for level in evaluation.levels:
            records, temperatures = evaluated.answers(evaluated.split, level)
            if records.labels is not None:
                figure = reliability_figure(records.logits, records.labels, temperatures)
                yield reliability(name, artifact.split.seed, evaluation.distortion, level, figure)


def facts(
    artifacts: Sequence[EvaluatedArtifact], evaluation: Evaluation, images: Mapping[str, str]
) -> dict[str, str]:
    """Describe the evaluation for the head of its page.

    Args:
        images: a description of the images; see `image_facts`.
    """
    kinds = dict.fromkeys(distorted(evaluation.distortion, level) for level in evaluation.levels)
    link, service = evaluation.link, evaluation.service
    return {
        "artifact": ", ".join(f"{a.manifest.path} ({a.manifest.id[:12]})" for a in artifacts),
        **images,
        "distortion": ", ".join(kinds),
        "policy": evaluation.policies[0].name.replace("_", " "),
        "temperature": evaluation.temperature.replace("_", " "),
        "experts": str(evaluation.experts).replace("_", " "),
        "link": f"{link.bandwidth_mbps:g} Mbps, round trip {link.rtt_ms:g} ms",
        "deadline": f"{service.deadline_ms:g} ms, batches of {service.batch_size}",
    }


def _headline(points: Sequence[Point], chosen: bool) -> list[Point]:
    """Select, for every network and level, the policies with most branches and the last exit.

    Args:
        chosen: true if the user chose the sets of active branches; then all of them are selected.
    """
    return [
        row
        for row in points
        if row.setting.baseline is Baseline.LAST_EXIT_ONLY
        or ((chosen or row.most_active) and row.setting.baseline is None)
    ]
