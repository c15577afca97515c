"""Numbers of field logs against loops over the lines of their files."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from eenn.errors import EennError
from eenn.evaluation import field_images
from eenn.evaluation.field import (
    FieldNumbers,
    FieldTotals,
    alarms,
    bins,
    exits,
    head_sets,
    outages,
    periods,
    places,
)
from eenn.evaluation.field_images import FieldImages, read_field_logs
from eenn.reports.field import field_report
from tests.evaluation.logged import FIRST, SECOND, START_S, drawn_entries, write_log

COUNT = 3000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose lines are out of order and damaged in places."""
    entries = drawn_entries(COUNT, seed=1)
    random = Random(2)
    path = tmp_path_factory.mktemp("field") / "field.jsonl"
    shuffled = sorted(enumerate(entries), key=lambda pair: pair[0] + random.uniform(0, 8))
    write_log(path, [entry for _, entry in shuffled])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[100:100] = [b"{}\n", b"\xff\n", lines[100][:50] + b"\n"]
    path.write_bytes(b"".join(lines) + b'{"time":17')
    return path


@pytest.fixture(scope="module")
def images(path: Path) -> FieldImages:
    (found,) = read_field_logs([path]).artifacts
    return found


@pytest.fixture(scope="module")
def lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row:
            found.append(row)
    return sorted(found, key=lambda row: row["time"])


def check(found: FieldNumbers, lines: list[dict[str, Any]]) -> None:
    """Compare with what a loop over lines counts."""
    left = audits = needless = offloaded = failures = sent = 0
    weights, agreeing = list[float](), 0.0
    for line in lines:
        left += line["place"] == "edge" and not line["failure"]
        failures += bool(line["failure"])
        offloaded += line["place"] == "cloud"
        needless += line["agrees"] is True
        sent += line["link"]["sent_bytes"] if line["link"] else 0
        if line["audit"] in ("agrees", "differs"):
            audits += 1
            weights.append(1 / line["guard"]["rate"])
            agreeing += weights[-1] * (line["audit"] == "agrees")
    latency = sorted(line["latency_ms"] for line in lines)
    assert (found.n, found.audits) == (len(lines), audits)
    assert found.edge_probability == pytest.approx(wilson(left, len(lines)), abs=1e-12)
    assert found.needless == pytest.approx(wilson(needless, offloaded), abs=1e-12, nan_ok=True)
    asked = failures + offloaded
    assert found.failures == pytest.approx(wilson(failures, asked), abs=1e-12, nan_ok=True)
    assert found.sent_bytes == pytest.approx(sent / len(lines))
    assert found.latency_ms == pytest.approx(sum(latency) / len(latency))
    assert found.latency_p50_ms == pytest.approx(np.median(latency))
    for percent, own in ((95, found.latency_p95_ms), (99, found.latency_p99_ms)):
        at = percent / 100 * (len(latency) - 1)
        assert latency[math.floor(at)] - 1e-9 <= own <= latency[math.ceil(at)] + 1e-9
    if not audits:
        assert math.isnan(found.agreement.value)
        assert math.isnan(found.risk.value)
        return
    share = agreeing / sum(weights)
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    value, low, high = wilson(share * effective, effective)
    assert found.agreement == pytest.approx((value, low, high))
    edge = left / len(lines)
    assert found.risk == pytest.approx(
        (edge * (1 - value), edge * (1 - high), edge * (1 - low)), abs=1e-12
    )


def wilson(count: float, of: float) -> tuple[float, float, float]:
    if not of:
        return math.nan, math.nan, math.nan
    share, z = count / of, NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return share, middle - half, middle + half


