"""The report of an evaluation: its tables, its figures, and the page that shows them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from eenn.evaluation.branch_search import Saving
from eenn.evaluation.fitting import Fitted
from eenn.evaluation.grid import Service
from eenn.evaluation.rows import ExitTaken, Point, Results
from eenn.evaluation.unlabelled import Unlabelled
from eenn.exits.settings import Baseline
from eenn.planning.costs import Profile
from eenn.reports.curves import (
    against_knob,
    against_level,
    calibration_against_level,
    confidence_by_exit,
    exit_times,
    quantity_of,
    tradeoff_figure,
    way_name,
)
from eenn.reports.differences import SAVINGS_TEXT, saving_lines, saving_rows
from eenn.reports.figures import BARS, Drawn
from eenn.reports.opening import (
    Answer,
    answer_figure,
    answer_section,
    correctness_of,
    curves_of,
    estimate_of,
)
from eenn.reports.page import Section
from eenn.reports.report import Report, table_section
from eenn.reports.rows import (
    AGREEMENT_TEXT,
    CLASSES_TEXT,
    DRIFT_TEXT,
    EXIT_METRICS_TEXT,
    EXITS_TEXT,
    POINTS_TEXT,
    THRESHOLDS_TEXT,
    TRADEOFF_TEXT,
    agreement_rows,
    class_rows,
    drift_note,
    drift_rows,
    exit_metrics_rows,
    fitted_cells,
    point_rows,
    taken_rows,
    verdicts,
)
from eenn.reports.tables import Cell, distorted, flat, raw, words

# Facts that a reader of the answer has to know.
NOTES = ("beware", "not fitted")
CURVES_CAPTION = "a line is a network, or a set of active branches, over its thresholds"


@dataclass(frozen=True)
class Drawing:
    """The inputs of an evaluation's figures.

    Args:
        policy: the one for which curves against the knob are drawn.
        profiles: by network.
    """

    results: Results
    policy: str
    profiles: Mapping[str, Profile]
    distortion: str
    service: Service

    @property
    def first_level(self) -> float:
        """Return the level of the curves against knobs and costs."""
        return self.results.points[0].level

    @property
    def networks(self) -> list[str]:
        """List the networks with branches."""
        points = self.results.points
        return list(dict.fromkeys(p.network.network for p in points if p.network.branches))

    @property
    def where(self) -> str:
        """Name the policy and the level for captions."""
        return f"{words(self.policy)}, {distorted(self.distortion, self.first_level)}"

    def chosen(self, row: Point | ExitTaken) -> bool:
        """Tell if a row is of the chosen policy, at the first level and not fitted."""
        setting = row.setting
        return (
            row.level == self.first_level
            and setting.baseline is None
            and setting.policy is not None
            and setting.policy.label == self.policy
            and not setting.goal
        )


def evaluation_report(
    title: str,
    facts: Mapping[str, str],
    drawing: Drawing,
    fitted: Sequence[Fitted],
    savings: Sequence[Saving],
    unlabelled: Unlabelled,
    reliability: Sequence[Drawn],
    answer: Answer,
) -> Report:
    """Put together the report of an evaluation.

    Args:
        savings: of searches for active branches.
        reliability: the diagrams of every network and level.
        answer: the answer that opens the page.
    """
    results, drift = drawing.results, drift_section(unlabelled, drawing.distortion)
    tables = [
        *_fit_sections(fitted, savings),
        table_section("Settings", POINTS_TEXT, point_rows(results.points)),
        table_section("Classes", CLASSES_TEXT, class_rows(answer.classes)),
        table_section("Stops by exit", EXITS_TEXT, taken_rows(results.exits)),
        drift,
        table_section(
            "Agreement between exits", AGREEMENT_TEXT, agreement_rows(unlabelled.agreement)
        ),
        table_section(
            "Calibration of the exits", EXIT_METRICS_TEXT, exit_metrics_rows(results.exit_metrics)
        ),
        table_section("Every policy", TRADEOFF_TEXT, point_rows(results.tradeoff)),
    ]
    notes = [facts[name] for name in NOTES if name in facts]
    notes += _at_strongest(results.points, answer.point, drawing.distortion)
    notes += saving_lines(savings, drawing.distortion)
    notes += drift_note(unlabelled.drift, drawing.distortion)
    return Report(
        title,
        facts,
        {
            "points": [flat(row) for row in results.points],
            "exits": [flat(row) for row in results.exits],
            "quality": [flat(row) for row in results.exit_metrics],
            "tradeoff": [{**flat(row), "setting": row.setting.number} for row in results.tradeoff],
            "classes": [flat(row) for row in answer.classes],
            "savings": [flat(row) for row in savings],
            **unlabelled_tables(unlabelled),
        },
        [],
        [*figures(drawing), *reliability],
        # The reason for missing drift tests is worth a section, too.
        [one for one in tables if one.rows or (one is drift and unlabelled.left_out)],
        answer_section(results.points, answer, notes),
        answer_figure(
            results.points, answer.point, curves_of(results.points, answer.point), CURVES_CAPTION
        )
        if drawing.networks
        else None,
    )


def _fit_sections(fitted: Sequence[Fitted], savings: Sequence[Saving]) -> list[Section]:
    if not fitted:
        return []
    rows = [raw(fitted_cells(each)) for each in fitted]
    return [
        table_section("Fitted thresholds", THRESHOLDS_TEXT, rows),
        table_section("Branches switched off", SAVINGS_TEXT, saving_rows(savings)),
    ]


def _at_strongest(points: Sequence[Point], point: Point, distortion: str) -> list[str]:
    """Describe a point's setting under the strongest distortion, if images are distorted."""
    strongest = max(own.level for own in points)
    right = correctness_of(points)
    return [
        f"At {distorted(distortion, own.level)}: "
        f"{100 * estimate_of(own, right).value:.1f} % right, "
        f"{100 * own.edge_probability.value:.1f} % answered on the edge."
        for own in points
        if own.level == strongest > point.level
        and (own.network, own.setting) == (point.network, point.setting)
        and right == "accuracy"
    ]


