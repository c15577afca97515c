"""The jobs of evaluations and benchmarks: from settings to values, and on to the workflow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.evaluation.cascades import check_upstream
from eenn.evaluation.evaluated import Evaluation
from eenn.evaluation.fitting import Goal
from eenn.evaluation.grid import Service
from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.base import KnobValue
from eenn.exits.settings import ActiveBranches, Swept, swept
from eenn.files import Json
from eenn.models.architecture import branches_text
from eenn.offload.bench.benchmark import Offloading, Server
from eenn.offload.bench.deployments import deployed_offloading
from eenn.offload.export.report import export_artifact
from eenn.offload.graphs.index import FOLDER
from eenn.planning.planners.comparison import Comparison
from eenn.programs import TRAIN
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.records.opening import open_artifacts
from eenn.run_directory import find_artifact
from eenn.workflows.evaluate import run_evaluation
from eenn.workflows.evaluate_deployments import run_deployments, subjects_of, upstream_of
from eenn.workflows.evaluate_experts import run_expert_evaluation
from eenn.workflows.evaluate_field import run_field
from eenn.workflows.evaluate_frontier import run_frontier
from eenn.workflows.images import image_line, title_of
from eenn.workflows.measured_settings import EvaluateSettings, OffloadSettings, several
from eenn.workflows.offload import run_offloading
from eenn.workflows.offload_drift import Streaming, run_stream
from eenn.workflows.offload_plans import Networks
from eenn.workflows.run import Job, Run
from eenn.workflows.tracking import tracked_if_it_fails

# Gives the settings of a compared policy, by its name.
PolicySettings = Callable[[str], Mapping[str, object]]


def evaluate_job(job: Job[EvaluateSettings], policy_settings: PolicySettings) -> None:
    """Evaluate the job's artifacts under one kind of distortion or several, or its field logs."""
    settings = job.settings
    if settings.field is not None:
        _read_field(job, several(settings.field))
        return
    evaluation = evaluation_of(settings, policy_settings)
    asked = settings.artifacts or several(settings.artifact)
    paths = (*asked, *filter(None, [settings.upstream]))
    artifacts = open_artifacts(paths, settings.images, settings.fit.images)
    upstream = artifacts.pop() if settings.upstream is not None else None
    run = run_of(job, "evaluate", artifacts, [*artifacts, *filter(None, [upstream])])
    _begin(job, artifacts)
    with tracked_if_it_fails(run):
        _evaluate(run, settings, artifacts, upstream, evaluation)


def _read_field(job: Job[EvaluateSettings], paths: Sequence[str]) -> None:
    """Report on field logs.

    Raises:
        EennError: no file, or a file twice.
    """
    if not paths or len(set(paths)) < len(paths):
        raise EennError("field: allowed are a file or a list of different ones")
    run = _described(job, "evaluate", "none", ", ".join(paths), [])
    _begin(job, [])
    with tracked_if_it_fails(run):
        run_field(run, [*map(Path, paths)])


def _evaluate(
    run: Run,
    settings: EvaluateSettings,
    artifacts: Sequence[EvaluatedArtifact],
    upstream: EvaluatedArtifact | None,
    evaluation: Evaluation,
) -> None:
    """Evaluate a frontier, deployments, policies under one kind of distortion, or experts."""
    if settings.artifacts is not None:
        strict = settings.fit.strict
        tried = None if strict is None else several(strict)
        run_frontier(run, artifacts, evaluation, tried, settings.rest)
        return
    if settings.deployment is not None:
        if evaluation.goal is not None:
            raise EennError("fit.goal and deployment: allowed is one of them; leave the other out")
        subjects = subjects_of(several(settings.deployment), artifacts, upstream)
        run_deployments(run, subjects, evaluation)
        return
    evaluation = replace(evaluation, upstream=upstream)
    if settings.distortions is None:
        run_evaluation(run, artifacts, evaluation)
    else:
        experts = [HeadChoice.named(name) for name in several(settings.experts)]
        run_expert_evaluation(run, artifacts, evaluation, settings.distortions, experts)


