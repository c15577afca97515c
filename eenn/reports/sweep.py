"""The comparison of a sweep's jobs: one table, its files, and a page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from eenn.files import Json, JsonObject, write_json
from eenn.reports.page import Section
from eenn.reports.report import PAGE, Report, write_report
from eenn.reports.sweep_curves import sweep_figures
from eenn.reports.sweep_jobs import FAILED, FINISHED, MISSING, SweepJob, number_of, read_jobs
from eenn.reports.sweep_opening import sweep_answer
from eenn.reports.tables import Cell, number, raw, table, write_csv
from eenn.run_directory import Sweep

CSV, JSON = "comparison.csv", "comparison.json"

# What a table shows of a point: key, heading, scale and format; text and what is not listed between
# them is shown as it is. The numbers of the exits of a training come before.
_NUMBERS: Mapping[str, tuple[str, float, str]] = {
    "accuracy": ("accuracy %", 100, "z.1f"),
    "same_as_last": ("as last exit %", 100, "z.1f"),
    "edge_probability": ("edge %", 100, "z.1f"),
    "agreement": ("agreement %", 100, "z.1f"),
    "risk": ("risk %", 100, "z.1f"),
    "edge_accuracy": ("edge accuracy %", 100, "z.1f"),
    "macs": ("MMACs", 1e-6, "z.1f"),
    "weight_bytes": ("MB", 1e-6, ".1f"),
    "answer_ms": ("mean ms", 1, "z.1f"),
    "latency_ms": ("latency ms", 1, "z.1f"),
    "sent_bytes": ("kB sent", 1e-3, "z.1f"),
    "outage": ("outage %", 100, "z.1f"),
    "missed_deadline": ("late %", 100, "z.1f"),
    "epochs": ("epochs", 1, "g"),
    "images_per_s": ("images/s", 1, ".0f"),
}
_TEXTS = (
    "deployment", "artifact", "network", "seed", "distortion", "level", "experts", "policy",
    "p_tar", "thresholds", "active", "n",
)  # fmt: skip
# They are what jobs are compared by, also where they are equal.
_ALWAYS = ("accuracy %", "edge %", "MMACs")


def compare(directory: Path) -> tuple[str, list[str]]:
    """Compare the jobs of a sweep: write comparison.csv, comparison.json and report.html there.

    Returns:
        The text to print, and lines on the jobs without a result, with advice.
    """
    sweep = Sweep.read(directory)
    jobs = read_jobs(directory, sweep)
    rows, alike = rows_of(jobs)
    resume = sweep.command(directory)
    unfinished = _unfinished(jobs, resume)
    write_csv(directory / CSV, _flat_rows(jobs))
    write_json(directory / JSON, _as_json(sweep, jobs))
    links = {str(job.number): f"{job.number}/{PAGE}" for job in jobs if job.state == FINISHED}
    finished = len(links)
    facts = {
        "configuration": sweep.config_name,
        "settings": " ".join(sweep.overrides),
        "jobs": f"{finished} of {len(jobs)} finished",
        **alike,
    }
    opening = [Section("Jobs", _TEXT, rows, links=links)]
    if unfinished:
        opening.insert(0, Section("Jobs without a result", "\n".join(unfinished)))
    title = f"Sweep over {', '.join(sweep.varied) or 'nothing'}"
    figures = sweep_figures(jobs)
    shown = figures.pop() if (answer := sweep_answer(jobs)) and figures else None
    report = Report(title, facts, {}, opening, figures, headline=answer, shown=shown)
    write_report(directory, report)
    parts = [
        f"{directory}:",
        answer.title if answer else "",
        ", ".join(f"{key} {value}" for key, value in alike.items()),
    ]
    parts += [table(rows), f"report: {directory / PAGE}"]
    return "\n\n".join(filter(None, parts)), unfinished


def rows_of(jobs: Sequence[SweepJob]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Print the jobs as rows of a table, and apart from them the values that all rows share.

    A point that policies are compared with is one row for all jobs where it is equal.
    """
    results: list[tuple[dict[str, str], dict[str, str]]] = []
    for job in jobs:
        place = {"job": str(job.number), **_shortened(job.varied, jobs)}
        if job.state != FINISHED:
            place["state"] = job.state
        results += [(place, _printed(point)) for point in job.points or [{}]]
    own = len(results)
    for point, sharing in _references(jobs):
        shared = {
            key: value
            for key, value in _shortened(sharing[0].varied, jobs).items()
            if all(one.varied.get(key) == sharing[0].varied[key] for one in sharing)
        }
        results.append(({"job": _numbers(sharing, jobs), **shared}, _printed(point)))
    varied = list(dict.fromkeys(key for job in jobs for key in job.varied))
    # A setting stands as it was given, also where a result is called the same.
    named = {key: None for _, cells in results for key in cells if key not in varied}
    shown = sorted(named, key=_rank)
    alike = {}
    for column in (column for column in shown if column not in _ALWAYS):
        found = [cells.get(column, "") for _, cells in results if cells]
        if len(found) > 1 and len(set(found)) == 1:
            alike[column] = found[0]
    repeated = {
        column
        for column in shown
        for key in varied
        if all(cells.get(column, v) == v for p, cells in results[:own] for v in [p.get(key, "")])
    }
    rows = [
        place | {k: cells[k] for k in shown if k in cells and k not in alike and k not in repeated}
        for place, cells in results
    ]
    columns = dict.fromkeys(key for place, _ in results for key in place)
    columns |= dict.fromkeys(shown)
    filled = [{key: row.get(key, "") for key in columns} for row in rows]
    empty = {
        key for key in columns if key != "job" and not any(row[key].strip("-") for row in filled)
    }
    rows = [{key: value for key, value in row.items() if key not in empty} for row in filled]
    return rows, {key: value for key, value in alike.items() if value.strip("-")}