def unlabelled_tables(unlabelled: Unlabelled) -> dict[str, list[dict[str, Cell]]]:
    """Lay out the rows that need no labels flat, by table."""
    return {
        "agreement": [flat(row) for row in unlabelled.agreement],
        "drift": [flat(row) for row in unlabelled.drift],
    }


def drift_section(unlabelled: Unlabelled, distortion: str) -> Section:
    """Report the verdict on drift, and every quantity that was tested."""
    said = [*verdicts(unlabelled.drift, distortion), *unlabelled.left_out]
    text = "\n".join([*said, DRIFT_TEXT])
    return table_section("Drift", text, drift_rows(unlabelled.drift))


def figures(drawing: Drawing) -> list[Drawn]:
    """Draw every figure that the results have points for."""
    made: list[Drawn] = []
    made += _against_knob(drawing)
    made += _exit_times(drawing)
    made += _against_level(drawing)
    made += _tradeoffs(drawing)
    return made


def _against_knob(drawing: Drawing) -> list[Drawn]:
    results, level = drawing.results, drawing.first_level
    ways = [row for row in results.points if drawing.chosen(row)]
    if (
        not drawing.networks
        or len({row.setting.number for row in ways if np.isfinite(row.setting.number)}) < 2
    ):
        return []
    alone = [
        row
        for row in results.points
        if row.setting.baseline is Baseline.LAST_EXIT_ONLY and row.level == level
    ]
    curve, made = [*ways, *alone], []
    batches = f"batches of {drawing.service.batch_size}"
    for quantity, heading, caption in (
        ("edge_probability", "Edge probability", "Share of images answered on the edge."),
        ("accuracy", "Accuracy", "Accuracy of all answers, from the edge and from the cloud."),
        (
            "latency_ms",
            "Expected latency",
            "Mean time to the answer from median stage times, the link for offloaded images "
            "included; the intervals are over images alone. Edge and cloud are both this machine.",
        ),
        (
            "outage",
            "Inference outage",
            f"Share of random {batches} whose accuracy on the edge is below the threshold.",
        ),
        (
            "missed_deadline",
            "Missed deadline",
            f"Share of random {batches} whose mean latency is above "
            f"{drawing.service.deadline_ms:g} ms, at median stage times.",
        ),
    ):
        if any(np.isfinite(quantity_of(row, quantity).value) for row in curve):
            figure = against_knob(curve, quantity)
            made.append(Drawn(quantity, heading, f"{caption} {drawing.where}. {BARS}", figure))
    caption = (
        "Mean confidence of the answers of images that stopped at each exit. Those that a branch "
        "accepted lie above the threshold (grey) by construction; the last exit also holds images "
        f"that no exit accepted. Exits without images have no point. {drawing.where}. {BARS}"
    )
    taken = confidence_by_exit([row for row in results.exits if drawing.chosen(row)])
    return [*made, Drawn("confidence", "Confidence by exit", caption, taken)]