def offload_job(job: Job[OffloadSettings], policy_settings: PolicySettings) -> None:
    """Measure the job's artifact against a cloud, together with the job's other networks."""
    settings = job.settings
    cloud, token = settings.cloud, settings.cloud.token_file
    server = Server(
        cloud.url, Path(token).read_text().strip() if token else None, cloud.ca_file, cloud.slowdown
    )
    offloading = offloading_of(settings, policy_settings)
    networks = _networks(settings)
    beside: list[Offloading] = []
    if settings.deployment is not None and settings.stream is None:
        offloading, *beside = _deployed(several(settings.deployment), networks, offloading)
    run = run_of(job, "offload", [networks.artifact], networks.every)
    _begin(job, [networks.artifact])
    with tracked_if_it_fails(run):
        if settings.stream is not None and settings.guard is not None:
            file = settings.deployment
            deployment = Path(file) if isinstance(file, str) else None
            streaming = Streaming(settings.stream, settings.guard, settings.seed, deployment)
            run_stream(run, networks.artifact, server, offloading, streaming)
            return
        run_offloading(run, networks, server, offloading, beside)


def _begin(
    job: Job[EvaluateSettings] | Job[OffloadSettings], artifacts: Sequence[EvaluatedArtifact]
) -> None:
    """Print the evaluated images and the directory; Hydra announces the jobs of a sweep."""
    if job.group is None:
        print(f"writing to {job.directory}")
        for artifact in artifacts:
            print(image_line(artifact, job.settings.split))


def _deployed(paths: Sequence[str], networks: Networks, offloading: Offloading) -> list[Offloading]:
    """Read the deployments that a benchmark measures, in place of its settings.

    Raises:
        EennError: a deployment of another artifact, or deployments that differ in a setting that
            has to be the same for all that are measured side by side.
    """
    if not paths or len(set(paths)) < len(paths):
        raise EennError("deployment: allowed are a file or a list of different ones")
    found = []
    for path in paths:
        deployment = Deployment.load(Path(path))
        deployment.check(networks.artifact.manifest)
        upstream_of(deployment, networks.upstream)
        own = deployed_offloading(offloading, deployment)
        found.append(replace(own, label=path if len(paths) > 1 else ""))
    for name in ("temperature", "experts", "precision"):
        values = dict.fromkeys(str(getattr(own, name)) for own in found)
        if len(values) > 1:
            raise EennError(
                f"deployments of {name} {', '.join(values)}: allowed is one for all that are "
                "measured side by side; measure the others in a run of their own"
            )
    return found


def _networks(settings: OffloadSettings) -> Networks:
    """Open the networks of a benchmark.

    Raises:
        EennError: a network that does not fit the artifact.
    """
    artifact, conventional, upstream = exported(settings.artifact, settings.images), None, None
    if settings.conventional is not None:
        conventional = exported(settings.conventional, settings.images)
        if conventional.branches:
            raise EennError(
                f"conventional={settings.conventional} has {branches_text(conventional.branches)}; "
                f"allowed is an artifact of `{TRAIN.command} branches=0`"
            )
    if settings.upstream is not None:
        upstream = exported(settings.upstream, settings.images)
        check_upstream(artifact, upstream)
        if conventional is not None and conventional.manifest.id == upstream.manifest.id:
            conventional = upstream
    return Networks(artifact, conventional, upstream)


def found_artifacts(settings: OffloadSettings) -> dict[str, Json]:
    """Find a benchmark's artifacts for config.yaml, so that it is resumed with the same ones."""
    given = {
        "artifact": settings.artifact,
        "conventional": settings.conventional,
        "upstream": settings.upstream,
    }
    return {key: str(find_artifact(path)) for key, path in given.items() if path is not None}


def evaluation_of(settings: EvaluateSettings, policy_settings: PolicySettings) -> Evaluation:
    """Set out an evaluation; of several distortions and experts it has the first."""
    fit, goal = settings.fit, None
    if fit.goal is not None and fit.limit is not None:
        goal = Goal(
            fit.goal,
            fit.limit,
            fit.delta,
            fit.method,
            fit.minimise,
            fit.one_standard_error,
            None if fit.strict is None else several(fit.strict),
            fit.against,
        )
    kind, levels = next(iter(settings.levels_of_kind.items()))
    return Evaluation(
        split=settings.split,
        policies=policies_of(settings, policy_settings),
        p_tars=p_tars_of(settings),
        active=active_of(settings),
        distortion=kind,
        levels=levels,
        temperature=settings.temperature,
        experts=HeadChoice.named(several(settings.experts)[0]),
        link=settings.link,
        service=Service(settings.deadline_ms, settings.batch_size),
        goal=goal,
        search=fit.active is not None,
    )


