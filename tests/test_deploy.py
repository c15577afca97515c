"""Service files and Containerfiles: what they start takes the options that they give."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from eenn.offload.cloud.command import main as cloud
from eenn.offload.edge.command import main as edge

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "deploy").glob("*.service"))
CONTAINERS = sorted((ROOT / "deploy").glob("*.Containerfile"))
MAINS: dict[str, Callable[[list[str]], None]] = {"eenn-edge": edge, "eenn-cloud": cloud}
# Paths of the programs that say whether they work; tests of each ask them.
HEALTH = {"edge": "/health", "cloud": "/v2/health/ready"}


def joined(file: Path) -> str:
    """The text of a file, each continued line in one."""
    return re.sub(r"\\\n\s*", "", file.read_text())


def started(file: Path) -> list[str]:
    """The command line that a file starts."""
    if file.suffix == ".service":
        (line,) = re.findall(r"^ExecStart=(.*)$", joined(file), re.MULTILINE)
        return str(line).split()
    (line,) = re.findall(r"^ENTRYPOINT (.*)$", joined(file), re.MULTILINE)
    return list(json.loads(line))


@pytest.mark.parametrize("file", [*UNITS, *CONTAINERS], ids=lambda file: file.name)
def test_the_options_are_those_of_the_program(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = started(file)
    name = Path(program).name
    assert name == f"eenn-{file.stem.removeprefix('eenn-')}"
    with pytest.raises(SystemExit):
        MAINS[name](["--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    given = {argument for argument in arguments if argument.startswith("--")}
    assert "--artifact" in given
    assert given <= known


def test_a_service_runs_without_privileges() -> None:
    for unit in UNITS:
        lines = unit.read_text().splitlines()
        for line in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict"):
            assert line in lines
    assert len(UNITS) == 2


def test_the_edge_keeps_a_guards_state_where_it_may_write() -> None:
    unit = ROOT / "deploy" / "eenn-edge.service"
    command = started(unit)
    assert command[command.index("--guard-state") + 1] == "${STATE_DIRECTORY}/guard.json"
    assert "StateDirectory=eenn-edge" in unit.read_text().splitlines()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_finds_no_mistake_in_the_units() -> None:
    command = ["systemd-analyze", "verify", *map(str, UNITS)]
    run = subprocess.run(command, capture_output=True, text=True)
    # The programs are installed where the units are used, not here.
    programs = r"eenn-\w+\.service: Command /opt/eenn/bin/eenn-\w+ is not executable: .*"
    ours = [line for line in run.stderr.splitlines() if "eenn" in line]
    assert [line for line in ours if not re.fullmatch(programs, line)] == []


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.name)
def test_a_container_installs_a_wheel_and_asks_for_its_health(file: Path) -> None:
    text = joined(file)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"whl\)\[(\w+)\]", text):
        assert extra in extras["optional-dependencies"]
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)
    python, flag, program = json.loads(check)
    assert (python, flag) == ("python", "-c")
    compile(program, file.name, "exec")
    assert f"{HEALTH[file.stem]}'" in program
    assert re.search(r"^USER [1-9]\d*:", text, re.MULTILINE)
