"""The report of field logs: totals, the course over time, places, exits, outages and alarms."""

from collections.abc import Callable, Mapping, Sequence

from eenn.evaluation.field import (
    FieldBin,
    FieldNumbers,
    FieldTotals,
    Group,
    alarms,
    bins,
    exits,
    head_sets,
    outages,
    places,
)
from eenn.evaluation.field_images import FieldImages
from eenn.reports.field_figure import CAPTION, field_figure
from eenn.reports.figures import Drawn
from eenn.reports.opening import tile
from eenn.reports.page import Number, Section
from eenn.reports.report import Report, table_section
from eenn.reports.tables import Cell, flat, number, with_bounds, without

Printed = dict[str, str]

MOST_ROWS = 200  # of a table on the page
# Numbers that say nothing about images of one place or exit.
SETTLED = ("edge %", "risk %", "failures %")
LOOKED_LIKE, LOOKS_LIKE = "images before look like", "images after look like"


def field_report(title: str, facts: Mapping[str, str], artifacts: Sequence[FieldImages]) -> Report:
    """Put together the report of field logs.

    Args:
        artifacts: the images of every artifact; the last one opens the page.
    """
    newest = artifacts[-1]
    sections = [
        table_section(heading, text, _of_all(artifacts, rows)[:MOST_ROWS])
        for heading, text, rows in (
            ("Places", PLACES_TEXT, lambda own: _group_rows("place", places(own), SETTLED)),
            ("Exits", EXITS_TEXT, lambda own: _group_rows("exit", exits(own), SETTLED)),
            ("Head sets", HEADS_TEXT, lambda own: _group_rows("heads", head_sets(own))),
            ("Alarms", ALARMS_TEXT, _alarm_rows),
            ("Outages of the cloud", OUTAGES_TEXT, _outage_rows),
            ("Over time", TIME_TEXT, lambda own: [_bin_row(part) for part in bins(own)]),
        )
    ]
    return Report(
        title,
        facts,
        field_tables(artifacts),
        [Section("Totals", TOTALS_TEXT, total_rows(artifacts))],
        [_figure(own) for own in reversed(artifacts[:-1])],
        [section for section in sections if section.rows],
        _headline(newest),
        _figure(newest),
    )


def field_tables(artifacts: Sequence[FieldImages]) -> dict[str, list[dict[str, Cell]]]:
    """Lay out every table of field logs as flat rows, by the name of its file."""
    parts: Mapping[str, Callable[[FieldImages], Sequence[object]]] = {
        "time": bins,
        "places": places,
        "exits": exits,
        "heads": head_sets,
        "alarms": alarms,
        "outages": outages,
    }
    tables = {
        name: [
            {"artifact": own.artifact_id[:12], **flat(row)}
            for own in artifacts
            for row in rows(own)
        ]
        for name, rows in parts.items()
    }
    return {"field": [flat(FieldTotals.of(own)) for own in artifacts], **tables}


def total_rows(artifacts: Sequence[FieldImages]) -> list[Printed]:
    """Print the totals, a row for each quantity and a column for each artifact."""
    totals = [_total_cells(FieldTotals.of(own)) for own in artifacts]
    return [
        {"artifact": name, **{total["artifact"]: total[name] for total in totals}}
        for name in totals[0]
        if name != "artifact"
    ]


def _total_cells(total: FieldTotals) -> Printed:
    return {
        "artifact": total.artifact,
        "from": total.start,
        "to": total.end,
        "days": f"{total.days:.3g}",
        **_number_cells(total.numbers),
        "dropped audits": str(total.dropped_audits),
        "alarms": str(total.alarms),
        "bursts": str(total.bursts),
        "outages": str(total.outages),
    }


def _headline(images: FieldImages) -> Section:
    """Sum up the newest artifact for the top of the page."""
    total = FieldTotals.of(images)
    found = total.numbers
    title = f"{100 * found.edge_probability.value:.1f} % of {found.n:,} images left on the edge"
    if found.audits:
        title += f"; {100 * found.agreement.value:.1f} % of their answers are the cloud's"
    said = [
        f"Artifact {total.artifact}, {total.start} to {total.end} UTC: "
        f"{_counted(total.alarms, 'alarm')}, {_counted(total.bursts, 'burst')}, "
        f"{_counted(total.outages, 'outage')} of the cloud."
    ]
    said.append(
        AUDITED_TEXT if found.audits else "Nothing was audited, so agreement and risk are unknown."
    )
    tiles = [
        tile("left on the edge", "%", 100, found.edge_probability),
        tile("agreement", "%", 100, found.agreement),
        tile("risk", "%", 100, found.risk),
        Number("latency", f"{found.latency_ms:.1f} ms", f"99 % in {found.latency_p99_ms:.1f} ms"),
        Number("sent per image", f"{found.sent_bytes / 1e3:.1f} kB"),
    ]
    known = tiles if found.audits else [tiles[0], *tiles[3:]]
    return Section(title, "\n".join(said), numbers=known)


