"""The jobs of evaluate.py and offload_bench.py: from settings to a plan, and on to the workflow."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eenn.errors import EennError
from eenn.evaluation.fitting import Goal
from eenn.evaluation.grid import Service
from eenn.offload.export.report import export_artifact
from eenn.offload.graphs.index import FOLDER
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import Subject, open_subject
from eenn.workflows import evaluate, offload
from eenn.workflows.evaluate import run_evaluation
from eenn.workflows.evaluate_experts import run_expert_evaluation
from eenn.workflows.offload import Server, run_offloading
from eenn.workflows.run import Job, Run
from eenn.workflows.settings import EvaluateSettings, OffloadSettings, several

# Gives the settings of a policy that is compared, by its name.
PolicySettings = Callable[[str], Mapping[str, Any]]


def evaluate_job(job: Job[EvaluateSettings], policy_settings: PolicySettings) -> None:
    """Evaluate the job's artifacts, at the levels of one kind of distortion or of several."""
    settings = job.settings
    subjects = [open_subject(path, settings.images) for path in several(settings.artifact)]
    plan, run = evaluation_plan(settings, policy_settings), run_of(job, subjects)
    if settings.distortions is None:
        run_evaluation(run, subjects, plan)
    else:
        experts = several(settings.experts)
        run_expert_evaluation(run, subjects, plan, settings.distortions, experts)


def offload_job(job: Job[OffloadSettings], policy_settings: PolicySettings) -> None:
    """Measure the job's artifact against a cloud, and its conventional network if it has one."""
    settings = job.settings
    cloud, token = settings.cloud, settings.cloud.token_file
    server = Server(
        cloud.url, Path(token).read_text().strip() if token else None, cloud.ca_file, cloud.slowdown
    )
    plan = offloading_plan(settings, policy_settings)
    subject, conventional = exported(settings.artifact, settings.images), None
    if settings.conventional is not None:
        conventional = exported(settings.conventional, settings.images)
        if conventional.branches:
            raise EennError(
                f"conventional={settings.conventional} has {conventional.branches} branches; "
                "allowed is an artifact of `python train.py branches=0`"
            )
    run_offloading(run_of(job, [subject]), subject, conventional, server, plan)


def evaluation_plan(settings: EvaluateSettings, policy_settings: PolicySettings) -> evaluate.Plan:
    """What an evaluation computes: of several distortions and experts the first."""
    fit, goal = settings.fit, None
    if fit.goal is not None and fit.limit is not None:
        goal = Goal(fit.goal, fit.limit, fit.delta, fit.method)
    kind, levels = next(iter(settings.levels_of_kind.items()))
    return evaluate.Plan(
        split=settings.split,
        policies=policies_of(settings, policy_settings),
        p_tars=p_tars_of(settings),
        active=active_of(settings),
        distortion=kind,
        levels=levels,
        temperature=settings.temperature,
        experts=several(settings.experts)[0],
        link=settings.link,
        service=Service(settings.deadline_ms, settings.batch_size),
        goal=goal,
    )


def offloading_plan(settings: OffloadSettings, policy_settings: PolicySettings) -> offload.Plan:
    """What an offloading benchmark measures."""
    return offload.Plan(
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
        experts=settings.experts,
        precision=settings.edge.precision,
        slowdown=settings.edge.slowdown,
        deadline_ms=settings.deadline_ms,
        min_accuracy=settings.plan.min_accuracy,
        plan_deadline_ms=settings.plan.deadline_ms,
    )


def policies_of(
    settings: EvaluateSettings | OffloadSettings, policy_settings: PolicySettings
) -> dict[str, Mapping[str, Any]]:
    """The chosen policy and those it is compared with: their settings by name.

    Raises:
        EennError: the same policy twice.
    """
    chosen = dict(settings.policy)
    policies: dict[str, Mapping[str, Any]] = {chosen.pop("name"): chosen}
    for name in several(settings.compare):
        if name in policies:
            raise EennError(f"compare={name}: it is evaluated already; leave it out")
        policies[name] = policy_settings(name)
    return policies


def p_tars_of(settings: EvaluateSettings | OffloadSettings) -> Sequence[Any]:
    """The grid of thresholds; a list in it has one per exit."""
    return several(settings.p_tar) if settings.thresholds is None else [settings.thresholds]


def active_of(
    settings: EvaluateSettings | OffloadSettings,
) -> Sequence[Sequence[int]] | int | None:
    """The sets of active branches, counted from 1, as of `eenn.exits.settings.active_sets`."""
    if settings.active is not None:
        return [settings.active]
    return settings.first if settings.active_sets is None else settings.active_sets


def run_of(job: Job[EvaluateSettings] | Job[OffloadSettings], subjects: Sequence[Subject]) -> Run:
    """Where the job's results go, and their origin."""
    titles = dict.fromkeys(subject.title for subject in subjects)
    seeds = dict.fromkeys(str(subject.split.seed) for subject in subjects)
    origin = provenance(", ".join(seeds), ", ".join(titles), f"{processor()}, 1 thread")
    return Run(
        job.directory,
        job.settings.name,
        job.group,
        job.settings.logger.get("project"),
        job.recorded,
        {**origin, "overrides": list(job.overrides)},
    )


def exported(artifact: str, images: str | None) -> Subject:
    """An artifact, with its graphs exported if they were not yet."""
    subject = open_subject(artifact, images)
    if not (subject.manifest.path / FOLDER).exists():
        print(f"exporting {subject.manifest.path} (once)")
        print(f"\n{export_artifact(subject)}\n")
    return subject
