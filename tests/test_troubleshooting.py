"""docs/troubleshooting.md: every message that it quotes is one of the source."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"

# What a text holds in place of each value that is filled in.
GAP = "\0"


@cache
def texts() -> tuple[str, ...]:
    """Give the texts in the source, with gaps where values are filled in."""
    found = dict.fromkeys(
        text
        for file in sorted((ROOT / "eenn").rglob("*.py"))
        for text in texts_of(ast.parse(file.read_text()))
    )
    return tuple(found)


def texts_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values
            )


def pieces(message: str) -> list[str]:
    """Give what a message says whatever is filled in, which words in capitals stand for."""
    parts = re.split(r"(?<![\w./-])[A-Z][A-Z_]*(?![\w./-])", message)
    return [piece.strip() for piece in parts if len(piece.strip()) > 1]


def is_said(message: str) -> bool:
    """Tell whether one text of the source has all pieces of a message, in their order."""
    pattern = re.compile(".*".join(map(re.escape, pieces(message))), re.DOTALL)
    return any(pattern.search(text) for text in texts())


def quoted() -> list[str]:
    found = re.findall(r"\*\*``(.*?)``\*\*", PAGE.read_text(), re.DOTALL)
    return [" ".join(message.split()) for message in found]


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_one_of_the_source(message: str) -> None:
    assert sum(map(len, pieces(message))) >= 10, "too few words to be found by"
    assert is_said(message)


def test_a_message_that_nothing_says_is_found() -> None:
    assert len(quoted()) > 50
    assert is_said("DIR has no exported graphs; run")
    assert not is_said("DIR has no graphs that were exported")
    # Pieces of different texts.
    assert not is_said("has no exported graphs; run VALUE is there already")


def test_causes_of_a_degraded_answer_are_those_of_the_edge() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| ", PAGE.read_text(), re.MULTILINE)
    assert rows
    for causes, begins in rows:
        for cause in re.findall(r"`(\w+)`", causes):
            assert cause in texts(), cause
        known = re.sub(r"\d+$", "", begins).strip()
        assert not known or any(known in text for text in texts()), begins
