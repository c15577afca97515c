"""An evaluation of several networks together: their frontier, and a deployment fitted over them."""

from collections.abc import Iterator, Sequence

from eenn.artifact.deployment import FILE as DEPLOYMENT
from eenn.errors import EennError
from eenn.evaluation.answers import check_experts
from eenn.evaluation.designs import COSTS
from eenn.evaluation.evaluated import Evaluation
from eenn.evaluation.fitting import Goal
from eenn.evaluation.frontier import Frontier, Reported
from eenn.evaluation.names import named_artifacts
from eenn.evaluation.promises import deployment_of
from eenn.exits.head_sets import DEPLOYED
from eenn.exits.rests import CLOUD, DEVICE
from eenn.files import Json
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.reports.commands import device_command, frontier_command
from eenn.reports.frontier import budget_cells, budget_rows, design_text, frontier_report, verdicts
from eenn.reports.summed_up import evaluated
from eenn.reports.tables import table
from eenn.run_directory import SUMMARY
from eenn.workflows.conclusion import Conclusion, conclude
from eenn.workflows.evaluate import described, facts, with_rest
from eenn.workflows.images import fitted_to, image_facts, image_notes
from eenn.workflows.run import Run
from eenn.workflows.tracking import run_tracker

# The design that opens a page without a fit: the cheapest that is surely this close to the most
# accurate network.
CLOSE = Goal("accuracy_drop", 0.01)


def run_frontier(
    run: Run,
    artifacts: Sequence[EvaluatedArtifact],
    evaluation: Evaluation,
    strict: Sequence[float] | None,
    rest: str | None,
) -> None:
    """Evaluate; write tables, figures, `report.html` and `summary.json` into the run's directory.

    With a goal the best design is written as a deployment, too.

    Args:
        strict: values to try for policies that have it; None for the policies' own.
        rest: the place of the rest; None tries the device and the cloud.

    Raises:
        EennError: networks that cannot be compared, or a goal that no design meets.
    """
    for artifact in artifacts:
        check_experts(artifact, evaluation.experts, evaluation.distortion)
    rests = (DEVICE, CLOUD) if rest is None else (rest,)
    frontier = Frontier([*_named(artifacts)], evaluation, rests, strict)
    goal = evaluation.goal
    chosen = frontier.report(frontier.chosen(goal or CLOSE))
    images = image_facts(artifacts, evaluation.split)
    purpose, command, said = _next_step(run, artifacts, evaluation, chosen)
    rows = {cost: frontier.compared(cost) for cost in COSTS}
    report = frontier_report(
        f"Evaluation: {run.name}",
        facts(artifacts, evaluation, images),
        frontier,
        rows,
        chosen,
        _why(goal),
        purpose,
        command,
    )
    summary: dict[str, Json] = {
        "budgets": [dict(budget_cells(row)) for own in rows.values() for row in own],
        "chosen": design_text(chosen.design),
        "verdicts": list(verdicts(rows["macs"])),
        **described(artifacts, evaluation),
    }
    best = [
        cells
        for cells, row in zip(budget_rows(rows["macs"]), rows["macs"], strict=True)
        if row.best
    ]
    parts = [table(best), *verdicts(rows["macs"]), said, image_notes(images)]
    summed_up = evaluated(chosen.point, evaluation.link)
    shown = "\n\n".join(filter(None, parts))
    conclude(
        run.directory,
        Conclusion(report, SUMMARY, summary, shown, summed_up),
        run.provenance,
        run_tracker(run),
    )


def _named(artifacts: Sequence[EvaluatedArtifact]) -> Iterator[tuple[str, EvaluatedArtifact]]:
    """Name every network, its input size included, as networks of all sizes meet here."""
    for name, artifact in named_artifacts(artifacts):
        size = f"{artifact.manifest.preprocessing.input_size} px"
        yield (name if size in name else f"{name}, {size}"), artifact


def _why(goal: Goal | None) -> str:
    """Explain the choice of the design that opens the page."""
    if goal is None:
        return (
            "Of all designs the cheapest in MACs that surely loses at most one point to the most "
            "accurate network, chosen on validation."
        )
    return f"Fitted on validation to {goal}; the numbers are of the images of this evaluation."


def _next_step(
    run: Run,
    artifacts: Sequence[EvaluatedArtifact],
    evaluation: Evaluation,
    chosen: Reported,
) -> tuple[str, str, str]:
    """Write the deployment of a fit, and give the command that goes on from here.

    Returns:
        The command's purpose, the command, and a line about the deployment.
    """
    if evaluation.goal is None:
        paths = [artifact.manifest.path for artifact in artifacts]
        purpose = "Fit a budget of MACs over these networks, and write a deployment:"
        return purpose, frontier_command(paths, chosen.point.macs.value), ""
    own = chosen.design.family.evaluated
    if evaluation.experts.mode not in DEPLOYED:
        raise EennError(
            f"fit.goal with experts={evaluation.experts}: these are for evaluations only"
        )
    manifest = own.artifact.manifest
    deployment = with_rest(
        deployment_of(
            chosen.design.fitted(evaluation.goal),
            manifest.id,
            evaluation.temperature,
            evaluation.experts,
            fitted_to(own.artifact),
        ),
        own.evaluation,
    )
    path = run.directory / DEPLOYMENT
    deployment.save(path)
    upstream = own.evaluation.upstream
    then = upstream.manifest.path if upstream else None
    command = device_command(manifest.path, path, own.evaluation.rest, then)
    said = f"deployment: {path}\n{design_text(chosen.design)}; {deployment.promise}"
    return "Run it on a device:", command, said
