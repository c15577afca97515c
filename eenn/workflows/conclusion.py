"""The end of every run: its report, its results, the printed tables, the tracking."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from eenn.files import Json, write_json
from eenn.reports.report import PAGE, Report, write_report
from eenn.reports.summed_up import SummedUp
from eenn.workflows.tracking import Tracker


@dataclass(frozen=True)
class Conclusion:
    """The outcome of a run.

    Args:
        file: METRICS of a training, SUMMARY of others; a run with this file is finished.
        results: the content of that file.
        shown: the text that is printed.
        summed_up: for the tracker.
    """

    report: Report
    file: str
    results: Mapping[str, Json]
    shown: str
    summed_up: SummedUp = field(default_factory=SummedUp)


def conclude(
    directory: Path, conclusion: Conclusion, origin: Mapping[str, Json], track: Tracker
) -> None:
    """Write report and results of a run into its directory, print the outcome, and track it.

    Args:
        origin: provenance of the results; put into the results and on the page as it is.
    """
    report = conclusion.report
    shown = {key.replace("_", " "): _text(value) for key, value in origin.items()}
    pngs = write_report(directory, replace(report, facts={**report.facts, **shown}))
    write_json(directory / conclusion.file, {**conclusion.results, **origin})
    print(f"\n{conclusion.shown}\n\nreport: {directory / PAGE}\n")
    track(report.tables, conclusion.summed_up, pngs)


def _text(value: Json) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