def _rank(column: str) -> tuple[int, int]:
    """Order columns: texts, the exits of a training, numbers; others between them unsorted."""
    if column in _TEXTS:
        return 0, _TEXTS.index(column)
    headings = [heading for heading, _, _ in _NUMBERS.values()]
    if column in headings:
        return 2, headings.index(column)
    return 1, int(column[5:-2]) if column.startswith("exit ") and column.endswith(" %") else 0


def _printed(point: JsonObject) -> dict[str, str]:
    """Print a point: texts unchanged, numbers formatted, the accuracy with its interval."""
    if point and not point.keys() & {"accuracy", "edge_probability"}:
        return {key: str(value) for key, value in point.items()}
    cells = {}
    for key in _TEXTS:
        if key in point:
            value = point[key]
            cells[key] = number(value, "g") if isinstance(value, float) else str(value)
    for key, value in point.items():
        if key.startswith("exit") and isinstance(value, float):
            cells[key.replace("_accuracy", " %").replace("exit", "exit ")] = f"{100 * value:.1f}"
    for key, (heading, scale, form) in _NUMBERS.items():
        value = point.get(key)
        if isinstance(value, int | float):
            cells[heading] = number(value * scale, form)
    low, high = point.get("accuracy_low"), point.get("accuracy_high")
    if isinstance(low, float) and isinstance(high, float) and math.isfinite(low):
        cells["accuracy %"] += f" ({100 * low:.1f}-{100 * high:.1f})"
    # All else says it better where there are labels.
    if cells.get("accuracy %", "-") != "-":
        cells.pop("as last exit %", None)
    return cells


def _references(jobs: Sequence[SweepJob]) -> list[tuple[JsonObject, list[SweepJob]]]:
    """Group equal points of the whole network, with the jobs that have each."""
    found: dict[str, tuple[JsonObject, list[SweepJob]]] = {}
    for job in jobs:
        for point in job.references:
            found.setdefault(json.dumps(point, sort_keys=True), (point, []))[1].append(job)
    return list(found.values())


def _numbers(sharing: Sequence[SweepJob], jobs: Sequence[SweepJob]) -> str:
    finished = [job for job in jobs if job.state == FINISHED]
    if len(sharing) == len(finished) > 1:
        return "all"
    return str(sharing[0].number) if len(sharing) == 1 else f"{len(sharing)} jobs"


def _shortened(varied: Mapping[str, str], jobs: Sequence[SweepJob]) -> dict[str, str]:
    """Leave out of paths the folders that all jobs share."""
    short = {}
    for key, value in varied.items():
        others = [job.varied.get(key, value).split("/") for job in jobs]
        parts = value.split("/")
        while len(parts) > 1 and all(one[:1] == parts[:1] and len(one) > 1 for one in others):
            parts, others = parts[1:], [one[1:] for one in others]
        while len(parts) > 1 and all(one[-1:] == parts[-1:] and len(one) > 1 for one in others):
            parts, others = parts[:-1], [one[:-1] for one in others]
        short[key] = "/".join(parts)
    return short


def _unfinished(jobs: Sequence[SweepJob], resume: str) -> list[str]:
    """Say why jobs failed, which others have no result, and how to go on."""
    lines = []
    for job in (job for job in jobs if job.state == FAILED):
        varied = " ".join(f"{key}={value}" for key, value in job.varied.items())
        lines.append(
            f"job {job.number} ({varied}) failed: {job.error}; start a new sweep, or try it again "
            f"with `{resume}`"
        )
    missing = [str(job.number) for job in jobs if job.state == MISSING]
    if missing:
        named = f"job{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        lines.append(f"{named}: cut short or never begun; `{resume}` runs what is missing")
    return lines


def _flat_rows(jobs: Sequence[SweepJob]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for job in jobs:
        place: dict[str, Cell] = {"job": job.number, "state": job.state, **job.varied}
        for point in job.points or [{}]:
            # A setting comes as it was given, also where a result is called the same.
            own: dict[str, Cell] = {k: v for k, v in point.items() if isinstance(v, Cell)}
            rows.append(raw(own | place if not place.keys() & own.keys() else {**place, **own}))
    for point, sharing in _references(jobs):
        own = {k: v for k, v in point.items() if isinstance(v, Cell)}
        rows.append(raw({"job": _numbers(sharing, jobs), "state": FINISHED, **own}))
    return rows


def _as_json(sweep: Sweep, jobs: Sequence[SweepJob]) -> JsonObject:
    described: list[Json] = [
        {
            "job": job.number,
            "state": job.state,
            "error": job.error,
            "varied": {key: _value(value) for key, value in job.varied.items()},
            "points": [dict(point) for point in job.points],
        }
        for job in jobs
    ]
    references: list[Json] = [
        {"jobs": [job.number for job in sharing], **point} for point, sharing in _references(jobs)
    ]
    return {**asdict(sweep), "jobs": described, "references": references}


def _value(text: str) -> Json:
    found = number_of(text)
    if found is None:
        return text
    return int(found) if found.is_integer() and "." not in text else found


_TEXT = (
    "A row for each job and what it came to; the accuracy with its 95 % interval. Where a row is "
    'of "all" jobs, nothing that varies changes it. Intervals of all numbers are in comparison.csv.'
)