def _exit_times(drawing: Drawing) -> list[Drawn]:
    if not drawing.networks:
        return []
    caption = (
        "Processing time to every exit with all branches active, one image on one CPU thread, "
        "eager PyTorch: medians, whiskers at the 5th and 95th percentile."
    )
    own = {network: drawing.profiles[network] for network in drawing.networks}
    return [Drawn("exit_times", "Time to every exit", caption, exit_times(own))]


def _against_level(drawing: Drawing) -> list[Drawn]:
    points, distortion = drawing.results.points, drawing.distortion
    if not drawing.networks or len({row.level for row in points}) < 2:
        return []
    made = []
    ways = [(way_name(row.setting), row) for row in points]
    labelled = any(np.isfinite(row.accuracy.value) for row in points)
    for quantity, heading in (
        ("accuracy", "Accuracy"),
        ("edge_probability", "Edge probability"),
        ("macs", "MACs"),
    ):
        if quantity == "accuracy" and not labelled:
            continue
        figure = against_level(ways, quantity, distortion)
        caption = f"{heading} of every policy and threshold at every level. {BARS}"
        heading = f"{heading} against the distortion"
        made.append(Drawn(f"level_{quantity}", heading, caption, figure))
    for network in drawing.networks if labelled else ():
        figure = calibration_against_level(drawing.results.exit_metrics, distortion, network)
        caption = (
            "Calibration error, and the AUROC of confidence as a detector of right answers. " + BARS
        )
        heading = f"Calibration of the exits, {network}"
        made.append(Drawn(f"quality_{_slug(network)}", heading, caption, figure))
    return made


def _tradeoffs(drawing: Drawing) -> list[Drawn]:
    rows = drawing.results.tradeoff
    conventional = [
        point
        for point in drawing.results.points
        if not point.network.branches and point.level == drawing.first_level
    ]
    caption = (
        f"Every policy over its settings, {distorted(drawing.distortion, drawing.first_level)}; "
        "settings more than 20 points below the last exit are cut off. "
        "The oracle takes the first exit that is right: it sees the labels, and bounds the "
        f"accuracy of rules that pick an exit, not of committees. {BARS}"
    )
    return [
        Drawn(
            f"tradeoff_{_slug(network)}",
            f"Trade-off, {network}",
            caption,
            tradeoff_figure(rows, network, conventional),
        )
        for network in dict.fromkeys(row.network.network for row in rows)
    ]


def reliability(network: str, seed: int, distortion: str, level: float, figure: Figure) -> Drawn:
    """Caption the reliability diagrams of one network at one level."""
    caption = (
        "Accuracy against confidence before and after temperature scaling; the area of a marker is "
        f"its share of the images. Seed {seed}."
    )
    heading = f"Reliability, {network}, {distorted(distortion, level)}"
    name = _slug(f"reliability {network} {distortion} level {level:g}")
    return Drawn(name, heading, caption, figure)


def _slug(network: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", network.lower()).strip("_")
