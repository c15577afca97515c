"""eenn-edge as its users run it: files, and a cloud that may fail."""

from pathlib import Path
from typing import Any

import pytest

from eenn.exits.decide import on_device
from eenn.exits.policies.registry import make_policy
from eenn.offload.cloud.command import running
from eenn.offload.edge import command
from tests.offload.edge.edge_command import (
    NO_HURRY,
    P_TAR,
    assert_decided,
    decided,
    free_port,
    outputs_of,
    parsed,
    run_bare,
)
from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import CLASSES, Exported


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


def test_when_the_cloud_is_gone_a_device_may_compute_the_rest(
    exported: Exported, edge: Any
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    given = ("--json", "--cloud", url, *NO_HURRY, "--on-failure", "continue")
    code, lines, errors = edge(*given, *exported.files)
    assert code == 0
    assert "on failure continue\n" in errors
    expected = decided(exported, (0, 1, 2), cloud=True)
    answers = parsed(lines)
    assert_decided(answers, on_device(expected))
    assert [answer["degraded"] for answer in answers] == (~expected.on_edge).tolist()


def test_with_no_branch_and_no_cloud_each_image_is_an_error_and_not_the_end(
    exported: Exported, edge: Any
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, lines, errors = edge("--cloud", url, "--active", "none", *exported.files[:3])
    assert (code, lines) == (1, [])
    told = after_first_line(errors).splitlines()
    assert [line.split(":")[0] for line in told] == ["warning", *["error"] * 3]


def test_a_device_needs_only_what_the_base_package_installs(exported: Exported) -> None:
    cloud = f"http://127.0.0.1:{free_port()}"
    given = ("--artifact", exported.path, "--cloud", cloud, "--p-tar", 1, *NO_HURRY)
    done = run_bare(*given, exported.files[0])
    assert done.returncode == 0, done.stderr
    assert ", degraded: refused" in done.stdout
