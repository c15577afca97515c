"""A job of offload_bench.py: from its settings to a plan, and on to the benchmark."""

from collections.abc import Mapping
from pathlib import Path

from eenn.errors import EennError
from eenn.offload.export.report import export_artifact
from eenn.offload.graphs.index import FOLDER
from eenn.records.evaluated_artifact import Subject, open_subject
from eenn.workflows.check import Arguments
from eenn.workflows.offload import Plan, Server, run_offloading
from eenn.workflows.run import Job, run_of
from eenn.workflows.settings import CloudSettings, OffloadSettings


def offload_job(job: Job[OffloadSettings], policies: Mapping[str, Arguments]) -> None:
    """Measure the job's artifact against a cloud, and its conventional network if it has one.

    Args:
        policies: settings by name; the first is the chosen one.
    """
    settings = job.settings
    server, plan = server_of(settings.cloud), offloading_plan(settings, policies)
    subject, conventional = exported(settings.artifact, settings.images), None
    if settings.conventional is not None:
        conventional = exported(settings.conventional, settings.images)
        if conventional.branches:
            raise EennError(
                f"conventional={settings.conventional} has {conventional.branches} branches; "
                "allowed is an artifact of `python train.py branches=0`"
            )
    run_offloading(run_of(job, [subject]), subject, conventional, server, plan)


def server_of(cloud: CloudSettings) -> Server:
    """The cloud to ask, with the token that its file holds."""
    token = Path(cloud.token_file).read_text().strip() if cloud.token_file else None
    return Server(cloud.url, token, cloud.ca_file, cloud.slowdown)


def offloading_plan(settings: OffloadSettings, policies: Mapping[str, Arguments]) -> Plan:
    """What an offloading benchmark measures."""
    return Plan(
        split=settings.split,
        limit=settings.limit,
        policies=policies,
        p_tars=settings.p_tars,
        active=settings.sets,
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


def exported(artifact: str, images: str | None) -> Subject:
    """An artifact, with its graphs exported if they were not yet."""
    subject = open_subject(artifact, images)
    if not (subject.manifest.path / FOLDER).exists():
        print(f"exporting {subject.manifest.path} (once)")
        print(f"\n{export_artifact(subject)}\n")
    return subject
