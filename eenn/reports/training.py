"""The report of a training: accuracy and calibration of every exit, or of every expert."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eenn.exits.head_sets import Classifier, Expert
from eenn.models.architecture import Exit, exit_macs
from eenn.planning.costs import Costs
from eenn.reports.canvas import draw_lines, label_axis, make_panels
from eenn.reports.commands import evaluate_command, experts_command
from eenn.reports.figures import Drawn, reliability_figure
from eenn.reports.opening import tile
from eenn.reports.page import Number, Section
from eenn.reports.report import Report, table_section
from eenn.reports.tables import words
from eenn.statistics.calibration import Temperatures, ece, ece_if_calibrated, nll, probabilities
from eenn.statistics.intervals import Estimate, share

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def training_report(
    facts: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
    recorded: Mapping[str, tuple[Logits, Labels]],
    temperatures: Temperatures,
    exits: Sequence[Exit],
    artifact: Path,
) -> Report:
    """Put together the report of a training.

    Args:
        rows: as of `exit_rows`.
        recorded: raw logits and labels by part of the split, the test split among them.
        exits: the manifest's table of exits.
        artifact: its directory.
    """
    caption = (
        "Accuracy against confidence before and after temperature scaling; the area of a marker is "
        "its share of the images."
    )
    figures = [
        Drawn(
            f"reliability_{part}",
            f"Reliability, {part} split",
            caption,
            reliability_figure(logits, labels, temperatures.per_exit),
        )
        for part, (logits, labels) in recorded.items()
    ]
    logits, labels = recorded["test"]
    right = logits.argmax(-1) == labels
    accuracies = [share(int(own.sum()), len(labels)) for own in right]
    macs = exit_macs(exits)
    return Report(
        "Training",
        facts,
        {"exits": rows},
        [],
        figures,
        [table_section("Exits", EXITS_TEXT, rows)],
        _trained(accuracies, macs, len(labels), artifact),
        _accuracy_figure(accuracies, macs) if len(macs) > 1 else None,
    )


def _trained(
    accuracies: Sequence[Estimate], macs: Sequence[int], n: int, artifact: Path
) -> Section:
    """Sum up the network's accuracy, the artifact's place, and the command to go on with."""
    *branches, final = accuracies
    numbers = [tile("final accuracy", "%", 100, final)]
    title = f"{100 * final.value:.1f} % right at the last exit"
    if branches:
        part = 100 * macs[-2] / macs[-1]
        last = len(branches)
        title += f", {100 * branches[-1].value:.1f} % at branch {last} for {part:.0f} % of the MACs"
        numbers.append(tile(f"accuracy of branch {last}", "%", 100, branches[-1]))
        numbers.append(Number(f"MMACs to branch {last}", f"{macs[-2] / 1e6:.1f}", f"{part:.0f} %"))
    numbers.append(Number("MMACs in all", f"{macs[-1] / 1e6:.1f}", "with all branches"))
    return Section(
        title,
        f"Every exit as if it answered all {n} test images. The artifact is {artifact}.",
        numbers=numbers,
        purpose="Evaluate it over thresholds and sets of branches:",
        command=evaluate_command(artifact),
    )


def _accuracy_figure(accuracies: Sequence[Estimate], macs: Sequence[int]) -> Drawn:
    """Draw the accuracy of every exit against its MACs."""
    figure, (axis,) = make_panels(1, width=5.2, height=2.9)
    marks = [(count / 1e6, own) for count, own in zip(macs, accuracies, strict=True)]
    draw_lines(axis, {"exits": marks}, "accuracy")
    for number, (x, own) in enumerate(marks, 1):
        axis.annotate(
            str(number), (x, 100 * own.value), (6, -12), textcoords="offset points", fontsize=9
        )
    label_axis(axis, "MACs to the exit, millions", "accuracy", "")
    caption = "Every exit as if it answered all test images. Bars: 95 % interval."
    return Drawn("headline", "Accuracy of every exit", caption, figure)


def expert_training_report(
    facts: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
    experts: Sequence[Expert],
    classifier: Classifier,
    artifact: Path,
) -> Report:
    """Put together the report of a training of experts.

    Args:
        rows: those of `expert_rows`.
        artifact: its directory.
    """
    headline = _experts_trained(experts, classifier, artifact)
    tables = [table_section("Experts", EXPERTS_TEXT, rows)]
    return Report("Training of experts", facts, {"experts": rows}, [], [], tables, headline)


def _experts_trained(experts: Sequence[Expert], classifier: Classifier, artifact: Path) -> Section:
    """Sum up the experts' gain at the last exit, the artifact's place, and the next command."""
    numbers, said = [], []
    for expert, recognised in zip(experts, classifier.validation_accuracy[1:], strict=True):
        plain, own = (
            100 * each[-1] for each in (expert.plain_accuracy, expert.validation_accuracy)
        )
        kind = words(expert.kind)
        said.append(f"{kind} {plain:.0f} to {own:.0f} %")
        beside = f"plain {plain:.1f} %; {100 * recognised:.0f} % recognised"
        numbers.append(Number(f"{kind}, with its expert", f"{own:.1f} %", beside))
    return Section(
        f"Right with experts: {', '.join(said)}",
        "Accuracy of the last exit on distorted validation images, by the plain heads and by the "
        f"expert's. The artifact is {artifact}.",
        numbers=numbers,
        purpose="Use them on a device, chosen by the distortion classifier:",
        command=experts_command(artifact),
    )


def exit_metrics(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperatures: Temperatures
) -> dict[str, list[float]]:
    """Compute accuracy, NLL (nats) and ECE of every exit, before and after its temperature.

    `ece_if_calibrated` is the mean ECE of a perfectly calibrated model with the same confidences,
    over draws of this many samples.

    Args:
        logits: raw, (exits, samples, classes).
        labels: class indices, (samples,).

    Returns:
        Lists with one number per exit, by metric.
    """
    metrics: dict[str, list[float]] = {
        "accuracy": [float((z.argmax(-1) == labels).mean()) for z in logits],
        "nll": [nll(z, labels) for z in logits],
        "ece": [ece(probabilities(z), labels) for z in logits],
    }
    pairs = list(zip(logits, temperatures.per_exit, strict=True))
    calibrated = [probabilities(z, t) for z, t in pairs]
    metrics["nll_calibrated"] = [nll(z, labels, t) for z, t in pairs]
    metrics["ece_calibrated"] = [ece(probs, labels) for probs in calibrated]
    metrics["ece_if_calibrated"] = [ece_if_calibrated(probs)[0] for probs in calibrated]
    return metrics


def exit_rows(
    metrics: dict[str, list[float]],
    temperatures: Temperatures,
    exits: Sequence[Exit],
    weight_bytes: Costs | None = None,
) -> list[dict[str, str]]:
    """Print one row per exit: its place, its cost, its accuracy and its calibration.

    Args:
        exits: the manifest's table of exits. MACs and MB, of weights, count all segments
            and heads up to the exit.
        weight_bytes: of segments and heads; None where they are not known.
    """
    return [
        {
            "exit": str(k + 1),
            "after block": str(row.after),
            "MMACs": f"{macs / 1e6:.1f}",
            **_megabytes(weight_bytes, k),
            "accuracy %": f"{100 * metrics['accuracy'][k]:.1f}",
            "NLL": f"{metrics['nll'][k]:.3f}",
            "NLL cal.": f"{metrics['nll_calibrated'][k]:.3f}",
            "ECE %": f"{100 * metrics['ece'][k]:.1f}",
            "ECE % cal.": f"{100 * metrics['ece_calibrated'][k]:.1f}",
            "T": f"{temperatures.per_exit[k]:.3f}",
        }
        for k, (row, macs) in enumerate(zip(exits, exit_macs(exits), strict=True))
    ]


def _megabytes(weight_bytes: Costs | None, exit: int) -> dict[str, str]:
    if weight_bytes is None:
        return {}
    held = weight_bytes.held(range(exit + 1), rest_on_device=False)
    return {"MB": f"{held / 1e6:.1f}"}


def expert_rows(experts: Sequence[Expert], classifier: Classifier) -> list[dict[str, str]]:
    """Print one row per expert: accuracies on distorted validation images, and its size."""
    rows = []
    for expert, recognised in zip(experts, classifier.validation_accuracy[1:], strict=True):
        accuracies = {
            f"exit {k}": f"{100 * plain:.1f} -> {100 * own:.1f}"
            for k, (plain, own) in enumerate(
                zip(expert.plain_accuracy, expert.validation_accuracy, strict=True), 1
            )
        }
        rows.append(
            {
                "expert": expert.kind,
                "levels": f"{expert.mildest:g} to {expert.strongest:g}",
                **accuracies,
                "recognised %": f"{100 * recognised:.1f}",
                "kB": f"{expert.bytes / 1e3:.0f}",
            }
        )
    return rows


EXITS_TEXT = (
    "The test split, every exit as if it answered all images. MACs count all segments and heads up "
    'to the exit. NLL in nats; "cal." is after temperature scaling, T the temperature.'
)
EXPERTS_TEXT = (
    "The validation split, distorted as in training: accuracy of the plain heads and then of the "
    "expert's, in %, for every exit, and the share of these images that the classifier recognises."
)
