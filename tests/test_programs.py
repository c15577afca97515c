"""The programs: their names, versions, help, what they say without their extras, and the wheel."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import eenn
from eenn.offload.edge.command import main as edge
from eenn.programs import CONF, CONFIGURED, command_of
from eenn.workflows import console
from eenn.workflows.keys import help_of

ROOT = Path(__file__).parents[1]
PROGRAMS: dict[str, Callable[[], None]] = {
    "eenn-edge": edge,
    "eenn-cloud": console.cloud,
    "eenn-export": console.export,
    "eenn-plan": console.plan,
    "eenn-train": console.train,
    "eenn-evaluate": console.evaluate,
    "eenn-bench": console.offload_bench,
}
# Runs programs where only what the edge needs can be imported, and prints what each ends with.
WITHOUT_EXTRAS = """
import importlib.metadata, re, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["program", *sys.argv[1:]]
from eenn.workflows import console
from eenn.offload.edge.command import main
for program in (main, console.cloud, console.export, console.plan, console.train, console.evaluate,
                console.offload_bench):
    try:
        program()
    except SystemExit as ended:
        print(ended.code, flush=True)
"""
OF_EXTRAS = ("torch", "torchvision", "starlette", "uvicorn", "hydra", "omegaconf", "yaml", "scipy")


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def without_extras(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = WITHOUT_EXTRAS.format(blocked=OF_EXTRAS)
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_version_is_declared_once_and_told_everywhere() -> None:
    assert "version" in project()["dynamic"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == eenn.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == eenn.__version__


def test_an_installation_brings_all_programs() -> None:
    assert set(project()["scripts"]) == set(PROGRAMS)
    assert {program.name for program in CONFIGURED.values()} < set(PROGRAMS)
    assert all((ROOT / str(program.script)).is_file() for program in CONFIGURED.values())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_tells_its_version(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[name]()
    assert not ended.value.code
    assert capsys.readouterr().out == f"{name} {eenn.__version__}\n"


def test_a_missing_extra_is_one_line_that_says_what_to_install() -> None:
    said = without_extras("DIR").stdout.splitlines()
    # The edge needs no extra: its own line is about the command line, and goes to stderr.
    assert said == [
        "2",
        "error: eenn-cloud needs starlette; install it with: pip install 'eenn[cloud]'",
        "error: eenn-export needs torch; install it with: pip install 'eenn[train]'",
        "error: eenn-plan needs torch; install it with: pip install 'eenn[train]'",
        "error: eenn-train needs torch; install it with: pip install 'eenn[train]'",
        "error: eenn-evaluate needs torch; install it with: pip install 'eenn[train]'",
        "error: eenn-bench needs torch; install it with: pip install 'eenn[train]'",
    ]


def test_all_programs_tell_their_versions_without_extras() -> None:
    said = [line for line in without_extras("--version").stdout.splitlines() if " " in line]
    assert said == [f"{name} {eenn.__version__}" for name in PROGRAMS]


def test_what_is_missing_of_eenn_itself_stays_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eenn.offload.cloud.command", None)
    monkeypatch.setattr(sys, "argv", ["eenn-cloud"])
    with pytest.raises(ModuleNotFoundError):
        console.cloud()


def of_help(configuration: str) -> dict[str, tuple[str, str]]:
    """Defaults and meanings by key, from the lines of a help."""
    _, _, keys = help_of(configuration).partition("Keys, with the default and what it means:\n")
    table, _, _ = keys.partition("\n\n")
    found = (re.fullmatch(r"  ([\w.]+)=(.*?)(?:  +(.*))?", line) for line in table.splitlines())
    return {one[1]: (one[2], one[3] or "") for one in found if one}


@pytest.mark.parametrize("configuration", CONFIGURED)
def test_help_lists_the_keys_that_people_set_with_default_and_meaning(configuration: str) -> None:
    listed = of_help(configuration)
    content = yaml.safe_load((CONF / f"{configuration}.yaml").read_text())
    own = {key for key in content if key not in ("defaults", "hydra")}
    assert own <= {key.split(".")[0] for key in listed}
    assert not [key for key, (_, meaning) in listed.items() if not meaning]
    # The defaults are what Hydra composes, where they are not shortened.
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(configuration)
    known = {
        key: (text, OmegaConf.select(composed, key, throw_on_missing=False))
        for key, (text, _) in listed.items()
        if "..." not in text and "?" not in text
    }
    differing = {
        key: (text, value)
        for key, (text, value) in known.items()
        if OmegaConf.create({"it": value}) != OmegaConf.create(f"it: {text}")
        and key.split(".")[0] not in ("policy", "data")  # keys of files that are not chosen
    }
    assert differing == {}
    assert len(known) > 8


def test_help_fits_a_screen_and_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for configuration in CONFIGURED:
        lines = help_of(configuration).splitlines()
        assert lines[0].startswith(f"usage: {command_of(configuration)} [KEY=VALUE ...]")
        assert len(lines) <= 65


@pytest.mark.parametrize(
    ("arguments", "configuration"),
    [
        (("--help",), "train"),
        (("-h",), "train"),
        (("--config-name", "train_experts", "--help"), "train_experts"),
        (("--config-name=train_experts", "--help"), "train_experts"),
    ],
)
def test_help_is_that_of_the_configuration_that_is_named(
    arguments: tuple[str, ...],
    configuration: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        console.train()
    assert not ended.value.code
    assert capsys.readouterr().out == f"{help_of(configuration)}\n"


@pytest.mark.slow
def test_the_wheel_has_the_configuration_and_runs_outside_the_checkout(tmp_path: Path) -> None:
    build = (
        f"import os; os.chdir({str(ROOT)!r}); from hatchling.build import build_wheel; "
        f"build_wheel({str(tmp_path)!r})"
    )
    pytest.importorskip("hatchling")
    subprocess.run([sys.executable, "-c", build], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"eenn-{eenn.__version__}-py3-none-any.whl"
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    files = {str(f.relative_to(CONF)) for f in CONF.rglob("*.yaml")}
    packed = unpacked / "eenn" / "conf"
    assert {str(f.relative_to(packed)) for f in packed.rglob("*.yaml")} == files
    assert (unpacked / "eenn" / "py.typed").is_file()
    metadata = next(unpacked.glob("*.dist-info")) / "METADATA"
    assert "License-Expression: Apache-2.0" in metadata.read_text()
    place = tmp_path / "elsewhere"
    place.mkdir()
    program = (
        "import runpy, sys; from eenn.workflows import console\n"
        "for name, argument in [('train', '--help'), ('train', '--cfg=job'),"
        " ('evaluate', '--cfg=job'), ('offload_bench', '--cfg=job')]:\n"
        "    sys.argv = [name, *argument.replace('=job', ' job').split()]\n"
        "    try:\n"
        "        getattr(console, name)()\n"
        "    except SystemExit:\n"
        "        pass\n"
        "from eenn.cli import one_line_errors; from eenn.run_directory import find_artifact\n"
        "with one_line_errors(): find_artifact('latest')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env={"PYTHONPATH": str(unpacked), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.stdout.startswith("usage: eenn-train [KEY=VALUE ...]"), run.stderr
    assert "python train.py" not in run.stdout
    for key in ("loss_weights: linspace", "batch_size: 32", "payload: uint8"):
        assert f"\n{key}\n" in run.stdout, run.stderr
    assert run.stderr.splitlines() == [
        "error: artifact=latest: no artifact under outputs/train; train one with `eenn-train`"
    ]
