"""The report of an evaluation of experts: its tables, its figures, and the page that shows them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eenn.evaluation.experts import Confusion, ExpertPoint
from eenn.evaluation.rows import ExitMetrics
from eenn.exits.head_sets import PLAIN_HEADS, HeadChoice, HeadMode
from eenn.reports.commands import experts_command
from eenn.reports.curves import against_level, way_name
from eenn.reports.figures import BARS, Drawn
from eenn.reports.page import Number, Section
from eenn.reports.report import Report, table_section
from eenn.reports.tables import Cell, flat, number, setting_columns, varying, with_bounds, words
from eenn.statistics.intervals import Estimate


@dataclass(frozen=True)
class Study:
    """The rows of an evaluation of experts, by table.

    Args:
        points: of every policy with all branches active.
        exit_metrics: of every exit as if it answered all images, by distortion and choice of heads.
    """

    points: list[ExpertPoint]
    exit_metrics: list[tuple[str, HeadChoice, ExitMetrics]]
    confusion: list[Confusion]


POINTS_TEXT = (
    'The heads that answer: "plain" are those of the network without distortions, "matching" the '
    'experts of the distortion at hand, where there are some, which no device knows, "auto" those '
    'of the kind that the distortion classifier is sure of, "soft" all heads, weighted by its '
    'probabilities; "fine tuned" is the network fine-tuned for the distortion at hand. '
    "A well calibrated network is as accurate on the edge as its threshold asks."
)
CONFUSION_TEXT = (
    'The heads that the distortion classifier chooses. "Recognised" are images that go to the '
    "heads made for them; a kind without an expert is for the plain heads."
)
FIGURES = (
    ("accuracy", "Accuracy", "Accuracy of all answers, from the edge and from the cloud."),
    ("edge_probability", "Edge probability", "Share of images answered on the edge."),
    ("edge_accuracy", "Accuracy on the edge", "Accuracy of the answers of the edge."),
)


def study_report(title: str, facts: Mapping[str, str], study: Study, artifact: Path) -> Report:
    """Put together the report of an evaluation of experts.

    Args:
        artifact: of the first network.
    """
    drawn = figures(study.points)
    shown = next((one for one in drawn if one.name.endswith("-accuracy")), None)
    tables = [
        table_section("Choices of heads", POINTS_TEXT, point_rows(study.points)),
        table_section("Distortion classifier", CONFUSION_TEXT, confusion_rows(study.confusion)),
    ]
    return Report(
        title,
        facts,
        study_tables(study),
        [],
        [one for one in drawn if one is not shown],
        [section for section in tables if section.rows],
        study_headline(study.points, artifact),
        shown,
    )


def study_headline(points: Sequence[ExpertPoint], artifact: Path) -> Section:
    """Report the mean accuracy of every choice of heads over the distorted images.

    Args:
        points: of all networks; those of the first network, policy and threshold count.
    """
    first = points[0].point
    own = [
        row
        for row in points
        if (row.point.network, row.point.setting) == (first.network, first.setting)
    ]
    own = [row for row in own if row.point.level] or own
    by_choice: dict[HeadChoice, list[ExpertPoint]] = {}
    for row in own:
        by_choice.setdefault(row.experts, []).append(row)
    right = {
        heads: _mean([row.point.accuracy for row in rows]) for heads, rows in by_choice.items()
    }
    numbers = [
        Number(
            _words(heads),
            f"{100 * right[heads]:.1f} %",
            f"{100 * _mean([row.point.edge_probability for row in rows]):.0f} % on the edge",
        )
        for heads, rows in by_choice.items()
    ]
    usable = [heads for heads in right if heads.mode in (HeadMode.PLAIN, HeadMode.CHOSEN)] or [
        *right
    ]
    best = max(usable, key=lambda heads: right[heads])
    said = f"{100 * right[best]:.1f} % right on distorted images with {_words(best)} heads"
    if best != PLAIN_HEADS and PLAIN_HEADS in right:
        said += f", {100 * right[PLAIN_HEADS]:.1f} % with plain ones"
    return Section(
        said,
        f"{first.network.network}, {way_name(first.setting)}: accuracy of all answers, and the "
        "share answered on the edge, mean over all levels and kinds above 0.",
        numbers=numbers,
        purpose="Use them on a device:",
        command=experts_command(artifact, str(best)),
    )


def _mean(estimates: Sequence[Estimate]) -> float:
    return sum(estimate.value for estimate in estimates) / len(estimates)


def study_tables(study: Study) -> dict[str, list[dict[str, Cell]]]:
    """Lay the rows of a study out flat, by table."""
    return {
        "points": [flat(row) for row in study.points],
        "quality": [
            {"distortion": distortion, "experts": str(experts), **flat(row)}
            for distortion, experts, row in study.exit_metrics
        ],
        "confusion": [flat(row) for row in study.confusion],
    }


def figures(points: Sequence[ExpertPoint]) -> list[Drawn]:
    """Draw every quantity against the level, a figure per kind that has several."""
    made = []
    for kind in dict.fromkeys(row.distortion for row in points):
        own = [row for row in points if row.distortion == kind]
        if len({row.point.level for row in own}) < 2:
            continue
        ways = [(_way(row), row.point) for row in own]
        shown = words(kind)
        for quantity, heading, caption in FIGURES:
            figure = against_level(ways, quantity, kind)
            name, heading = f"{kind}-{quantity}", f"{heading}, {shown}"
            made.append(Drawn(name, heading, f"{caption} {BARS}", figure))
    return made


def point_rows(points: Sequence[ExpertPoint]) -> list[dict[str, str]]:
    """Print points as rows of a table, the last exit's accuracy beside that of the policy."""
    rows = []
    for row in points:
        point = row.point
        setting = setting_columns(point.network, point.level, point.setting)
        rows.append(
            {
                "network": setting["network"],
                "seed": setting["seed"],
                "distortion": words(row.distortion),
                "level": setting["level"],
                "policy": setting["policy"],
                "p_tar": setting["p_tar"],
                "experts": _words(row.experts),
                "accuracy %": with_bounds(point.accuracy, 100),
                "last exit only %": with_bounds(row.last_exit_accuracy, 100),
                "edge %": with_bounds(point.edge_probability, 100),
                "edge accuracy %": with_bounds(point.edge_accuracy, 100),
                "confidence %": with_bounds(point.confidence, 100),
                "MMACs": with_bounds(point.macs, 1e-6),
                "latency ms": with_bounds(point.latency_ms, 1),
            }
        )
    return varying(rows, ("network", "seed", "policy", "p_tar"))


def confusion_rows(confusion: Iterable[Confusion]) -> list[dict[str, str]]:
    """Print the classifier's choices as rows of a table."""
    every = list(confusion)
    sets = dict.fromkeys(heads for row in every for heads in row.chosen)
    rows = [
        {
            "network": row.network,
            "distortion": words(row.distortion),
            "level": f"{row.level:g}",
            **{
                f"{heads.replace('_', ' ')} %": number(100 * row.chosen[heads].value, ".1f")
                for heads in sets
                if heads in row.chosen
            },
            "unsure %": number(100 * row.unsure.value, ".1f"),
            "recognised %": with_bounds(row.recognised, 100),
        }
        for row in every
    ]
    return varying(rows, ("network",))


def _way(row: ExpertPoint) -> str:
    return ", ".join(filter(None, (_words(row.experts), row.point.setting.value_text)))


def _words(experts: HeadChoice) -> str:
    return str(experts).replace("_", " ")
