"""What cannot be run is told in a line, with the usage or with what to do."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.offload.edge.first_line import after_first_line
from tests.offload.exported import Exported


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give image files, or --watch DIR, or --serve PORT"),
        (("a.jpg", "--watch", "."), "give image files, or"),
        (("--watch", ".", "--serve", "0"), "give image files, or"),
        (("a.jpg", "--token-file", "f"), "need --cloud URL"),
        (("a.jpg", "--payload", "uint8"), "need --cloud URL"),
        (("--serve", "0", "--json"), "go with images or --watch"),
        (("a.jpg", "--active", "1,b"), "such as 1,2,3, or none"),
        (("a.jpg", "--thresholds", "high"), "such as 0.9,0.8,0.7"),
        (("a.jpg", "--deadline-ms", "0"), "above 0"),
        (("a.jpg", "--deadline-ms", "nan"), "above 0"),
        (("a.jpg", "--threads", "0"), "1 or more"),
        (("a.jpg", "--threads", "9" * 12), "at most 6 digits"),
        (("a.jpg", "--cloud", "http://host", "--cut", "9" * 5000), "a number of blocks"),
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
        (("a.jpg", "--active", "none"), "no exit answers"),
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