def _figure(images: FieldImages) -> Drawn:
    short = images.artifact_id[:12]
    return Drawn(f"field_{short}", f"Artifact {short} over time", CAPTION, field_figure(images))


def _of_all(
    artifacts: Sequence[FieldImages], rows: Callable[[FieldImages], Sequence[Printed]]
) -> list[Printed]:
    """Print rows of all artifacts; each names its artifact if there are several."""
    if len(artifacts) == 1:
        return [*rows(artifacts[0])]
    return [{"artifact": own.artifact_id[:12], **row} for own in artifacts for row in rows(own)]


def _number_cells(found: FieldNumbers) -> Printed:
    return {
        "n": str(found.n),
        "edge %": with_bounds(found.edge_probability, 100),
        "audits": str(found.audits),
        "agree %": with_bounds(found.agreement, 100),
        "risk %": with_bounds(found.risk, 100),
        "needless %": with_bounds(found.needless, 100),
        "failures %": with_bounds(found.failures, 100),
        "kB sent": f"{found.sent_bytes / 1e3:.2f}",
        "mean ms": f"{found.latency_ms:.1f}",
        "p50 ms": f"{found.latency_p50_ms:.1f}",
        "p95 ms": f"{found.latency_p95_ms:.1f}",
        "p99 ms": f"{found.latency_p99_ms:.1f}",
    }


def _group_rows(kind: str, groups: Sequence[Group], left_out: Sequence[str] = ()) -> list[Printed]:
    rows = [
        {
            kind: group.name,
            "% of images": f"{100 * group.part:.1f}",
            **_number_cells(group.numbers),
        }
        for group in groups
    ]
    return without(rows, left_out)


def _bin_row(part: FieldBin) -> Printed:
    return {
        "from image": str(part.first),
        "from": part.start,
        **_number_cells(part.numbers),
        "expected edge %": number(100 * part.reference, ".1f"),
        "threshold": number(part.threshold, ".3g"),
        "in bursts %": f"{100 * part.bursts:.0f}",
        "alarms": str(part.alarms),
    }


def _alarm_rows(images: FieldImages) -> list[Printed]:
    found = alarms(images)
    rows = [
        {
            "time": alarm.time,
            "image": str(alarm.image),
            "alarm": alarm.kind,
            "threshold before": number(alarm.before, ".3g"),
            "after the burst": number(alarm.after, ".3g"),
            LOOKED_LIKE: alarm.looked_like,
            LOOKS_LIKE: alarm.looks_like,
        }
        for alarm in found
    ]
    judged = any(alarm.looked_like or alarm.looks_like for alarm in found)
    return rows if judged else without(rows, (LOOKED_LIKE, LOOKS_LIKE))


def _outage_rows(images: FieldImages) -> list[Printed]:
    """Print outages, the longest first."""
    found = sorted(outages(images), key=lambda outage: -outage.seconds)
    return [
        {
            "from": outage.start,
            "to": outage.end,
            "seconds": f"{outage.seconds:.1f}",
            "failures": str(outage.images),
            "causes": outage.causes,
        }
        for outage in found
    ]


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count or 'no'} {name}s"


AUDITED_TEXT = (
    "Agreement is the share of images that left on the edge whose answer is the cloud's, by the "
    "audits, each of which counts by 1 / its rate. Risk is the share of all images that left and "
    "would be answered otherwise by the cloud. Labels are not involved: where the cloud is wrong, "
    "too, nothing is said."
)
TOTALS_TEXT = (
    "With 95 % intervals of Wilson, which take images for independent of each other. Needless is "
    "the share of offloaded images that the last active branch answers as the cloud does, "
    "failures the share of requests that the cloud did not answer. Bytes are those of all tries "
    "and audits, per image. Times are UTC."
)
PLACES_TEXT = (
    "Where images were answered. An image that the edge answers because the cloud failed does not "
    "count as left on the edge."
)
EXITS_TEXT = "The exit at which an image stopped, counted from 1."
HEADS_TEXT = "The heads that answered: the plain ones, or those for a kind of distortion."
ALARMS_TEXT = (
    "An alarm of the risk: audits disagree more often than promised. An alarm of the share: the "
    "share of images that leaves is not the expected one, so the images changed. "
    "Where the guard asked the distortion classifier about images, the table has the head sets "
    "that suit the images from one alarm to the next."
)
OUTAGES_TEXT = (
    "From the first to the last failure between two answers of the cloud, the longest first; all "
    "of them are in tables/outages.csv."
)
TIME_TEXT = "The marks of the figure."
