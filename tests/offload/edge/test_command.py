"""eenn-edge as its users run it: files, a watched folder, and a cloud that may fail."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.exits.decide import Decisions, decide
from eenn.exits.policies.base import ExitProbs, Policy
from eenn.exits.policies.registry import make_policy
from eenn.offload.cloud.command import running
from eenn.offload.edge import command
from eenn.offload.edge.answers import AnswerFile
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.offload.edge.watch import NewImages
from eenn.statistics.calibration import probabilities
from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import CLASSES, TEMPERATURES, Exported
from tests.offload.patience import PATIENCE_S, make_patient

P_TAR = 0.65
NO_HURRY = ("--deadline-ms", str(1e3 * PATIENCE_S))
MODULE = (sys.executable, "-m", "eenn.offload.edge.command")


@pytest.fixture
def edge(
    exported: Exported, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str], str]]:
    """Runs `eenn-edge` in this process: exit code, lines of stdout, stderr."""
    make_patient(monkeypatch)

    def run(*arguments: object) -> tuple[int, list[str], str]:
        given = ["--artifact", exported.path, "--p-tar", P_TAR, *NO_HURRY, *arguments]
        with pytest.raises(SystemExit) as stop:
            command.main([str(argument) for argument in given])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out.splitlines(), captured.err

    return run


@contextmanager
def process(
    exported: Exported, *arguments: object, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """`eenn-edge` as a process of its own; it is killed if it outlives the block or patience."""
    given = [str(argument) for argument in ("--artifact", exported.path, *arguments)]
    with subprocess.Popen(
        [*MODULE, *given], stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as started:
        overdue = Timer(PATIENCE_S, started.kill)
        overdue.start()
        try:
            yield started
        finally:
            overdue.cancel()
            started.kill()


def outputs_of(exported: Exported) -> NDArray[np.float64]:
    """Calibrated probabilities of all files from PyTorch, (exits, files, classes)."""
    with torch.inference_mode():
        logits = exported.network(torch.from_numpy(exported.images)).numpy()
    return np.stack([probabilities(*pair) for pair in zip(logits, TEMPERATURES, strict=True)])


def decided(
    exported: Exported, active: Sequence[int], cloud: bool, policy: Policy | None = None
) -> Decisions:
    """What is decided on PyTorch's logits of all files."""
    outputs = [ExitProbs(exit, probs) for exit, probs in enumerate(outputs_of(exported))]
    usual = make_policy("confidence", {"p_tar": P_TAR})
    return decide(policy or usual, outputs, active, cloud)


def parsed(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def assert_decided(
    answers: Sequence[dict[str, Any]], expected: Decisions, tolerance: float = 1e-3
) -> None:
    assert [answer["exit"] - 1 for answer in answers] == expected.taken.tolist()
    assert [answer["label"] for answer in answers] == expected.label.tolist()
    assert [answer["place"] == "edge" for answer in answers] == expected.on_edge.tolist()
    confidences = [answer["confidence"] for answer in answers]
    np.testing.assert_allclose(confidences, expected.confidence, rtol=tolerance)


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, until: int) -> Iterator[None]:
    """A disk that takes a part of each line and then no more, and has room after so many lines."""
    write, parts = os.write, iter([20, 0] * until)

    def reluctant(fd: int, data: bytes) -> int:
        if (part := next(parts, len(data))) == 0:
            raise OSError(28, "No space left on device")
        return write(fd, data[:part])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", reluctant)
        yield


