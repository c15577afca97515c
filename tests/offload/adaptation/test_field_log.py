"""The field log outlives full disks, power losses and damage, and never ends a service."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.offload.adaptation import field_log
from eenn.offload.adaptation.field_log import (
    ALARMS,
    MAX_LINE_BYTES,
    MAX_NUMBER,
    FieldEntry,
    FieldGuard,
    FieldLink,
    FieldLog,
    read_field_log,
)
from eenn.offload.adaptation.status import STATES

ENTRY = FieldEntry(
    time=1_790_000_000.25,
    artifact_id="a" * 64,
    exit=2,
    answered_by=2,
    place="edge",
    exits=(1, 2),
    confidences=(0.5, 0.875),
    heads="plain",
    latency_ms=3.5,
    cloud_ms=0.0,
    audit="agrees",
    link=FieldLink(4000, 900, 14.5, None),
    guard=FieldGuard("p_tar", 0.9, "watching", "", 0.02),
)

NAMES = st.text("abc_ äö0", max_size=12)
SHARES = st.floats(0, 1)
TIMES = st.floats(0, 1e9)
LINKS = st.builds(FieldLink, st.integers(0, 10**9), st.integers(0, 10**9), TIMES, st.none() | TIMES)
GUARDS = st.builds(
    FieldGuard,
    NAMES,
    st.none() | st.floats(-1e6, 1e6),
    st.sampled_from(STATES),
    st.sampled_from(("", *ALARMS)),
    SHARES,
    st.none() | SHARES,
)


@st.composite
def entries(draw: st.DrawFn) -> FieldEntry:
    exits = draw(st.lists(st.integers(1, 9), max_size=6))
    return FieldEntry(
        draw(st.floats(0, 1e11)),
        draw(NAMES),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 9)),
        draw(st.sampled_from(("edge", "cloud"))),
        tuple(exits),
        tuple(draw(SHARES) for _ in exits),
        draw(NAMES),
        draw(TIMES),
        draw(TIMES),
        draw(NAMES),
        draw(st.none() | LINKS),
        draw(st.sampled_from((None, "agrees", "differs", "dropped"))),
        draw(st.sampled_from((None, True, False))),
        draw(st.none() | GUARDS),
        draw(st.none() | NAMES),
    )


def numbered(number: int) -> FieldEntry:
    return replace(ENTRY, time=ENTRY.time + number)


def written(path: Path, *found: FieldEntry) -> bytes:
    with FieldLog(path) as log:
        for entry in found:
            log.append(entry)
        assert log.lost == 0
    return path.read_bytes()


@given(entry=entries())
def test_an_entry_is_read_as_it_was_written(entry: FieldEntry) -> None:
    line = entry.to_json()
    again = FieldEntry.read(line.encode())
    assert again is not None
    assert "\n" not in line
    assert again.to_json() == line
    assert again.time == pytest.approx(entry.time, abs=5.1e-4)
    assert again.latency_ms == pytest.approx(entry.latency_ms, abs=5.1e-4)
    assert again.confidences == pytest.approx(entry.confidences, abs=5.1e-7)
    link = entry.link and replace(entry.link, wait_ms=0, server_ms=0)
    assert (again.link and replace(again.link, wait_ms=0, server_ms=0)) == link
    unrounded = {"time": 0, "confidences": (), "latency_ms": 0, "cloud_ms": 0, "link": None}
    assert replace(again, **unrounded) == replace(entry, **unrounded)  # type: ignore[arg-type]


def test_a_line_is_what_the_documentation_says() -> None:
    assert json.loads(ENTRY.to_json()) == {
        "time": 1790000000.25,
        "artifact_id": "a" * 64,
        "exit": 2,
        "answered_by": 2,
        "place": "edge",
        "exits": [1, 2],
        "confidences": [0.5, 0.875],
        "heads": "plain",
        "latency_ms": 3.5,
        "cloud_ms": 0.0,
        "failure": "",
        "link": {"sent_bytes": 4000, "received_bytes": 900, "wait_ms": 14.5, "server_ms": None},
        "audit": "agrees",
        "agrees": None,
        "guard": {
            "knob": "p_tar",
            "threshold": 0.9,
            "state": "watching",
            "alarm": "",
            "rate": 0.02,
            "reference": None,
        },
        "looks_like": None,
    }


@given(cut=st.floats(0, 1), tail=st.just(b"") | st.integers(1, 9000).map(bytes))
def test_a_restart_keeps_whole_entries_and_goes_on_behind_them(
    cut: float, tail: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("torn") / "field.jsonl"
    whole = written(path, *map(numbered, range(3)))
    torn = whole[: round(cut * len(whole))]
    path.write_bytes(torn + tail)
    kept = torn.count(b"\n")
    written(path, ENTRY)
    assert list(read_field_log(path)) == [*map(numbered, range(kept)), ENTRY]


def test_a_full_disk_costs_entries_and_joins_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "field.jsonl"
    size = len(written(path, ENTRY))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FieldLog(path) as log:
        try:
            # The kernel writes up to the limit, as it does on a disk that fills up, and then fails.
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))
            log.append(numbered(1))
            log.append(numbered(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (log.lost, path.stat().st_size) == (2, size)
        log.append(numbered(3))
        assert log.lost == 2
    assert list(read_field_log(path)) == [ENTRY, numbered(3)]


def test_a_closed_log_writes_to_no_other_file(tmp_path: Path) -> None:
    log = FieldLog(tmp_path / "field.jsonl")
    log.close()
    with (tmp_path / "other").open("wb"):  # it has the number that the log's file had
        log.append(ENTRY)
    log.close()
    assert log.lost == 1
    assert not (tmp_path / "other").read_bytes() + (tmp_path / "field.jsonl").read_bytes()


def test_threads_write_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    # In parts, so that lines of two threads would mix without the lock.
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:50]))
    path = tmp_path / "field.jsonl"
    with FieldLog(path) as log:
        threads = [
            Thread(target=lambda at=at: [log.append(numbered(n)) for n in range(at, at + 50)])
            for at in range(0, 200, 50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.lost == 0
    found = [entry for entry in read_field_log(path) if entry is not None]
    assert sorted(found, key=lambda entry: entry.time) == [*map(numbered, range(200))]


@pytest.mark.parametrize(
    "content",
    [b'{"file": "a.jpg"}\n', b"\n", b"a picture", b'{"time":5}\n', b"\xff" * 100_000],
)
def test_a_file_of_something_else_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "field.jsonl"
    path.write_bytes(content)
    with pytest.raises(EennError, match="line 1 is not an entry of a field log"):
        FieldLog(path)
    assert path.read_bytes() == content


def test_a_log_of_another_artifact_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "field.jsonl"
    other = replace(ENTRY, artifact_id="b" * 64)
    written(path, other)
    written(path, ENTRY)
    assert list(read_field_log(path)) == [other, ENTRY]


def test_one_edge_at_a_time_writes_to_a_log(tmp_path: Path) -> None:
    path = tmp_path / "field.jsonl"
    with (
        FieldLog(path),
        pytest.raises(EennError, match="another eenn-edge writes its field log to"),
    ):
        FieldLog(path)


def line_with(**changed: object) -> bytes:
    return json.dumps(json.loads(ENTRY.to_json()) | changed).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[" * 30_000,
        b"[]",
        line_with(place="moon"),
        line_with(audit="maybe"),
        line_with(time=-1),
        line_with(time=float("nan")),
        line_with(latency_ms=float("inf")),
        line_with(latency_ms=10**400),
        line_with(latency_ms="5"),
        line_with(confidences=[0.5]),
        line_with(confidences=[0.5, 1.5]),
        line_with(exit=0),
        line_with(exit=True),
        line_with(exits=[1, 10**30]),
        line_with(heads="x" * 129),
        line_with(failure="\x1b[2J"),
        line_with(looks_like="a\nb"),
        line_with(looks_like=1),
        line_with(link={"sent_bytes": -1, "received_bytes": 0, "wait_ms": 0, "server_ms": 0}),
        line_with(link={"sent_bytes": MAX_NUMBER * 2, "received_bytes": 0}),
        line_with(guard={"knob": "p_tar"}),
        line_with(guard=vars(ENTRY.guard) | {"state": "asleep"}),
        line_with(guard=vars(ENTRY.guard) | {"rate": 2}),
        line_with(heads="x" * MAX_LINE_BYTES),
    ],
)
def test_a_damaged_line_is_no_entry_and_costs_no_other(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "field.jsonl"
    content = written(path, ENTRY, numbered(1))
    first, second = content.splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    assert list(read_field_log(path)) == [ENTRY, None, numbered(1)]


def test_a_log_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "field.jsonl"
    path.write_bytes(written(path, ENTRY) + b"x" * 10 * MAX_LINE_BYTES)
    longest: list[int] = []
    monkeypatch.setattr(
        json, "loads", lambda line, loads=json.loads: longest.append(len(line)) or loads(line)
    )
    assert list(read_field_log(path)) == [ENTRY, None]
    assert max(longest) <= MAX_LINE_BYTES + 1


@pytest.mark.parametrize("kind", ["pipe", "large"])
def test_a_log_to_read_is_a_file_within_the_bound(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "field.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        written(path, ENTRY)
        monkeypatch.setattr(field_log, "MAX_LOG_BYTES", 100)
    with pytest.raises(EennError, match="allowed is a field log on a disk of up to"):
        list(read_field_log(path))


def test_a_line_from_before_kinds_were_judged_is_read() -> None:
    content = json.loads(ENTRY.to_json())
    del content["looks_like"]
    assert FieldEntry.read(json.dumps(content).encode()) == ENTRY
