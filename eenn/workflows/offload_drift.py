"""A stream of changing photographs through a guarded edge and a cloud, beside records of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from eenn.artifact.deployment import DEADLINE_MS, Deployment
from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.artifact.guard_settings import GuardSettings
from eenn.data.datasets import Photo
from eenn.errors import EennError
from eenn.evaluation.answers import answers
from eenn.evaluation.evaluated import VALIDATION, Evaluated, Evaluation
from eenn.evaluation.fitting import LAST_EXIT, Goal, fit
from eenn.evaluation.grid import Service, exit_outputs
from eenn.evaluation.promises import deployment_of
from eenn.exits.policies.base import ExitProbs
from eenn.files import Json
from eenn.models.architecture import branches_text
from eenn.offload.adaptation.field_log import DROPPED, FieldEntry
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.bench.benchmark import Offloading, Server, open_cloud
from eenn.offload.bench.courses import (
    Course,
    Segment,
    Stream,
    clairvoyant_course,
    guarded_course,
    segment_rows,
    static_course,
    whole_row,
)
from eenn.offload.bench.edge_process import serving_edge
from eenn.offload.bench.live_stream import feed, live_course
from eenn.offload.bench.stream import RecordedImages
from eenn.offload.bench.stream_photographs import check_sizes
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.commands import device_command
from eenn.reports.drift import Streamed, drift_report, segment_cells, summed_up
from eenn.reports.tables import Cell, distorted, flat, table, write_csv
from eenn.run_directory import FIELD_LOG, SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.measured_settings import SegmentSettings
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

IMAGES = "images.csv"


@dataclass(frozen=True)
class Streaming:
    """The settings of a stream.

    Args:
        seed: of the photographs that are drawn, and of the simulated guard's audits.
        deployment: a file whose settings the edge has; None fits a threshold.
    """

    segments: Sequence[SegmentSettings]
    guard: GuardSettings
    seed: int
    deployment: Path | None


def run_stream(
    run: Run,
    artifact: EvaluatedArtifact,
    server: Server,
    offloading: Offloading,
    streaming: Streaming,
) -> None:
    """Send a stream through edge and cloud; write the deployment, images.csv and the report.

    The edge leaves its field log, its guard's state and its lines in the run's directory too.

    Raises:
        EennError: something does not fit the artifact, or the edge does not answer.
    """
    preprocessing = artifact.manifest.preprocessing
    check_sizes(preprocessing)
    deployment = _deployment(artifact, offloading, streaming)
    path = run.directory / DEPLOYMENT
    deployment.save(path)
    photos = list(artifact.photos(offloading.split, offloading.limit))
    stream = _stream(artifact, deployment, offloading.split, photos, streaming)
    courses, guard = list[Course](), _guard(stream, deployment, streaming)
    courses += [static_course(stream), guarded_course(stream, guard)]
    distortions = [segment.distortion for segment in streaming.segments]
    weights = artifact.manifest.path
    began = time.monotonic()
    with (
        open_cloud(server, [str(weights)], offloading.link) as url,
        serving_edge(weights, path, url, run.directory) as edge,
    ):
        answered = feed(edge, stream, photos, distortions, preprocessing)
    live_s = time.monotonic() - began
    live, entries = live_course(stream, answered, run.directory / FIELD_LOG)
    courses += [live, clairvoyant_course(stream, streaming.guard.risk)]
    write_csv(run.directory / IMAGES, _image_cells(stream, photos, live, entries))
    rows = segment_rows(stream, courses)
    results = Streamed(stream, courses, rows, whole_row(stream, live), streaming.guard)
    facts = _facts(artifact, deployment, offloading, streaming, entries) | {
        "live": f"{stream.images:,} photographs in {live_s:.0f} s",
    }
    command = device_command(weights, path)
    report = drift_report(f"Stream: {run.name}", facts, results, command)
    cells = segment_cells(rows)
    summary: dict[str, Json] = {
        "headline": flat(results.whole),
        "segments": [flat(row) for row in rows],
        "table": cells,
        "promised": asdict(streaming.guard),
        "stream": [asdict(segment) for segment in streaming.segments],
        **facts,
    }
    shown = f"{table(cells)}\n\ndeployment: {path}\nrun it: {command}"
    conclusion = Conclusion(report, SUMMARY, summary, shown, summed_up(results))
    conclude(run.directory, conclusion, run.provenance, run_tracker(run))


def _deployment(
    artifact: EvaluatedArtifact, offloading: Offloading, streaming: Streaming
) -> Deployment:
    """Read the deployment, or fit it to the guard's risk; it has the guard of the settings.

    Raises:
        EennError: the file is not a deployment of the artifact, or passes images on to another
            network; or nothing can be fitted.
    """
    if streaming.deployment is None:
        return replace(_fitted(artifact, offloading, streaming.guard), guard=streaming.guard)
    deployment = Deployment.load(streaming.deployment)
    deployment.check(artifact.manifest)
    if deployment.upstream is not None:
        raise EennError(
            f"stream with {streaming.deployment}, which passes images on to {deployment.upstream}: "
            "allowed is a deployment whose artifact answers them itself"
        )
    return replace(deployment, guard=streaming.guard)


def _fitted(
    artifact: EvaluatedArtifact, offloading: Offloading, guard: GuardSettings
) -> Deployment:
    """Fit the threshold to the guard's risk on the validation images, whose labels are not used.

    Raises:
        EennError: several policies or no branch, or no threshold has so small a risk.
    """
    goal = Goal("risk", guard.risk, guard.delta, "clopper_pearson", against=LAST_EXIT)
    evaluation = Evaluation(
        split=offloading.split,
        policies=offloading.policies,
        p_tars=offloading.p_tars,
        active=offloading.active,
        distortion=offloading.distortion,
        levels=(0,),
        temperature=offloading.temperature,
        experts=offloading.experts,
        link=offloading.link,
        service=Service(offloading.deadline_ms or DEADLINE_MS, 1),
        goal=goal,
        payload=offloading.payload,
    )
    evaluated = Evaluated(branches_text(artifact.branches), artifact, evaluation)
    evaluated.check_fit()
    if len(offloading.policies) > 1:
        raise EennError(
            "stream with a list of policy settings: allowed is one policy; a sweep with -m has "
            "several"
        )
    if not evaluated.largest:
        raise EennError(
            "stream without an active branch: no image leaves on the edge; allowed is one or more"
        )
    (chosen,) = offloading.policies
    case = evaluated.case(VALIDATION, 0)
    fitted = fit(goal, case, chosen.name, chosen.settings, evaluated.largest, evaluated.validation)
    made = deployment_of(
        fitted, artifact.manifest.id, offloading.temperature, offloading.experts,
        "validation images",
    )  # fmt: skip
    return replace(
        made,
        precision=offloading.precision,
        payload=offloading.payload,
        deadline_ms=offloading.deadline_ms or DEADLINE_MS,
    )


def _stream(
    artifact: EvaluatedArtifact,
    deployment: Deployment,
    split: str,
    photos: Sequence[Photo],
    streaming: Streaming,
) -> Stream:
    """Draw the photographs of a stream, with their records at every distortion."""
    candidates = Candidates(deployment.policy, deployment.active)
    random = np.random.default_rng(streaming.seed)
    known: dict[str, Segment] = {}
    segments = []
    for own in streaming.segments:
        kind, level = own.distortion.kind, own.level
        name = distorted(kind, level)
        if name not in known:
            records, temperatures = answers(
                artifact, split, kind, level, deployment.experts, deployment.temperature
            )
            place = {sample_id: at for at, sample_id in enumerate(records.sample_ids)}
            chosen = [place[photo.sample_id] for photo in photos]
            outputs = exit_outputs(records, temperatures)
            exits = [ExitProbs(output.exit, output.probs[chosen]) for output in outputs.exits]
            recorded = RecordedImages.of(exits, deployment.active, candidates)
            known[name] = Segment(name, exits, outputs.labels[chosen], recorded, np.empty(0, int))
        order = random.integers(len(photos), size=own.images)
        segments.append(replace(known[name], order=order))
    return Stream(segments, candidates, deployment.active)


def _guard(stream: Stream, deployment: Deployment, streaming: Streaming) -> Guard:
    """Make the guard that is simulated, which begins as the live one does."""
    candidates = stream.candidates
    reference = deployment.promised_edge_share
    return Guard(
        streaming.guard, candidates.values, candidates.start, reference, seed=streaming.seed
    )


def _image_cells(
    stream: Stream, photos: Sequence[Photo], live: Course, entries: Sequence[FieldEntry]
) -> list[Mapping[str, Cell]]:
    """Lay out what the live edge did with every image."""
    numbers = np.concatenate([own.order for own in stream.segments]).tolist()
    named = [own.name for own in stream.segments for _ in own.order]
    return [
        {
            "image": photos[number].sample_id,
            "distortion": name,
            "place": entry.place,
            "exit": entry.exit,
            "failure": entry.failure,
            "differs": bool(differs),
            "correct": bool(correct),
            "audit": entry.audit or "",
            "state": entry.guard.state if entry.guard else "",
            "threshold": float(threshold),
            "alarm": entry.guard.alarm if entry.guard else "",
            "latency_ms": entry.latency_ms,
        }
        for number, name, entry, differs, correct, threshold in zip(
            numbers, named, entries, live.differs, live.correct, live.thresholds, strict=True
        )
    ]


def _facts(
    artifact: EvaluatedArtifact,
    deployment: Deployment,
    offloading: Offloading,
    streaming: Streaming,
    entries: Sequence[FieldEntry],
) -> dict[str, str]:
    """Describe the stream, for the page and the summary."""
    setting, link = deployment.setting, offloading.link
    fitted = f"fitted to {deployment.promise.goal}" if deployment.promise else "as given"
    return {
        "artifact": f"{artifact.manifest.path} ({artifact.manifest.id[:12]})",
        "images": f"{offloading.split} split, drawn with seed {streaming.seed}",
        "threshold": f"{setting.policy_text}, branches {setting.branches}, {fitted}",
        "guard": str(streaming.guard),
        "link": f"emulated, {link.bandwidth_mbps:g} Mbps, round trip {link.rtt_ms:g} ms",
        "features": deployment.payload,
        "experts": str(deployment.experts),
        "audits": f"{sum(entry.audit is not None for entry in entries)}, "
        f"{sum(entry.audit == DROPPED for entry in entries)} of them dropped",
        "failures of the cloud": str(sum(bool(entry.failure) for entry in entries)),
    }
