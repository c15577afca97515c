"""What an evaluation of experts leaves behind: tables/*.csv, figures, and report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eenn.files import write_file
from eenn.reports.curves import against_level
from eenn.reports.figures import BARS, Drawn, save_figures
from eenn.reports.page import Section, report_page
from eenn.reports.tables import number, raw, varying, with_bounds, write_csv
from eenn.statistics.intervals import Row


@dataclass(frozen=True)
class Study:
    """Rows by table; every row says the network, the distortion and the level.

    Args:
        points: of every policy with all branches active, by experts; `last_exit_accuracy` is that
            of the last exit alone.
        quality: of every exit as if it answered all images.
        confusion: whom the distortion classifier chooses.
    """

    points: list[Row]
    quality: list[Row]
    confusion: list[Row]


POINTS_TEXT = (
    'Whose heads answer: "plain" those of the network without distortions, "matching" the experts '
    'of the distortion at hand, where there are some, which no device knows; "auto" those whose '
    'kind the distortion classifier is sure of; "soft" all of them, weighted by its probabilities; '
    '"fine tuned" is the network fine-tuned for the distortion at hand. '
    "A well calibrated network is as accurate on the edge as its threshold asks."
)
CONFUSION_TEXT = (
    'Which heads the distortion classifier chooses. "Recognised" are images that go to the heads '
    "made for them; a kind without an expert is for the plain heads."
)
FIGURES = (
    ("accuracy", "Accuracy", "Accuracy of all answers, from the edge and from the cloud."),
    ("edge_probability", "Edge probability", "Share of images answered on the edge."),
    ("edge_accuracy", "Accuracy on the edge", "Accuracy of the answers of the edge."),
)


def write_study(directory: Path, title: str, facts: Mapping[str, str], study: Study) -> list[Path]:
    """Write the tables, the figures and the page that shows them all; returns the PNG files."""
    for name in ("points", "quality", "confusion"):
        if rows := getattr(study, name):
            columns = dict.fromkeys(key for row in rows for key in row)
            complete = [{key: row.get(key, "") for key in columns} for row in rows]
            write_csv(directory / "tables" / f"{name}.csv", [raw(row) for row in complete])
    made = figures(study.points)
    pngs = save_figures(directory / "figures", made)
    sections = [
        Section("Who answers", POINTS_TEXT, point_rows(study.points)),
        *(
            Section(drawn.heading, figure=file.read_bytes(), caption=drawn.caption)
            for drawn, file in zip(made, pngs, strict=True)
        ),
        Section("Distortion classifier", CONFUSION_TEXT, confusion_rows(study.confusion)),
    ]
    write_file(directory / "report.html", report_page(title, facts, sections))
    return pngs


def figures(points: Sequence[Row]) -> list[Drawn]:
    """Every quantity against the level, a figure per kind that has several."""
    made = []
    for kind in dict.fromkeys(row["distortion"] for row in points):
        own = [{**row, "policy": row["experts"]} for row in points if row["distortion"] == kind]
        if len({row["level"] for row in own}) < 2:
            continue
        for quantity, heading, caption in FIGURES:
            name, shown = f"{kind}-{quantity}", kind.replace("_", " ")
            figure = against_level(own, quantity, kind)
            made.append(Drawn(name, f"{heading}, {shown}", f"{caption} {BARS}", figure))
    return made


def point_rows(points: Sequence[Row]) -> list[dict[str, str]]:
    """Points as printable rows, the last exit's accuracy beside that of the policy."""
    rows = [
        {
            "network": row["network"],
            "seed": str(row["seed"]),
            "distortion": row["distortion"].replace("_", " "),
            "level": f"{row['level']:g}",
            "policy": row["policy"],
            "p_tar": row["thresholds"] or number(row["p_tar"], "g"),
            "experts": row["experts"].replace("_", " "),
            "accuracy %": with_bounds(row, "accuracy", 100),
            "last exit only %": with_bounds(row, "last_exit_accuracy", 100),
            "edge %": with_bounds(row, "edge_probability", 100),
            "edge accuracy %": with_bounds(row, "edge_accuracy", 100),
            "confidence %": with_bounds(row, "confidence", 100),
            "MMACs": with_bounds(row, "macs", 1e-6),
            "latency ms": with_bounds(row, "latency_ms", 1),
        }
        for row in points
    ]
    return varying(rows, ("network", "seed", "policy", "p_tar"))


def confusion_rows(confusion: Sequence[Row]) -> list[dict[str, str]]:
    """Whom the classifier chooses, as printable rows."""
    sets = dict.fromkeys(
        key.removeprefix("chosen_")
        for row in confusion
        for key in row
        if key.startswith("chosen_") and not key.endswith(("_low", "_high"))
    )
    rows = [
        {
            "network": row["network"],
            "distortion": row["distortion"].replace("_", " "),
            "level": f"{row['level']:g}",
            **{
                f"{heads.replace('_', ' ')} %": number(100 * row[f"chosen_{heads}"], ".1f")
                for heads in sets
                if f"chosen_{heads}" in row
            },
            "unsure %": number(100 * row["unsure"], ".1f"),
            "recognised %": with_bounds(row, "recognised", 100),
        }
        for row in confusion
    ]
    return varying(rows, ("network",))