def seconds(shown: str) -> float:
    return datetime.strptime(shown, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()


def test_totals_are_those_of_a_loop(images: FieldImages, lines: list[dict[str, Any]]) -> None:
    total = FieldTotals.of(images)
    check(total.numbers, lines)
    assert total.artifact == FIRST[:12]
    assert seconds(total.start) == math.floor(lines[0]["time"])
    assert seconds(total.end) == math.floor(lines[-1]["time"])
    assert total.days == pytest.approx((lines[-1]["time"] - lines[0]["time"]) / 86_400)
    assert total.dropped_audits == sum(line["audit"] == "dropped" for line in lines)
    assert (total.alarms, total.bursts, total.outages) == (1, 1, 1)


def test_parts_over_time_are_those_of_a_loop(
    images: FieldImages, lines: list[dict[str, Any]]
) -> None:
    parts = bins(images)
    assert len(parts) == 50
    assert [part.first for part in parts] == list(range(1, COUNT, COUNT // 50))
    for part in parts:
        own = lines[part.first - 1 :][: part.numbers.n]
        check(part.numbers, own)
        assert seconds(part.start) == math.floor(own[0]["time"])
        known = [line["guard"]["reference"] for line in own if line["guard"]["reference"]]
        assert part.reference == known[-1]
        assert part.threshold == pytest.approx(
            own[-1]["guard"]["threshold"] or math.nan, nan_ok=True
        )
        bursts = sum(line["guard"]["state"] == "burst" for line in own)
        assert part.bursts == pytest.approx(bursts / len(own))
        assert part.alarms == sum(line["guard"]["alarm"] != "" for line in own)


def test_groups_are_those_of_a_loop(images: FieldImages, lines: list[dict[str, Any]]) -> None:
    def place(line: dict[str, Any]) -> str:
        return "edge, as the cloud failed" if line["failure"] else str(line["place"])

    for groups, key in (
        (places(images), place),
        (exits(images), lambda line: str(line["exit"])),
        (head_sets(images), lambda line: line["heads"]),
    ):
        assert sorted(group.name for group in groups) == sorted({key(line) for line in lines})
        for group in groups:
            own = [line for line in lines if key(line) == group.name]
            assert group.part == pytest.approx(len(own) / len(lines))
            check(group.numbers, own)


def test_heads_are_no_table_where_all_are_plain(tmp_path: Path) -> None:
    plain = [replace(entry, heads="plain") for entry in drawn_entries(50, seed=3)]
    (found,) = read_field_logs([write_log(tmp_path / "field.jsonl", plain)]).artifacts
    assert head_sets(found) == []


def test_outages_last_from_the_first_to_the_last_failure(tmp_path: Path) -> None:
    entries = drawn_entries(60, seed=4)
    edge, cloud = (
        replace(entries[0], place=place, failure="", audit=None, link=None)
        for place in ("edge", "cloud")
    )
    failed, audited = replace(edge, failure="refused"), replace(edge, audit="agrees")
    slow = replace(failed, failure="deadline")
    course = [failed, edge, failed, slow, edge, cloud, cloud, slow, audited, failed, edge]
    log = write_log(
        tmp_path / "field.jsonl",
        [replace(entry, time=START_S + 10 * at) for at, entry in enumerate(course)],
    )
    (images,) = read_field_logs([log]).artifacts
    found = [
        (seconds(one.start) - START_S, seconds(one.end) - START_S, one.images, one.causes)
        for one in outages(images)
    ]
    assert found == [
        (0, 30, 3, "refused, deadline"),
        (70, 70, 1, "deadline"),
        (90, 90, 1, "refused"),
    ]


def test_an_alarm_has_the_thresholds_before_and_after_its_burst(images: FieldImages) -> None:
    (alarm,) = alarms(images)
    at = COUNT // 10
    assert (alarm.image, alarm.kind, alarm.before, alarm.after) == (at, "share", 0.8, 0.9)
    assert periods(images, "burst") == [(at + 1, 2 * at)]


def test_an_alarm_amid_the_first_images_of_its_burst_has_them_too(tmp_path: Path) -> None:
    entries = drawn_entries(1000, seed=5)
    # As if the image of the alarm was answered four images later.
    entries[99:104] = [
        replace(entry, time=entries[99 + at].time)
        for at, entry in enumerate([*entries[100:104], entries[99]])
    ]
    (images,) = read_field_logs([write_log(tmp_path / "field.jsonl", entries)]).artifacts
    (alarm,) = alarms(images)
    assert (alarm.image, alarm.before, alarm.after) == (104, 0.8, 0.9)
    assert periods(images, "burst") == [(100, 200)]


def test_an_alarm_says_what_images_looked_like_before_and_after_it(tmp_path: Path) -> None:
    entries = drawn_entries(400, seed=3)
    for number, entry in enumerate(entries):
        assert entry.guard
        alarm = {100: "risk", 300: "share"}.get(number, "")
        kind = None
        if number % 2 and number < 300:
            kind = "plain" if number < 100 or number % 5 == 0 else "gaussian_blur"
        guard = replace(entry.guard, alarm=alarm)
        entries[number] = replace(entry, time=START_S + number, guard=guard, looks_like=kind)
    write_log(tmp_path / "field.jsonl", entries)
    (images,) = read_field_logs([tmp_path / "field.jsonl"]).artifacts
    first, second = alarms(images)
    assert (first.looked_like, second.looks_like) == ("100 % plain", "")
    assert first.looks_like == second.looked_like == "80 % gaussian_blur, 20 % plain"
    sections = field_report("field", {}, [images]).closing
    (table,) = (section for section in sections if section.title == "Alarms")
    assert [row["images after look like"] for row in table.rows] == [first.looks_like, ""]


def test_a_log_that_ends_in_a_burst_has_no_threshold_after_it(tmp_path: Path) -> None:
    log = write_log(tmp_path / "field.jsonl", drawn_entries(1000, seed=5)[:150])
    (images,) = read_field_logs([log]).artifacts
    (alarm,) = alarms(images)
    assert math.isnan(alarm.after)


def test_a_log_without_a_guard_has_shares_and_times(tmp_path: Path) -> None:
    bare = [replace(entry, guard=None, audit=None) for entry in drawn_entries(30, seed=6)]
    log = write_log(tmp_path / "field.jsonl", bare)
    (images,) = read_field_logs([log]).artifacts
    check(FieldNumbers.of(images), [json.loads(line) for line in log.read_text().splitlines()])
    assert len(bins(images)) == 1
    assert alarms(images) == periods(images, "burst") == []


def test_several_files_are_one_log_apart_by_artifact(tmp_path: Path) -> None:
    first, second = drawn_entries(40, seed=7), drawn_entries(30, seed=8, artifact_id=SECOND)
    later = [replace(entry, time=entry.time + 1000) for entry in second]
    parts = [
        write_log(tmp_path / "one.jsonl", later + first[20:]),
        write_log(tmp_path / "two.jsonl", first[:20]),
    ]
    found = read_field_logs(parts)
    assert [(own.artifact_id, len(own)) for own in found.artifacts] == [(FIRST, 40), (SECOND, 30)]
    assert found.artifacts[0].column("time").tolist() == [entry.time for entry in first]


def test_damaged_lines_are_counted(path: Path) -> None:
    assert read_field_logs([path]).damaged == 4


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("MAX_IMAGES", "more than 2 images in the field log; take a part of it"),
        ("MAX_ARTIFACTS", "more than 2 names of artifact"),
        ("MAX_NAMES", "more than 2 names of failure"),
    ],
)
def test_more_than_is_read_at_once_is_refused(
    bound: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = ("", "", "", "") if bound == "MAX_IMAGES" else ("", "refused", "reset", "network")
    entries = [
        replace(entry, failure=failure, heads="plain", artifact_id=str(at) * (bound[4] == "A"))
        for at, (entry, failure) in enumerate(zip(drawn_entries(4, seed=9), failures, strict=True))
    ]
    monkeypatch.setattr(field_images, bound, 2)
    with pytest.raises(EennError, match=said):
        read_field_logs([write_log(tmp_path / "field.jsonl", entries)])


def test_a_file_without_entries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no log\n")
    with pytest.raises(EennError, match=r"notes\.txt: no line is an entry of a field log"):
        read_field_logs([tmp_path / "notes.txt"])