@contextmanager
def polls(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """A watch that ends after so many pauses, which take no time."""
    left = iter(range(number))

    def pause(_: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "time", SimpleNamespace(sleep=pause))
        yield


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_without_a_cloud_every_file_has_the_answer_of_the_branches(
    exported: Exported, edge: Any
) -> None:
    code, lines, errors = edge("--json", *exported.files)
    answers = parsed(lines)
    assert (code, after_first_line(errors)) == (0, "")
    assert [answer["file"] for answer in answers] == [str(file) for file in exported.files]
    assert_decided(answers, decided(exported, (0, 1, 2), cloud=False))
    for answer in answers:
        assert answer["class_name"] == CLASSES[answer["label"]]
        assert answer["exits"] == [1, 2, 3][: answer["exit"]]
        assert len(answer["confidences"]) == len(answer["stages_ms"]) == answer["exit"]
        parts = answer["preprocess_ms"] + sum(answer["stages_ms"]) + answer["cloud_ms"]
        assert answer["latency_ms"] == pytest.approx(parts, abs=0.01)
        assert (answer["degraded"], answer["failure"]) == (False, "")


def test_branches_may_be_off(exported: Exported, edge: Any) -> None:
    _, lines, _ = edge("--json", "--active", "1,3", *exported.files)
    answers = parsed(lines)
    assert_decided(answers, decided(exported, (0, 2), cloud=False))
    assert {tuple(answer["exits"]) for answer in answers} == {(1,), (1, 3)}


def test_the_first_branches_are_those_that_are_listed(exported: Exported, edge: Any) -> None:
    _, lines, _ = edge("--json", "--first", "2", *exported.files)
    assert_decided(parsed(lines), decided(exported, (0, 1), cloud=False))


@pytest.mark.parametrize(
    ("arguments", "name", "settings"),
    [
        (("--thresholds", "0.9,0.6,0.3,0.8"), "confidence", {"p_tar": [0.9, 0.6, 0.3, 0.8]}),
        (("--policy", "margin", "--p-tar", "0.4"), "margin", {"p_tar": 0.4}),
        (("--policy", "margin"), "margin", {"p_tar": 0.8}),
        (("--policy", "patience"), "patience", {"agree": 2}),
        (("--policy", "patience", "--agree", "3"), "patience", {"agree": 3}),
        (
            ("--policy", "committee", "--p-tar", "0.5"),
            "committee",
            {"p_tar": 0.5, "weights": [0.2, 0.3, 0.4]},
        ),
    ],
)
def test_a_policy_and_its_knob_are_those_that_are_named(
    arguments: tuple[str, ...],
    name: str,
    settings: dict[str, object],
    exported: Exported,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--artifact", exported.path, "--json", *NO_HURRY, *arguments, *exported.files]
    with pytest.raises(SystemExit):
        command.main([str(argument) for argument in given])
    lines = capsys.readouterr().out.splitlines()
    expected = decided(exported, (0, 1, 2), cloud=False, policy=make_policy(name, settings))
    assert_decided(parsed(lines), expected)


@pytest.mark.clock
def test_a_person_reads_a_line_per_image(exported: Exported, edge: Any) -> None:
    _, lines, _ = edge("--fallback", "most_confident", *exported.files)
    policy = make_policy("confidence", {"p_tar": P_TAR, "fallback_to": "most_confident"})
    expected = decided(exported, (0, 1, 2), cloud=False, policy=policy)
    surest = outputs_of(exported).max(axis=2)[:3].argmax(axis=0)
    for line, file, label, exit, best in zip(
        lines, exported.files, expected.label, expected.taken, surest, strict=True
    ):
        name, class_name, confidence, exit_text, place, latency = line.split("  ")
        assert (name, class_name) == (f"{file}:", CLASSES[label])
        was_surer = exit == 2 and best != exit
        answer = f", answer of exit {best + 1}" if was_surer else ""
        assert (exit_text, place) == (f"exit {exit + 1}{answer}", "edge")
        assert 0 < float(confidence) <= 1
        assert float(latency.removesuffix(" ms")) > 0


@pytest.mark.clock
def test_the_exit_that_answered_is_named_where_a_surer_one_had_less_to_go_on(
    exported: Exported, edge: Any
) -> None:
    probs = outputs_of(exported)
    surest = probs.max(axis=2).argmax(axis=0)
    assert 0 < sum(surest < 3) < len(surest)
    with running([exported.path]) as cloud:
        never = ("--p-tar", "1", "--fallback", "most_confident")
        given = ("--cloud", cloud.url, *never, *exported.files)
        _, lines, _ = edge("--json", *given)
        _, texts, _ = edge(*given)
    for answer, text, best, row in zip(
        parsed(lines), texts, surest.tolist(), probs.transpose(1, 0, 2), strict=True
    ):
        assert (answer["exit"], answer["place"]) == (4, "cloud")
        assert answer["answered_by"] == best + 1
        assert answer["label"] == row[best].argmax()
        assert answer["confidence"] == answer["confidences"][best]
        said = "exit 4" if best == 3 else f"exit 4, answer of exit {best + 1}"
        assert text.split("  ")[3:5] == [said, "cloud"]


def test_a_file_that_is_given_twice_is_answered_once(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    first, second = exported.files[:2]
    for output in ((), ("--output", tmp_path / "answers.jsonl")):
        code, lines, _ = edge("--json", *output, first, second, first)
        assert code == 0
        assert [answer["file"] for answer in parsed(lines)] == [str(first), str(second)]


def test_unreadable_files_are_told_and_the_others_are_answered(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    broken, good = tmp_path / "broken.jpg", exported.files[:2]
    broken.write_bytes(good[0].read_bytes()[:200])
    code, lines, errors = edge("--json", good[0], broken, tmp_path / "missing.jpg", good[1])
    assert code == 1
    assert [answer["file"] for answer in parsed(lines)] == [str(file) for file in good]
    told = after_first_line(errors).splitlines()
    assert [line.startswith("error: ") for line in told] == [True, True]
    assert "broken.jpg" in told[0]
    assert "missing.jpg" in told[1]


@pytest.mark.clock
@pytest.mark.parametrize("payload", ["fp32", "fp16", "uint8"])
def test_a_real_cloud_answers_what_no_branch_accepts(
    payload: str, exported: Exported, edge: Any
) -> None:
    with running([exported.path]) as cloud:
        given = ("--cloud", cloud.url, "--payload", payload)
        code, lines, errors = edge("--json", *given, *exported.files)
        nothing = edge("--json", *given, "--active", "none", exported.files[0])
    answers = parsed(lines)
    assert (code, after_first_line(errors)) == (0, "")
    expected = decided(exported, (0, 1, 2), cloud=True)
    assert 0 < sum(~expected.on_edge) < len(answers)
    if payload == "uint8":
        assert [answer["place"] == "edge" for answer in answers] == expected.on_edge.tolist()
    else:
        assert_decided(answers, expected, 1e-2 if payload == "fp16" else 1e-3)
    for answer in answers:
        assert (answer["cloud_ms"] > 0) == (answer["place"] == "cloud")
    (alone,) = parsed(nothing[1])
    assert (alone["place"], alone["exit"], alone["stages_ms"]) == ("cloud", 4, [])


def test_a_token_comes_from_a_file_and_a_wrong_one_is_told(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("secret-token\n")
    wrong.write_text("another-token\n")
    with running([exported.path], token_file=right) as cloud:
        given = ("--json", "--cloud", cloud.url)
        _, lines, errors = edge(*given, "--token-file", right, *exported.files)
        assert after_first_line(errors) == ""
        assert not any(answer["degraded"] for answer in parsed(lines))
        code, lines, errors = edge(*given, "--token-file", wrong, *exported.files)
    answers = parsed(lines)
    said = after_first_line(errors)
    assert code == 0
    assert said.startswith("warning: ")
    assert "401" in said
    assert said.count("\n") == 1
    assert {answer["failure"] for answer in answers} >= {"", "token"}
    assert {answer["place"] for answer in answers} == {"edge"}


def test_when_the_cloud_is_gone_the_edge_answers_all_and_says_why(
    exported: Exported, edge: Any
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, lines, errors = edge("--json", "--cloud", url, *exported.files)
    answers = parsed(lines)
    assert code == 0
    said = after_first_line(errors)
    assert said.count("\n") == 1
    assert said.startswith("warning: ")
    assert_decided(answers, decided(exported, (0, 1, 2), cloud=False))
    offloaded = ~decided(exported, (0, 1, 2), cloud=True).on_edge
    assert [answer["degraded"] for answer in answers] == offloaded.tolist()
    assert {answer["failure"] for answer in answers} <= {"", "refused", "breaker"}
    _, lines, _ = edge("--cloud", url, *exported.files)
    assert [", degraded: " in line for line in lines] == offloaded.tolist()


def test_with_no_branch_and_no_cloud_each_image_is_an_error_and_not_the_end(
    exported: Exported, edge: Any
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, lines, errors = edge("--cloud", url, "--active", "none", *exported.files[:3])
    assert (code, lines) == (1, [])
    told = after_first_line(errors).splitlines()
    assert [line.split(":")[0] for line in told] == ["warning", *["error"] * 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give image files, or --watch DIR, or --serve PORT"),
        (("a.jpg", "--watch", "."), "give image files, or"),
        (("--watch", ".", "--serve", "0"), "give image files, or"),
        (("a.jpg", "--token-file", "f"), "are for a --cloud"),
        (("a.jpg", "--payload", "uint8"), "are for a --cloud"),
        (("--serve", "0", "--json"), "are for images"),
        (("a.jpg", "--active", "1,b"), "such as 1,2,3, or none"),
        (("a.jpg", "--thresholds", "high"), "such as 0.9,0.8,0.7"),
        (("a.jpg", "--deadline-ms", "0"), "above 0"),
        (("a.jpg", "--deadline-ms", "nan"), "above 0"),
        (("a.jpg", "--threads", "0"), "1 or more"),
        (("a.jpg", "--precision", "fp16"), "choose from"),
    ],
)
def test_a_wrong_command_line_is_told_with_the_usage(
    arguments: tuple[str, ...], said: str, edge: Any
) -> None:
    code, lines, errors = edge(*arguments)
    usage, error = errors.splitlines()
    assert (code, lines) == (2, [])
    assert usage.startswith("usage: eenn-edge")
    assert said in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.jpg", "--artifact", "nowhere"), "nowhere holds no artifact"),
        (("a.jpg", "--active", "3,1"), "ascending choice of 1, 2, 3"),
        (("a.jpg", "--p-tar", "1.5"), "p_tar=1.5"),
        (("a.jpg", "--active", "1", "--first", "1"), "active and first: allowed is one of them"),
        (("a.jpg", "--first", "4"), "first=4: allowed are 0 to 3"),
        (("a.jpg", "--thresholds", "0.9,0.8"), "2 thresholds and the network 4 exits"),
        (
            ("a.jpg", "--policy", "committee", "--thresholds", "0.9,0.8,0.7,0.6"),
            "allowed is 0 to 1",
        ),
        (("a.jpg", "--agree", "2"), "policy confidence has no setting agree"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: tuple[str, ...], said: str, edge: Any) -> None:
    code, lines, errors = edge(*arguments)
    assert (code, lines) == (1, [])
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert said in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.jpg", "--active", "none"), "nobody answers"),
        (("a.jpg", "--cloud", "ftp://host"), "http"),
        (("a.jpg", "--cloud", "http://h", "--token-file", "no-file"), "no-file"),
        (("--watch", "no-folder"), "no-folder"),
        (("a.jpg", "--output", "no-folder/a.jsonl"), "no-folder"),
        (("--serve", "70000"), "choose another"),
        (("--serve", "TAKEN"), "choose another"),
    ],
)
def test_a_mistake_beside_the_deployment_is_one_clear_line_behind_it(
    arguments: tuple[str, ...], said: str, edge: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [port if argument == "TAKEN" else argument for argument in arguments]
        code, lines, errors = edge(*given)
    assert (code, lines) == (1, [])
    told = after_first_line(errors)
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told


def test_an_artifact_without_graphs_is_told_to_be_exported(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    bare = shutil.copytree(exported.path, tmp_path / "bare", ignore=shutil.ignore_patterns("onnx"))
    code, _, errors = edge("--artifact", bare, "a.jpg")
    assert code == 1
    assert f"run `eenn-export {bare}`" in errors


def test_answers_on_disk_are_left_out_the_next_time(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    _, first, _ = edge("--json", "--output", output, *exported.files[:3])
    code, second, _ = edge("--json", "--output", output, *exported.files[:5])
    assert code == 0
    assert [row["file"] for row in parsed(second)] == [str(f) for f in exported.files[3:5]]
    rows = parsed(output.read_text().splitlines())
    for row in rows:
        assert row.pop("artifact_id") == exported.graphs.manifest.id
    assert rows == parsed(first + second)


def test_a_line_torn_anywhere_is_done_again_and_whole_ones_are_kept(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:3]]
    edge("--output", output, *files)
    content = output.read_bytes()
    for cut in range(len(content) + 1):
        output.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        with AnswerFile(output, exported.graphs.manifest.id) as answers:
            assert answers.answered == set(files[:whole])
        assert output.read_bytes() == b"".join(content.splitlines(keepends=True)[:whole])
    output.write_bytes(content[:-7])
    _, lines, _ = edge("--json", "--output", output, *files)
    assert [row["file"] for row in parsed(lines)] == files[2:]
    assert [row["file"] for row in parsed(output.read_text().splitlines())] == files


@pytest.mark.parametrize(
    "content",
    [
        b"no answers",
        b"\xff\xd8\xff\xe0",
        b'{"a": 1}\n',
        b'{"artifact_id": 5}\n',
        b'{"file": "x.jpg", "artifact_id": 5}\n',
        b'{"file": "x.jpg", "label": 1}\n',
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b"\n",
        b'{"file": 1\nx',
        b"7\n",
    ],
)
def test_a_file_of_something_else_is_never_touched(
    content: bytes, exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output = tmp_path / "precious"
    output.write_bytes(content)
    code, lines, errors = edge("--output", output, exported.files[0])
    assert (code, lines) == (1, [])
    assert "line 1: no answer of eenn-edge; choose another file" in errors
    assert output.read_bytes() == content


def test_answers_of_another_network_are_not_mixed_with_its_own(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    with AnswerFile(output, "f" * 64) as answers:
        answers.append("a.jpg", {"label": 1})
    before = output.read_bytes()
    code, _, errors = edge("--output", output, exported.files[0])
    assert code == 1
    assert "holds answers of artifact ffffffffffff, not of" in errors
    assert output.read_bytes() == before


@pytest.mark.parametrize("kind", ["folder", "pipe", "/dev/full"])
def test_what_cannot_hold_answers_is_one_clear_line(
    kind: str, exported: Exported, edge: Any, tmp_path: Path
) -> None:
    path = Path(kind) if kind == "/dev/full" else tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    code, lines, errors = edge("--output", path, exported.files[0])
    said = after_first_line(errors)
    assert (code, lines, said.count("\n")) == (1, [], 1)
    assert said.startswith(f"error: {path}")


def test_bad_lines_are_said_and_their_images_answered_again(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:3]]
    edge("--output", output, *files)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text(lines[0] + lines[1][:50] + lines[1] + '{"artifact_id": 5}\n' + lines[2])
    code, answers, errors = edge("--json", "--output", output, *files)
    assert code == 0
    assert [answer["file"] for answer in parsed(answers)] == files[1:2]
    said = after_first_line(errors)
    assert said.startswith(f"warning: {output}: lines without an answer of this network: 2, ")
    assert "the first is line 2" in said
    assert said.count("\n") == 1


def test_a_full_disk_costs_a_batch_the_images_that_it_had_no_room_for(
    exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:4]]
    with full_disk(monkeypatch, until=2):
        code, lines, errors = edge("--json", "--output", output, *files)
    assert code == 1
    assert [answer["file"] for answer in parsed(lines)] == files[2:]
    said = after_first_line(errors).splitlines()
    told = [line.partition(" has no answer yet, as ")[0] for line in said]
    assert told == [f"error: {file}" for file in files[:2]]
    code, lines, _ = edge("--json", "--output", output, *files)
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == files[:2]
    assert sorted(row["file"] for row in parsed(output.read_text().splitlines())) == files


def test_a_watch_waits_for_room_on_a_full_disk(
    exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = tmp_path / "photos", tmp_path / "answers.jsonl"
    folder.mkdir()
    there = [str(shutil.copy(file, folder)) for file in exported.files[:2]]
    with full_disk(monkeypatch, until=3), polls(monkeypatch, 6):
        code, lines, errors = edge("--json", "--watch", folder, "--output", output)
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == there
    assert [row["file"] for row in parsed(output.read_text().splitlines())] == there
    said = after_first_line(errors)
    assert said.count("\n") == 1
    assert "No space left on device; it is tried again until there is room" in said


def test_an_edge_killed_in_the_middle_keeps_what_it_wrote_and_goes_on(
    exported: Exported, edge: Any, tmp_path: Path
) -> None:
    output, files = tmp_path / "answers.jsonl", [str(file) for file in exported.files[:6]]
    # Opening a pipe that nobody writes to takes for ever: the edge is in the middle of this image.
    files[3] = str(tmp_path / "endless.jpg")
    os.mkfifo(files[3])
    with process(exported, "--json", "--output", output, *files) as killed:
        assert killed.stdout
        printed = [killed.stdout.readline() for _ in range(3)]
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    assert [row["file"] for row in parsed(printed)] == files[:3]
    kept = output.read_bytes()
    assert [row["file"] for row in parsed(kept.splitlines())] == files[:3]

    Path(files[3]).unlink()
    shutil.copy(exported.files[3], files[3])
    output.write_bytes(kept + kept[:40])
    code, lines, _ = edge("--json", "--output", output, *files)
    assert code == 0
    assert [row["file"] for row in parsed(lines)] == files[3:]
    assert output.read_bytes().startswith(kept)
    assert [row["file"] for row in parsed(output.read_text().splitlines())] == files


@pytest.mark.clock
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_watched_folder_is_answered_until_the_edge_is_stopped(
    stop: signal.Signals, exported: Exported, tmp_path: Path
) -> None:
    folder, output = tmp_path / "photos", tmp_path / "answers.jsonl"
    folder.mkdir()
    there = [shutil.copy(file, folder / f"{n}.jpg") for n, file in enumerate(exported.files[:2])]
    with process(exported, "--watch", folder, "--json", "--output", output) as watching:
        assert watching.stdout
        first = parsed([watching.stdout.readline() for _ in range(2)])
        (folder / "broken.png").write_bytes(b"no image")
        assert watching.stderr
        assert after_first_line(watching.stderr.readline()) == ""
        assert "broken.png" in watching.stderr.readline()
        appeared = shutil.copy(exported.files[2], folder / "later.JPG")
        second = parsed([watching.stdout.readline()])
        watching.send_signal(stop)
        assert watching.wait() == 0
        assert (watching.stdout.read(), watching.stderr.read()) == ("", "")
    assert [row["file"] for row in first] == [str(file) for file in there]
    assert [row["file"] for row in second] == [str(appeared)]

    more = shutil.copy(exported.files[3], folder / "more.jpg")
    with process(exported, "--watch", folder, "--json", "--output", output) as again:
        assert again.stdout
        assert json.loads(again.stdout.readline())["file"] == str(more)
        again.send_signal(stop)
        assert again.wait() == 0
    files = [row["file"] for row in parsed(output.read_text().splitlines())]
    assert files == [str(file) for file in (*there, appeared, more)]


def test_images_that_are_interrupted_are_not_a_success(exported: Exported, tmp_path: Path) -> None:
    pipe = tmp_path / "endless.jpg"
    os.mkfifo(pipe)
    with process(exported, exported.files[0], pipe) as stopped:
        assert stopped.stdout
        assert str(exported.files[0]) in stopped.stdout.readline()
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait() == 130
        assert stopped.stderr
        assert after_first_line(stopped.stderr.read()) == ""


def test_a_reader_that_has_left_ends_it_without_a_word(exported: Exported) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with process(exported, *exported.files, stdout=writer) as read:
        os.close(writer)
        assert read.stderr
        assert read.wait() == 1
        assert after_first_line(read.stderr.read()) == ""


def test_a_file_is_given_once_when_it_no_longer_grows(tmp_path: Path) -> None:
    answered: set[str] = set()
    images = NewImages(tmp_path, answered)
    file = tmp_path / "a.jpg"
    for n in range(3):
        file.write_bytes(b"x" * n)
        assert images.poll() == []
    assert images.poll() == [str(file)]
    answered.add(str(file))
    file.write_bytes(b"another")
    assert [images.poll() for _ in range(3)] == [[], [], []]


def test_a_file_that_could_not_be_read_is_given_again_once_it_has_changed(tmp_path: Path) -> None:
    images, file = NewImages(tmp_path, set()), tmp_path / "a.jpg"
    file.write_bytes(b"half")
    assert [images.poll() for _ in range(4)] == [[], [str(file)], [], []]
    file.write_bytes(b"whole")
    assert [images.poll() for _ in range(4)] == [[], [str(file)], [], []]


def test_only_images_are_given_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPEG", ".hidden.jpg", "notes.txt", "photo.jpg.part", "jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    images = NewImages(tmp_path, {str(tmp_path / "known.png")})
    (tmp_path / "known.png").write_bytes(b"x")
    images.poll()
    assert images.poll() == [str(tmp_path / "a.JPEG"), str(tmp_path / "b.png")]


def test_a_watched_file_is_an_image_by_how_it_begins(tmp_path: Path) -> None:
    images = NewImages(tmp_path, set())
    beginnings = {"scan": b"P5 1 1 255\n\0", "a.jfif": b"x", "b.tmp": b"\xff\xd8\xff\xe0"}
    others = {"list": b"text", "phone.heic": b"\0\0\0 ftypheic", "answers.jsonl": b"{}\n"}
    for name, content in (beginnings | others).items():
        (tmp_path / name).write_bytes(content)
    images.poll()
    assert images.poll() == [str(tmp_path / name) for name in ("a.jfif", "b.tmp", "scan")]
    assert images.others == sorted(str(tmp_path / name) for name in others)
    (tmp_path / "list").write_bytes(b"GIF89a")
    images.poll()
    assert images.poll() == [str(tmp_path / "list")]


ODD_NAMES = (b"\xff.jpg", b"\x1b[2J.jpg", b"a\nb.jpg: forged.jpg", b"\xe2\x80\xaegpj.jpg")
ESCAPED = ("\\udcff.jpg", "\\x1b[2J.jpg", "a\\nb.jpg: forged.jpg", "\\u202egpj.jpg")


@pytest.mark.parametrize("watching", [False, True])
def test_names_that_are_no_text_end_nothing_and_forge_no_line(
    watching: bool, exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [os.fsdecode(os.path.join(os.fsencode(tmp_path), name)) for name in ODD_NAMES]
    for file, photo in zip(files, exported.files, strict=False):
        shutil.copy(photo, file)
    Path(files[2]).write_bytes(b"no image")
    given = ("--watch", tmp_path) if watching else files
    with polls(monkeypatch, 3):
        code, lines, errors = edge(*given)
    with polls(monkeypatch, 3):
        _, answers, _ = edge("--json", *given)
    escaped = [f"{tmp_path}/{name}" for name in ESCAPED]
    assert code == (0 if watching else 1)
    assert {line.split("  ")[0] for line in lines} == {f"{escaped[n]}:" for n in (0, 1, 3)}
    assert {answer["file"] for answer in parsed(answers)} == {files[n] for n in (0, 1, 3)}
    said = after_first_line(errors)
    assert said.startswith(f"error: {escaped[2]} is not")
    assert said.count("\n") == 1
    assert said.rstrip("\n").isprintable()


def test_what_the_terminal_has_no_sign_for_is_escaped(exported: Exported, tmp_path: Path) -> None:
    file = shutil.copy(exported.files[0], tmp_path / "gr\u00fc\u00df\u4e16.jpg")
    given = [*MODULE, "--artifact", exported.path, file]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:strict"}
    done = subprocess.run(given, capture_output=True, env=environment)
    assert (done.returncode, after_first_line(done.stderr.decode())) == (0, "")
    assert "gr\u00fc\u00df\\u4e16.jpg:".encode("latin-1") in done.stdout


def test_a_full_disk_below_the_output_is_one_clear_line(exported: Exported) -> None:
    with (
        open("/dev/full", "w") as full,
        process(exported, *exported.files, stdout=full.fileno()) as stopped,
    ):
        assert stopped.stderr
        assert stopped.wait() == 1
        said = stopped.stderr.read()
    assert after_first_line(said) == "error: cannot print the answers: No space left on device\n"


def test_one_entry_that_cannot_be_looked_at_is_told_and_the_others_answered(
    exported: Exported, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = tmp_path / "a.jpg"
    loop.symlink_to(loop)
    photo = shutil.copy(exported.files[0], tmp_path / "b.jpg")
    with polls(monkeypatch, 4):
        code, lines, errors = edge("--json", "--watch", tmp_path)
    assert code == 0
    assert [answer["file"] for answer in parsed(lines)] == [str(photo)]
    said = after_first_line(errors)
    assert said.startswith(f"error: {loop} is not a readable image")
    assert said.count("\n") == 1


def test_a_bug_at_one_image_is_told_and_the_others_answered(
    exported: Exported, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify = EdgeRuntime.classify_file

    def failing(self: EdgeRuntime, file: str) -> Any:
        if file == str(exported.files[0]):
            raise MemoryError("no\nmore")
        return classify(self, file)

    monkeypatch.setattr(EdgeRuntime, "classify_file", failing)
    code, lines, errors = edge("--json", *exported.files[:2])
    assert code == 1
    assert [answer["file"] for answer in parsed(lines)] == [str(exported.files[1])]
    said = after_first_line(errors)
    assert said.startswith(f"error: {exported.files[0]}: MemoryError: no\\nmore; a bug, in ")
    assert said.count("\n") == 1


def test_a_device_needs_only_what_the_base_package_installs(exported: Exported) -> None:
    absent = (
        "torch torchvision scipy safetensors filelock hydra omegaconf matplotlib pytorch_lightning "
        "wandb onnx tabulate tqdm yaml zstandard starlette uvicorn prometheus_client"
    )
    cloud = f"http://127.0.0.1:{free_port()}"
    image = str(exported.files[0])
    given = ["--artifact", str(exported.path), "--cloud", cloud, "--p-tar", "1", *NO_HURRY, image]
    program = f"""
import sys
sys.modules.update(dict.fromkeys({absent.split()!r}))
from eenn.offload.edge import command, server, watch
command.main({given!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ", degraded: refused" in done.stdout