def offloading_of(settings: OffloadSettings, policy_settings: PolicySettings) -> Offloading:
    """Set out an offloading benchmark."""
    return Offloading(
        split=settings.split,
        limit=settings.limit,
        policies=policies_of(settings, policy_settings),
        p_tars=p_tars_of(settings),
        active=active_of(settings),
        distortion=settings.distortion.kind,
        levels=settings.distortion.levels,
        link=settings.link,
        payload=settings.payload,
        compress=settings.compress,
        upload=settings.upload,
        experts=HeadChoice.named(settings.experts),
        temperature="per_exit",
        precision=settings.edge.precision,
        slowdown=settings.edge.slowdown,
        deadline_ms=settings.deadline_ms,
        min_accuracy=settings.plan.min_accuracy,
        plan_deadline_ms=settings.plan.deadline_ms,
        comparison=Comparison(
            several(settings.plan.compare), settings.plan.watts, settings.plan.frames_per_s
        ),
    )


def policies_of(
    settings: EvaluateSettings | OffloadSettings, policy_settings: PolicySettings
) -> list[Swept]:
    """Set out the chosen policy and those it is compared with over the values of their knobs.

    Raises:
        EennError: the same policy twice, or an unknown one.
    """
    chosen = dict(settings.policy)
    policies: dict[str, Mapping[str, object]] = {chosen.pop("name"): chosen}
    for name in several(settings.compare):
        if name in policies:
            raise EennError(f"compare={name}: this policy is evaluated already; leave it out")
        policies[name] = policy_settings(name)
    grids = {"p_tar": p_tars_of(settings)}
    return [one for name, own in policies.items() for one in swept(name, own, grids)]


def p_tars_of(settings: EvaluateSettings | OffloadSettings) -> Sequence[KnobValue]:
    """Return the grid of thresholds; `thresholds`, one per exit, replaces it."""
    return several(settings.p_tar) if settings.thresholds is None else [settings.thresholds]


def active_of(settings: EvaluateSettings | OffloadSettings) -> ActiveBranches:
    """Return the sets of active branches as users wrote them."""
    return ActiveBranches(settings.active, settings.active_sets, settings.first)


def run_of(
    job: Job[EvaluateSettings] | Job[OffloadSettings],
    kind: Literal["evaluate", "offload"],
    artifacts: Sequence[EvaluatedArtifact],
    asked: Sequence[EvaluatedArtifact],
) -> Run:
    """Describe the job's run: the place of its results, and their origin.

    Args:
        artifacts: the evaluated ones.
        asked: the artifacts, and further networks.
    """
    titles = dict.fromkeys(map(title_of, artifacts))
    seeds = dict.fromkeys(str(artifact.split.seed) for artifact in artifacts)
    models = {each.manifest.id: each.manifest for each in asked}
    return _described(job, kind, ", ".join(seeds), ", ".join(titles), [*models.values()])


def _described(
    job: Job[EvaluateSettings] | Job[OffloadSettings],
    kind: Literal["evaluate", "offload"],
    seed: str,
    data: str,
    models: Sequence[Manifest],
) -> Run:
    origin = provenance(seed, data, f"{processor()}, 1 thread")
    return Run(
        job.directory,
        job.settings.name,
        job.label(job.settings.name, kind),
        job.settings.logger.get("project"),
        job.recorded,
        {**origin, "overrides": list(job.overrides)},
        models,
    )


def exported(path: str, images: str | None) -> EvaluatedArtifact:
    """Open an artifact, and export its graphs if they are missing."""
    artifact = open_artifact(path, images)
    if not (artifact.manifest.path / FOLDER).exists():
        print(f"exporting {artifact.manifest.path} (once)")
        print(f"\n{export_artifact(artifact)}\n")
    return artifact
