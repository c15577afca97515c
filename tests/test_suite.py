"""The suite itself: what several tests need has a module or a fixture of its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def imported_tests(source: str) -> Iterator[str]:
    """The names of all test modules, or of tests in them, that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                name = f"{module}.{alias.name}"
                if any(part.startswith("test_") for part in name.split(".")):
                    yield name


def test_no_test_module_is_imported_by_another() -> None:
    files = list(TESTS.rglob("*.py"))
    found = {
        str(file.relative_to(TESTS)): names
        for file in files
        if (names := list(imported_tests(file.read_text())))
    }
    assert Path(__file__) in files
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import tests.room.test_this",
        "from tests.room.test_this import make",
        "from tests.room import test_this as other",
        "from .test_this import make",
        "from . import test_this",
        "def test() -> None:\n    from tests.room.test_this import make",
    ],
)
def test_every_way_to_import_a_test_module_is_seen(source: str) -> None:
    assert list(imported_tests(source))
    assert not list(imported_tests(source.replace("test_this", "support")))
