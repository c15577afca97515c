"""A job of evaluate.py: from its settings to a plan, and on to the evaluation."""

from collections.abc import Mapping

from eenn.evaluation.fitting import Goal
from eenn.evaluation.grid import Service
from eenn.records.evaluated_artifact import open_subject
from eenn.workflows.check import Arguments
from eenn.workflows.evaluate import Plan, run_evaluation
from eenn.workflows.evaluate_experts import run_expert_evaluation
from eenn.workflows.run import Job, run_of
from eenn.workflows.settings import EvaluateSettings, several


def evaluate_job(job: Job[EvaluateSettings], policies: Mapping[str, Arguments]) -> None:
    """Evaluate the job's artifacts, on one kind of distortion or on several.

    Args:
        policies: settings by name; the first is the chosen one.
    """
    settings = job.settings
    subjects = [open_subject(path, settings.images) for path in several(settings.artifact)]
    plan, run = evaluation_plan(settings, policies), run_of(job, subjects)
    if settings.distortions is None:
        run_evaluation(run, subjects, plan)
    else:
        experts = several(settings.experts)
        run_expert_evaluation(run, subjects, plan, settings.distortions, experts)


def evaluation_plan(settings: EvaluateSettings, policies: Mapping[str, Arguments]) -> Plan:
    """What an evaluation computes: of several distortions and experts the first."""
    fit, goal = settings.fit, None
    if fit.goal is not None and fit.limit is not None:
        goal = Goal(fit.goal, fit.limit, fit.delta, fit.method)
    kind, levels = next(iter(settings.levels_of_kind.items()))
    return Plan(
        split=settings.split,
        policies=policies,
        p_tars=settings.p_tars,
        active=settings.sets,
        distortion=kind,
        levels=levels,
        temperature=settings.temperature,
        experts=several(settings.experts)[0],
        link=settings.link,
        service=Service(settings.deadline_ms, settings.batch_size),
        goal=goal,
    )
