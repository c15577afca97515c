"""House rules that no linter knows: sizes of folders, modules and functions, and types that say
something."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    [*ROOT.glob("*.py"), *(ROOT / "eenn").rglob("*.py"), *ROOT.glob("benchmarks/**/*.py")]
)
MODULES_BESIDE_PACKAGES = 9
LINES_OF_MODULE, LINES_OF_FUNCTION, ARGUMENTS = 350, 60, 10
# Lightning's Trainer takes its settings as the configuration has them, and Hydra makes anything of
# what a configuration names.
UNTYPED = {
    "eenn/training/distortion_classifier.py: fit_classifier",
    "eenn/training/experts.py: Fits: trainer",
    "eenn/training/trainer.py: FIXED",
    "eenn/training/trainer.py: make_trainer",
    "eenn/workflows/check.py: Arguments",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Syntax trees of the program's modules by path."""
    assert len(FILES) > 100
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in FILES}


def functions(trees: dict[str, ast.Module]) -> Iterator[tuple[str, Function]]:
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}:{node.lineno} {node.name}", node


def arguments(function: Function) -> list[ast.arg]:
    """All but self and cls."""
    given = function.args
    optional = [argument for argument in (given.vararg, given.kwarg) if argument]
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [argument for argument in named if argument.arg not in ("self", "cls")] + optional


def test_few_modules_lie_beside_the_packages() -> None:
    modules = [file.stem for file in (ROOT / "eenn").glob("*.py") if file.stem != "__init__"]
    assert len(modules) <= MODULES_BESIDE_PACKAGES, modules


def larger(sizes: Iterable[tuple[object, int]], limit: int) -> str:
    """What is above the limit, a line each; nothing if nothing is."""
    return "\n".join(f"{name}: {size}" for name, size in sizes if size > limit)


def test_modules_are_short() -> None:
    lines = [(file.relative_to(ROOT), file.read_text().count("\n")) for file in FILES]
    assert not (long := larger(lines, LINES_OF_MODULE)), long


def test_functions_are_short(trees: dict[str, ast.Module]) -> None:
    lines = [(name, node.end_lineno - node.lineno + 1) for name, node in functions(trees)]
    assert not (long := larger(lines, LINES_OF_FUNCTION)), long


def test_functions_take_few_arguments(trees: dict[str, ast.Module]) -> None:
    taken = [(name, len(arguments(node))) for name, node in functions(trees)]
    assert not (long := larger(taken, ARGUMENTS)), long


def test_every_module_says_what_it_owns(trees: dict[str, ast.Module]) -> None:
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def public(path: str, body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.expr | None]]]:
    """What others can use of a module or class, and the types that it states: signatures, fields
    and aliases."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(f"{path}: {node.name}", node.body)
        elif isinstance(node, Function) and (node.name == "__init__" or node.name[0] != "_"):
            types = [argument.annotation for argument in arguments(node)]
            yield f"{path}: {node.name}", [*types, node.returns]
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target)[0] != "_":
            is_alias = ast.unparse(node.annotation) == "TypeAlias"
            stated = node.value if is_alias else node.annotation
            yield f"{path}: {ast.unparse(node.target)}", [stated]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            yield f"{path}: {ast.unparse(node.targets[0])}", [node.value]


def test_what_others_use_says_its_types(trees: dict[str, ast.Module]) -> None:
    untyped = {
        name
        for path, tree in trees.items()
        if not path.startswith("benchmarks")  # programs that nothing imports
        for name, types in public(path, tree.body)
        for stated in types
        if stated and any(isinstance(n, ast.Name) and n.id == "Any" for n in ast.walk(stated))
    }
    assert not untyped - UNTYPED, "\n".join(sorted(untyped - UNTYPED))
    assert untyped >= UNTYPED
