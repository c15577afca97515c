"""Prose rules that no linter knows: first words of docstrings, and phrases that hide a meaning."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Imperative verbs that the docstring of a function may begin with.
VERBS = frozenset(
    re.findall(
        r"\S+",
        """
    Add Adjust Allow Answer Apply Ask Attack Augment Average Await Begin Bin Blur Build Calibrate
    Call Caption Carry Change Check Choose Claim Classify Clear Close Collect Combine Compare
    Complete Compress Compute Connect Convert Copy Count Create Cut Damage Decide Decode
    Decompress Delete Derive Describe Detect Distort Divide Do Download Draw Drop Encode End
    Enter Escape Estimate Evaluate Explain Export Express Extract Fetch Fill Filter Find
    Fine-tune Finish Fit Flush Format Free Generate Get Give Group Guard Hash Hide Hold Import
    Insert Join Keep Label Lay Leave Let List Load Locate Log Look Make Map Mark Match Measure
    Merge Mix Model Move Multiply Name Normalise Note Observe Offer Open Order Outline Pack Pad
    Parse Pick Place Plan Plot Post Predict Prepare Print Probe Put Quantise Query Queue Quote
    Raise Rank Rate Read Rebuild Receive Record Refuse Register Reject Release Remove Rename
    Render Repeat Replace Replay Reply Report Resample Reserve Reset Resize Resolve Restore
    Resume Return Rewrite Round Run Sample Save Say Scale Score Search Select Send Separate
    Serve Set Shorten Show Shuffle Silence Simulate Sort Split Spread Start State Stop Store Sum
    Summarise Switch Tabulate Take Tell Test Track Train Transform Try Turn Unpack Update Use
    Validate Vary Verify Wait Warn Weigh Weight Word Wrap Write Yield
    """,
    )
)
BARE_CLAUSE = re.compile(r"(What|Whatever|Who|Whoever|Whose|Whether|How|When|Where|Which|That)\b")
IS_NO = re.compile(r"(?<!there )\bis no\s", re.IGNORECASE)
LETTER_FOR_A_PAPER = re.compile(r"\[[ABC]\]")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
Rule = Callable[[str], Iterator[tuple[int, str]]]


def rooms() -> dict[str, list[Path]]:
    """List the program's modules by room: a package, the modules beside packages, the scripts."""
    found = {"scripts": sorted(ROOT.glob("*.py")), "eenn": sorted((ROOT / "eenn").glob("*.py"))}
    for package in sorted((ROOT / "eenn").glob("*/")):
        if modules := sorted(package.rglob("*.py")):
            found[f"eenn/{package.name}"] = modules
    found["benchmarks"] = sorted((ROOT / "benchmarks").rglob("*.py"))
    return found


ROOMS = rooms()
each_room = pytest.mark.parametrize("modules", ROOMS.values(), ids=ROOMS)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, Documented, str]]:
    """Yield line, node and text of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), node, text


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of every comment; lines that follow each other are one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [(t.start[0], t.string.lstrip("# ")) for t in tokens if t.type == tokenize.COMMENT]
    block: list[tuple[int, str]] = []
    for (line, text), (following, _) in pairwise([*found, (-1, "")]):
        block.append((line, text))
        if following != line + 1:
            yield block[0][0], " ".join(part for _, part in block)
            block = []


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string constant, also of docstrings and f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def verbless(source: str) -> Iterator[tuple[int, str]]:
    """Yield functions' docstrings that do not begin with an imperative verb."""
    for line, node, text in docstrings(ast.parse(source)):
        if isinstance(node, Function) and text.split()[0].rstrip(".,:;") not in VERBS:
            yield line, text


def clauses(source: str) -> Iterator[tuple[int, str]]:
    """Yield docstrings that begin with a clause in place of a noun or verb."""
    for line, _, text in docstrings(ast.parse(source)):
        if BARE_CLAUSE.match(text):
            yield line, text


def negated_nouns(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments and strings that say "is no X" for "is not an X"."""
    for line, text in (*comments(source), *strings(ast.parse(source))):
        if found := IS_NO.search(text):
            yield line, text[max(found.start() - 30, 0) :]


def letters_for_papers(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments and docstrings that cite a paper by a letter, not by authors and year."""
    texts = ((line, text) for line, _, text in docstrings(ast.parse(source)))
    for line, text in (*comments(source), *texts):
        if found := LETTER_FOR_A_PAPER.search(text):
            yield line, text[max(found.start() - 30, 0) :]


RULES = (verbless, clauses, negated_nouns, letters_for_papers)


@each_room
@pytest.mark.parametrize("rule", RULES)
def test_prose_keeps_the_rule(rule: Rule, modules: list[Path]) -> None:
    broken = [
        f"{file.relative_to(ROOT)}:{line}: {' '.join(text.split()):.70}"
        for file in modules
        for line, text in rule(file.read_text())
    ]
    assert not broken, "\n".join(broken)


def test_every_module_is_in_a_room() -> None:
    found = [module for modules in ROOMS.values() for module in modules]
    assert len(found) == len(set(found)) > 200
    assert set(found) >= {*ROOT.glob("eenn/**/*.py"), *ROOT.glob("benchmarks/**/*.py")}


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (verbless, 'def area():\n    """The area in pixels."""'),
        (verbless, 'class Square:\n    async def area(self):\n        """Areas, in pixels."""'),
        (clauses, '"""What is read."""'),
        (clauses, 'class Reader:\n    """Whoever reads."""'),
        (clauses, 'def is_read():\n    """Whether it is read."""'),
        (negated_nouns, "# The file is\n# no image."),
        (negated_nouns, 'f"{file} is no image"'),
        (negated_nouns, 'def read():\n    """Read; an error is no\n    answer."""'),
        (letters_for_papers, "heads = 2  # as in [A]"),
        (letters_for_papers, '"""The heads of [C]."""'),
    ],
)
def test_each_rule_finds_what_breaks_it(rule: Rule, source: str) -> None:
    assert list(rule(source))


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_objects_to_plain_prose(rule: Rule) -> None:
    source = '''"""Areas of shapes, as in Pacheco et al. (2021a)."""


class Square:
    """A square that knows its area."""

    def area(self) -> float:
        """Compute the area in pixels.

        What is outside does not count.
        """
        return self.sides[0]  # a side is not a diagonal
'''
    assert not list(rule(source))
