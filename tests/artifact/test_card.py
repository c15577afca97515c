"""The model card: it tells what the manifest and the test say, and no name breaks its Markdown."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from eenn.artifact.card import CARD, NOT_STATED, ExitResults, card, write_card
from eenn.artifact.manifest import Manifest, Origin
from eenn.cli import printable
from tests.artifact.expert_artifact import run_with_experts

# Signs that Markdown or HTML give a meaning to, among any others.
SIGNS = "|`*_[]()<>#&\\~!\n-+=.:$@w1 "
NAMES = st.text(
    st.one_of(st.sampled_from(SIGNS), st.characters(exclude_categories=())),
    min_size=1,
    max_size=12,
)
SHARES = st.floats(0, 1)


def content(classes: list[str], accuracy: list[float], **other: Any) -> dict[str, Any]:
    exits = [
        {"after": 3 * k, "channels": 8, "height": 7, "width": 7, "macs": 1234567 * k,
         "head_macs": 70_000, "payload_bytes": 1568 * k}
        for k in range(1, len(accuracy) + 1)
    ]  # fmt: skip
    return {
        "id": "ab" * 32,
        "architecture": {"classes": len(classes), "positions": [3, 10], "head": "conv",
                         "width_mult": 0.35, "input_size": 64},
        "classes": classes,
        "preprocessing": {"input_size": 64, "resize_size": 72, "mean": [0.485, 0.456, 0.406],
                          "std": [0.229, 0.224, 0.225]},
        "exits": exits,
        "temperatures": {"per_exit": [1 + share for share in accuracy], "shared": 1.1,
                         "fitted": "in a test"},
        "validation_accuracy": accuracy,
        "split": {"hash": "cd" * 32, "seed": 7, "sizes": {"train": 801, "val": 102, "test": 103}},
        "created": "2026-11-27T10:00:00+00:00",
        "versions": {"eenn": "0.2.0", "torch": "2.15.0"},
        "git_commit": "ef" * 20,
        "files": {"weights.safetensors": {"bytes": 4711, "sha256": "12" * 32}},
        **other,
    }  # fmt: skip


def written(given: dict[str, Any], tested: ExitResults | None = None) -> str:
    return card(Manifest(Path("nowhere"), given), tested)


def shown(text: str) -> dict[str, list[list[str]]]:
    """The tables of a card by their sections, as a reader sees them: rows of texts."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    found: dict[str, list[list[str]]] = {}
    section, before = "", ""
    for token in tokens:
        if token.type == "inline" and before == "heading_open":
            section = token.content
        elif token.type == "tr_open":
            found.setdefault(section, []).append([])
        elif token.type == "inline" and before in ("td_open", "th_open"):
            found[section][-1].append(_text(token))
        before = token.type
    return found


def _text(token: Token) -> str:
    kinds = {child.type for child in token.children or ()}
    assert kinds <= {"text", "text_special"}, token.content
    return "".join(child.content for child in token.children or ())


@given(st.lists(NAMES, min_size=1, max_size=5), NAMES)
@settings(max_examples=150)
def test_every_name_is_shown_as_it_is(classes: list[str], name: str) -> None:
    origin = Origin(name, name, name, name, name, 3, name)
    tables = shown(written(content(classes, [0.5, 0.7], origin=asdict(origin))))
    # Cells begin and end with what is no space.
    expected = [printable(one).strip() for one in classes]
    assert tables["Classes"][1:] == [[f"{k}", one] for k, one in enumerate(expected)]
    rows = dict(tables["Data and licences"][1:] + tables["How it was made"][1:])
    said = printable(name).strip()
    for key in ("images", "licence of the images", "command", "hardware"):
        assert rows[key] == said
    assert rows["seed"] == "3"


@given(st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), min_size=1, max_size=4))
@settings(max_examples=50)
def test_every_number_is_shown(exits: list[tuple[float, float, float, float]]) -> None:
    validation, accuracy, ece, calibrated = (list(column) for column in zip(*exits, strict=True))
    given = content(["a", "b"], validation)
    text = written(given, ExitResults(103, accuracy, ece, calibrated))
    tables = shown(text)
    for k, row in enumerate(tables["Accuracy"][1:]):
        number, after, macs, payload, on_validation, on_test = row
        assert [number, after] == [f"{k + 1}", f"{given['exits'][k]['after']}"]
        heads = 70_000 * (k + 1)
        all_macs = (given["exits"][k]["macs"] + heads) / 1e6
        assert float(macs) == pytest.approx(all_macs, abs=0.051)
        assert payload == f"{given['exits'][k]['payload_bytes']}"
        for cell, value in ((on_validation, validation[k]), (on_test, accuracy[k])):
            middle, low, high = map(float, re.split(r"[\[\], ]+", cell.strip("]")))
            assert middle == pytest.approx(100 * value, abs=0.051)
            assert 0 <= low <= high <= 100
    temperatures = given["temperatures"]["per_exit"]
    for k, row in enumerate(tables["Calibration"][1:]):
        found = [float(cell) for cell in row]
        expected = [k + 1, temperatures[k], 100 * ece[k], 100 * calibrated[k]]
        assert found == pytest.approx(expected, abs=0.051)
    sizes = [["images for train", "801"], ["images for val", "102"], ["images for test", "103"]]
    assert all(row in tables["Data and licences"] for row in sizes)
    assert tables["Files"][1] == ["weights.safetensors", "4711", "12" * 32]
    for number in ("0.35", "64 px", "72 px", "0.485, 0.456, 0.406", "0.229, 0.224, 0.225", "1.1"):
        assert number in text


def test_intervals_are_wilsons() -> None:
    # 8 of 10: Newcombe (1998) gives 49.0 to 94.3 %.
    given = content(["a", "b"], [0.8])
    given["split"]["sizes"]["val"] = 10
    assert shown(written(given))["Accuracy"][1][4] == "80.0 [49.0, 94.3]"


def test_what_nobody_stated_is_said_to_be_so() -> None:
    tables = shown(written(content(["a", "b"], [0.5])))
    rows = dict(tables["Data and licences"][1:] + tables["How it was made"][1:])
    assert rows["licence of the images"] == rows["licence of those weights"] == NOT_STATED
    assert rows["command"] == rows["hardware"] == NOT_STATED
    assert rows["commit"] == "ef" * 20


def test_the_card_of_an_artifact_with_experts_names_them(tmp_path: Path, write_images: Any) -> None:
    images = write_images(tmp_path / "images", ant=20, bee=20)
    run = run_with_experts(tmp_path, images) / "outputs" / "train" / "noise" / "1"
    text = (run / "artifact" / CARD).read_text()
    manifest = json.loads((run / "artifact" / "manifest.json").read_text())
    heads = [row[0] for row in shown(text)["Experts"][1:]]
    assert heads == [one["kind"] for one in manifest["experts"]["sets"]]
    assert CARD not in manifest["files"]


def test_a_card_is_written_again_when_the_test_is_known(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, content(["a", "b"], [0.5, 0.7]))
    write_card(manifest)
    assert "No test split was asked" in (tmp_path / CARD).read_text()
    write_card(manifest, ExitResults(103, [0.4, 0.6], [0.1, 0.1], [0.05, 0.05]))
    assert "No test split was asked" not in (tmp_path / CARD).read_text()
