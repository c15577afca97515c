"""An evaluation of deployment files: the results of each on the same images, and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from eenn.artifact.deployment import Deployment
from eenn.errors import EennError
from eenn.evaluation.classes import classes_of
from eenn.evaluation.deployed import Compared, Subject, compare
from eenn.evaluation.evaluated import Evaluation
from eenn.evaluation.names import named_artifacts
from eenn.files import Json
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.commands import device_command
from eenn.reports.deployments import (
    deployed_answer,
    deployment_rows,
    deployment_tables,
    deployments_report,
    drift_verdicts,
)
from eenn.reports.differences import difference_rows
from eenn.reports.opening import Answer
from eenn.reports.summed_up import evaluated
from eenn.reports.tables import distorted, table, words
from eenn.run_directory import SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.evaluate import reliabilities
from eenn.workflows.images import image_facts, image_notes, image_summary
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker


def run_deployments(run: Run, subjects: Sequence[Subject], evaluation: Evaluation) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    Args:
        evaluation: settings that deployments do not hold.

    Raises:
        EennError: the deployments cannot be compared.
    """
    compared = compare(subjects, evaluation)
    artifacts = list({one.artifact.manifest.id: one.artifact for one in subjects}.values())
    asked = [*artifacts, *filter(None, [one.upstream for one in subjects])]
    images = image_facts(asked, evaluation.split)
    first = subjects[0]
    report = deployments_report(
        f"Evaluation: {run.name}",
        {**_facts(subjects, evaluation), **images},
        compared,
        evaluation.distortion,
        list(reliabilities({first.name: first.artifact}, first.evaluation(evaluation))),
        _answer(subjects, evaluation, compared),
    )
    rows, pairs = deployment_rows(compared), difference_rows(compared.differences)
    said = drift_verdicts(compared, evaluation.distortion)
    summary: dict[str, Json] = {
        **deployment_tables(compared),
        "table": rows,
        "verdicts": said,
        "deployments": {one.label: _described(one) for one in subjects},
        "artifacts": {each.manifest.id: str(each.manifest.path) for each in artifacts},
        "split": evaluation.split,
        **image_summary(artifacts),
        "distortion": evaluation.distortion,
        "link": asdict(evaluation.link),
        **asdict(evaluation.service),
    }
    parts = [
        "policy, branches, temperature and experts are those of each deployment file",
        table(rows),
        table(pairs) if pairs else "",
        "\n".join(_promises(subjects)),
        "\n".join(said),
        image_notes(images),
    ]
    label, point, _ = deployed_answer(compared)
    summed_up = evaluated(point, evaluation.link, deployment=label)
    conclusion = Conclusion(report, SUMMARY, summary, "\n\n".join(filter(None, parts)), summed_up)
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))


def _answer(subjects: Sequence[Subject], evaluation: Evaluation, compared: Compared) -> Answer:
    """Choose the deployment that sums up an evaluation, and the command that runs it."""
    label, point, why = deployed_answer(compared)
    (own,) = (subject for subject in subjects if subject.label == label)
    upstream = own.upstream.manifest.path if own.upstream else None
    path = own.artifact.manifest.path
    return Answer(
        point,
        why,
        classes_of(
            [(own.name, own.artifact)],
            own.evaluation(evaluation),
            point.network,
            point.level,
            point.setting,
        ),
        "Run it on a device:",
        device_command(path, Path(label), own.deployment.rest, upstream),
    )


def subjects_of(
    paths: Sequence[str],
    artifacts: Sequence[EvaluatedArtifact],
    upstream: EvaluatedArtifact | None,
) -> list[Subject]:
    """Read deployments, and find the artifact of each.

    Args:
        paths: of the files, which are their labels.

    Raises:
        EennError: a file twice, one for an artifact that is not given, or an artifact or upstream
            network without a deployment.
    """
    if not paths or len(set(paths)) < len(paths):
        raise EennError("deployment: allowed are a file or a list of different ones")
    if not artifacts:
        raise EennError("artifact=[]: allowed are one or more; give those of the deployments")
    named = named_artifacts(artifacts)
    by_id = {artifact.manifest.id: (name, artifact) for name, artifact in named}
    subjects = []
    for path in paths:
        deployment = Deployment.load(Path(path))
        # Checked against the first artifact, a deployment of one that was not given is refused.
        name, artifact = by_id.get(deployment.artifact_id, named[0])
        deployment.check(artifact.manifest)
        then = upstream_of(deployment, upstream)
        subjects.append(Subject(path, deployment, name, artifact, then))
    idle = by_id.keys() - {one.artifact.manifest.id for one in subjects}
    for _, artifact in (by_id[one] for one in sorted(idle)):
        raise EennError(f"artifact={artifact.manifest.path}: no deployment is for it; leave it out")
    if upstream is not None and not any(one.upstream for one in subjects):
        raise EennError(
            f"upstream={upstream.manifest.path}: the deployment names no upstream network; leave "
            "upstream out"
        )
    return subjects


def upstream_of(
    deployment: Deployment, found: EvaluatedArtifact | None
) -> EvaluatedArtifact | None:
    """Return the upstream network if the deployment names it, else None.

    Raises:
        EennError: the deployment names a network that is not given, or another one.
    """
    wanted = deployment.upstream
    if wanted is None:
        return None
    if found is None:
        raise EennError(
            f"the deployment passes images on to artifact {wanted.artifact_id:.12}; give "
            "upstream=DIR, where that lies"
        )
    if wanted.artifact_id != found.manifest.id:
        raise EennError(
            f"upstream={found.manifest.path} is artifact {found.manifest.id:.12} and the "
            f"deployment names artifact {wanted.artifact_id:.12}; give that one"
        )
    return found


def _facts(subjects: Sequence[Subject], evaluation: Evaluation) -> dict[str, str]:
    """Describe the evaluation for the head of its page."""
    link, service = evaluation.link, evaluation.service
    kinds = dict.fromkeys(distorted(evaluation.distortion, level) for level in evaluation.levels)
    paths = dict.fromkeys(
        f"{a.manifest.path} ({a.manifest.id[:12]})" for a in (one.artifact for one in subjects)
    )
    return {
        "artifact": ", ".join(paths),
        **{one.label: _way(one) for one in subjects},
        "distortion": ", ".join(kinds),
        "link": f"{link.bandwidth_mbps:g} Mbps, round trip {link.rtt_ms:g} ms",
        "deadline": f"{service.deadline_ms:g} ms, batches of {service.batch_size}",
    }


def _way(subject: Subject) -> str:
    deployment = subject.deployment
    setting = deployment.setting
    parts = [
        setting.policy_text,
        f"branches {setting.branches or 'none'}",
        f"temperature {deployment.temperature}",
        f"experts {deployment.experts}",
        f"rest by {deployment.rest}",
        f"payload {deployment.payload}",
    ]
    if deployment.cut is not None:
        parts.append(f"cut after block {deployment.cut}, costs as behind the last active branch")
    return ", ".join(map(words, parts))


def _promises(subjects: Sequence[Subject]) -> list[str]:
    """Say what the files promise, for a comparison with the results."""
    return [
        f"{one.label} promises {one.deployment.promise}"
        for one in subjects
        if one.deployment.promise
    ]


def _described(subject: Subject) -> Mapping[str, Json]:
    return {"artifact_id": subject.deployment.artifact_id, "way": _way(subject)}
