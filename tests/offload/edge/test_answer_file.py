"""Answers on disk outlive full disks, power losses and damage: none is lost or there twice."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzzing import answers as fuzzing
from eenn.errors import EennError
from eenn.offload.adaptation import line_file
from eenn.offload.adaptation.line_file import SYNC_S, lines_of
from eenn.offload.edge import answers
from eenn.offload.edge.answers import AnswerFile
from tests.offload.simulated_clock import SimulatedClock

ARTIFACT_ID, ANSWER = "a" * 64, {"label": 1, "confidence": 0.5}
NAMES = ("one.jpg", "t\udcffwo.jpg", "thr\nee.jpg")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimulatedClock:
    simulated = SimulatedClock()
    monkeypatch.setattr(line_file, "time", simulated)
    return simulated


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch, clock: SimulatedClock) -> list[float]:
    """When the disk was told to keep what was written."""
    found: list[float] = []
    monkeypatch.setattr(os, "fsync", lambda _: found.append(clock.now))
    return found


@pytest.fixture
def without_sync() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def written(path: Path, names: tuple[str, ...] = NAMES) -> bytes:
    with AnswerFile(path, ARTIFACT_ID) as file:
        for name in names:
            if name not in file.answered:
                file.append(name, ANSWER)
    return path.read_bytes()


def files(content: bytes) -> list[str]:
    return [json.loads(line)["file"] for line in content.splitlines()]


@pytest.mark.parametrize("target", [fuzzing.damaged_files, fuzzing.full_disks])
@pytest.mark.usefixtures("without_sync")
def test_damage_and_full_disks_cost_no_answer(target: Callable[[Random], None]) -> None:
    for seed in range(150):
        target(Random(seed))


@given(
    cut=st.floats(0, 1),
    tail=st.just(b"") | st.binary(max_size=30) | st.integers(1, 9000).map(bytes),
    garbage=st.none() | st.binary(max_size=30),
)
@pytest.mark.usefixtures("without_sync")
def test_a_restart_keeps_whole_answers_and_does_the_others_once(
    cut: float, tail: bytes, garbage: bytes | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "answers.jsonl"
    lines = written(path).splitlines(keepends=True)
    at = round(cut * len(b"".join(lines[1:])))
    torn = lines[0] + b"".join(lines[1:])[:at]
    damaged = torn + tail.replace(b"\n", b" ")
    if garbage is not None:
        garbage = garbage.replace(b"\n", b"\xff")
        damaged = lines[0] + garbage + b"\n" + damaged[len(lines[0]) :]
    path.write_bytes(damaged)
    whole = torn.count(b"\n")
    with AnswerFile(path, ARTIFACT_ID) as file:
        assert file.answered == set(NAMES[:whole])
        assert file.bad_lines == [2] * (garbage is not None)
    left = written(path)
    if garbage is not None:
        left = left.replace(b"\n" + garbage + b"\n", b"\n", 1)
    assert left == b"".join(lines)


@pytest.mark.usefixtures("without_sync")
def test_a_disk_that_fills_up_in_a_line_and_then_has_room_joins_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    size = len(written(path, NAMES[:1]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with AnswerFile(path, ARTIFACT_ID) as file:
        try:
            # The kernel writes up to the limit, as it does on a disk that fills up, and then fails.
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))
            for _ in range(2):
                with pytest.raises(EennError, match=r"wo\.jpg has no answer yet.*too large"):
                    file.append(NAMES[1], ANSWER)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.stat().st_size == size
        assert NAMES[1] not in file.answered
        for name in NAMES[1:]:
            file.append(name, ANSWER)
    assert files(path.read_bytes()) == [*NAMES]


@pytest.mark.usefixtures("without_sync")
def test_what_cannot_even_be_cut_off_is_cut_off_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, sizes = tmp_path / "answers.jsonl", os.write, iter([10])

    def full(fd: int, data: bytes) -> int:
        if size := next(sizes, 0):
            return write(fd, data[:size])
        raise OSError(28, "No space left on device")

    def broken(fd: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    with AnswerFile(path, ARTIFACT_ID) as file:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            patch.setattr(os, "ftruncate", broken)
            with pytest.raises(EennError, match="No space left on device"):
                file.append(NAMES[0], ANSWER)
        assert path.stat().st_size == 10
        file.append(NAMES[1], ANSWER)
    assert files(path.read_bytes()) == [NAMES[1]]


def test_answers_are_on_the_disk_a_stated_time_later(
    tmp_path: Path, clock: SimulatedClock, syncs: list[float]
) -> None:
    start = clock.now
    with AnswerFile(tmp_path / "answers.jsonl", ARTIFACT_ID) as file:
        file.sync()
        for second in range(12):
            clock.now = start + second
            file.append(f"{second}.jpg", ANSWER)
        assert syncs == [start + SYNC_S, start + 2 * SYNC_S]
        clock.now = start + 14
        file.sync()
        assert len(syncs) == 2
        clock.now = start + 15
        file.sync()
        file.sync()
        assert syncs[2:] == [start + 15]
        file.append("last.jpg", ANSWER)
    assert len(syncs) == 4


def test_a_disk_that_fails_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with (
        pytest.raises(EennError, match=r"cannot write to .*answers\.jsonl: Input/output error"),
        AnswerFile(tmp_path / "answers.jsonl", ARTIFACT_ID) as file,
    ):
        file.append("a.jpg", ANSWER)


@pytest.mark.parametrize(
    "line",
    [
        b'{"artifact_id": 5}',
        b'{"file": 5, "artifact_id": "x"}',
        b'{"file": "x.jpg", "artifact_id": null}',
        b'{"file": "x.jpg", "artifact_id": "%s"}' % (b"b" * 64),
        b'{"file": ["x.jpg"], "artifact_id": "%s"}' % ARTIFACT_ID.encode(),
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
        b"1" * 5000,
    ],
)
def test_one_bad_line_is_counted_and_costs_no_other_answer(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    content = written(path, NAMES[:1])
    path.write_bytes(line + b"\n" + content + line + b"\n")
    with AnswerFile(path, ARTIFACT_ID) as file:
        assert (file.answered, file.bad_lines) == ({NAMES[0]}, [1, 3])
    assert path.read_bytes() == line + b"\n" + content + line + b"\n"


def test_a_file_that_was_lost_to_zeros_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(bytes(10_000))
    assert files(written(path)) == [*NAMES]


def test_a_line_that_is_too_long_for_memory_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_LINE_BYTES", 200)
    path = tmp_path / "answers.jsonl"
    content = written(path, NAMES[:1])
    for long, bad in ((b"x" * 200 + b"\n", [2]), (b"x" * 999 + b"\n", [2]), (b"x" * 600, [])):
        path.write_bytes(content + long)
        with path.open("rb") as stream:
            assert max(map(len, lines_of(stream, 200))) <= 201
        with AnswerFile(path, ARTIFACT_ID) as file:
            assert (file.answered, file.bad_lines) == ({NAMES[0]}, bad)
    assert path.read_bytes() == content


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ARTIFACT_ID):
        with pytest.raises(EennError, match="another eenn-edge writes its answers to"):
            AnswerFile(path, ARTIFACT_ID)
        AnswerFile(tmp_path / "another.jsonl", ARTIFACT_ID).__exit__()
    AnswerFile(path, ARTIFACT_ID).__exit__()


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_what_cannot_be_read_again_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    os.mkfifo(tmp_path / "pipe")
    if kind == "device":
        path = Path("/dev/full")
    else:
        path.symlink_to(tmp_path / "pipe")
    with pytest.raises(EennError, match="a file on a disk"):
        AnswerFile(path if kind != "pipe" else tmp_path / "pipe", ARTIFACT_ID)
