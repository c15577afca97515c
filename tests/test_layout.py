"""Rooms import downwards and without circles, and every contract of the layout can be broken."""

import subprocess
import sys
from copy import deepcopy
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter import Contract
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

ROOT = Path(__file__).parents[1]
CONFIGURATION = read_configuration(str(ROOT / "pyproject.toml"))
SESSION: dict[str, Any] = CONFIGURATION["session_options"]
CONTRACTS: dict[str, dict[str, Any]] = {c["name"]: c for c in CONFIGURATION["contracts_options"]}
LAYERS, EDGE_AND_CLOUD, DEVICE, NUMBERS, HYDRA, TRACKING = CONTRACTS
TYPES: dict[str, type[Contract]] = {
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Imports as import-linter sees them with the project's settings."""
    assert SESSION == {"root_packages": ["eenn"], "include_external_packages": "True"}
    return grimp.build_graph("eenn", include_external_packages=True, cache_dir=None)


def broken(graph: grimp.ImportGraph) -> set[str]:
    """Names of the project's contracts that these imports break."""
    contracts = [TYPES[c["type"]](name, SESSION, c) for name, c in CONTRACTS.items()]
    # A check takes the imports out of the graph that it is told to ignore.
    return {c.name for c in contracts if not c.check(deepcopy(graph), verbose=False).kept}


def test_the_contracts_are_kept(graph: grimp.ImportGraph) -> None:
    assert broken(graph) == set()


@pytest.mark.parametrize(
    ("importer", "imported", "breaks"),
    [
        ("eenn.errors", "eenn.files", {LAYERS}),
        ("eenn.data.splits", "eenn.planning.costs", {LAYERS}),
        ("eenn.planning.costs", "eenn.artifact.manifest", {LAYERS}),
        # The layers hold the two apart as well.
        ("eenn.offload.edge.watch", "eenn.offload.cloud.settings", {LAYERS, EDGE_AND_CLOUD}),
        # Evaluations read manifests, which say how images are prepared.
        ("eenn.preprocess", "torch", {DEVICE, NUMBERS}),
        ("eenn.offload.edge.watch", "eenn.statistics.metrics", {DEVICE}),
        ("eenn.statistics.metrics", "torch", {NUMBERS}),
        ("eenn.records.records", "eenn.models.building", {NUMBERS}),
        ("eenn.workflows.train", "hydra", {HYDRA}),
        ("eenn.workflows.console", "hydra", {HYDRA}),
        ("eenn.programs", "eenn.errors", {LAYERS}),
        ("eenn.reports.page", "omegaconf", {HYDRA}),
        ("eenn.workflows.train", "wandb", {TRACKING}),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    graph: grimp.ImportGraph, importer: str, imported: str, breaks: set[str]
) -> None:
    changed = deepcopy(graph)
    assert {importer, imported} <= changed.modules
    changed.add_import(importer=importer, imported=imported)
    assert broken(changed) == breaks


@pytest.mark.parametrize("name", [DEVICE, NUMBERS])
def test_rooms_are_imported_without_what_is_forbidden_to_them(
    graph: grimp.ImportGraph, name: str
) -> None:
    sources, forbidden = (CONTRACTS[name][key] for key in ("source_modules", "forbidden_modules"))
    modules = {module for source in sources for module in {source, *graph.find_descendants(source)}}
    program = (
        "import importlib, sys\n"
        f"for module in {sorted(modules)}: importlib.import_module(module)\n"
        f"print(*(set({forbidden}) & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.fixture(scope="module")
def imports(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Who imports whom, by names of the project's modules."""
    own = {module for module in graph.modules if module.split(".")[0] == "eenn"}
    return {
        (importer, imported)
        for importer in own
        for imported in graph.find_modules_directly_imported_by(importer) & own
    }


def test_no_folder_imports_itself_by_way_of_others(imports: set[tuple[str, str]]) -> None:
    def folder(module: str) -> str:
        is_folder = (ROOT / module.replace(".", "/")).is_dir()
        return module if is_folder else module.rpartition(".")[0]

    below: dict[str, set[str]] = {}
    for importer, imported in imports:
        if folder(importer) != folder(imported):
            below.setdefault(folder(importer), set()).add(folder(imported))
    assert len(below) > 15
    # Raises CycleError, which says the circle, if there is one.
    TopologicalSorter(below).prepare()


def test_no_import_runs_up_or_across_the_layers(imports: set[tuple[str, str]]) -> None:
    depth = {
        f"eenn.{room.strip()}": depth
        for depth, layer in enumerate(CONTRACTS[LAYERS]["layers"])
        for room in layer.split("|")
    }
    depth["eenn"] = len(CONTRACTS[LAYERS]["layers"])  # the version alone, which all may read

    def room(module: str) -> str:
        while module not in depth:
            module = module.rpartition(".")[0]
        return module

    between = {
        (importer, imported) for importer, imported in imports if room(importer) != room(imported)
    }
    assert len(between) > 100
    wrong = [pair for pair in between if depth[room(pair[0])] >= depth[room(pair[1])]]
    assert wrong == []
