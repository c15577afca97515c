"""The commands in README and docs: each is one that its program takes."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from eenn.offload.cloud import command as cloud
from eenn.offload.edge.arguments import parse_arguments
from eenn.offload.export import command as export
from eenn.workflows.check import checked
from eenn.workflows.hydra_job import policy_settings
from eenn.workflows.jobs import evaluation_of, offloading_of
from eenn.workflows.plan_arguments import parse_arguments as parse_plan_arguments
from tests.workflows.composing import SETTINGS, composed

ROOT = Path(__file__).parents[1]
# The additions that docs/extending.md makes are not there without it.
PAGES = sorted(
    str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md") if page.name != "extending.md"
)

SCRIPTS = {
    "eenn-train": "train",
    "eenn-evaluate": "evaluate",
    "eenn-bench": "offload_bench",
}
OURS = ("python", "make", "eenn-edge", "eenn-cloud", "eenn-export", "eenn-plan", *SCRIPTS)
# fmt: off
OTHERS = (
    "cd", "chmod", "cp", "curl", "docker", "export", "find", "git", "grep", "head", "kill", "ls",
    "mkdir", "mv", "openssl", "pip", "podman", "python3.11", "rsync", "scp", "source", "sudo",
    "systemctl", "systemd-analyze", "tail", "tar", "tc", "uv", "wandb",
)
# fmt: on
OTHER_MODULES = ("pip", "venv", "pytest")


def blocks(text: str) -> Iterator[list[str]]:
    """Yield the lines of every fenced block."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield block.replace("\\\n", " ").splitlines()


def commands(lines: list[str]) -> list[str]:
    """Give the commands of a block: those behind a prompt, or all lines if the first is one."""
    if behind_prompt := [line[2:] for line in lines if line.startswith("$ ")]:
        return behind_prompt
    written = [line for line in lines if line.strip() and not line.startswith("#")]
    begins = bool(written) and words_of(written[0])[0][0] in (*OURS, *OTHERS)
    return written if begins else []


def words_of(line: str) -> list[list[str]]:
    """Give the words of every program that a shell would start, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        # A line that is not a command, with an apostrophe.
        return [[""]]
    programs: list[list[str]] = [[]]
    for before, word in zip(["", *words], words, strict=False):
        if set(word) <= set(";|&"):
            programs.append([])
        elif not set(word) <= set("<>") and not (before and set(before) <= set("<>")):
            programs[-1].append(word)
    return [
        list(dropped)
        for words in programs
        if (dropped := words[next((i for i, w in enumerate(words) if not _is_variable(w)), 0) :])
    ] or [[""]]


def _is_variable(word: str) -> bool:
    return re.match(r"[A-Z_]+=", word) is not None


def mistake(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str | None:
    """Say what is wrong with a line of commands; None if nothing is."""
    for program, *given in words_of(re.sub(r"\s#\s.*", "", line)):
        try:
            check(program, given, monkeypatch)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and not error.code:
                continue  # of --help and --version
            said = capsys.readouterr().err.strip().splitlines()
            return f"{line}: {said[-1] if said else error}"
    return None


def check(program: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check one command as far as its program does before it reads a file."""
    if program == "python" and given[0] == "-m":
        check_module(given[1], given[2:])
    elif program == "python":
        assert (ROOT / given[0]).is_file(), f"there is no {given[0]}"
        check_script(given[0].removesuffix(".py"), given[1:])
    elif program in SCRIPTS:
        check_script(SCRIPTS[program], given)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in given:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    elif program == "eenn-edge":
        parse_arguments(given)
    elif program == "eenn-cloud":
        monkeypatch.setattr(cloud, "serve", lambda *_, **__: None)
        cloud.main(given)
    elif program == "eenn-plan":
        parse_plan_arguments(given)
    elif program == "eenn-export":
        monkeypatch.setattr(export, "_export", lambda _: None)
        export.main(given)
    else:
        assert program in OTHERS, f"{program} is not a program that the docs may name"


def check_script(script: str, given: list[str]) -> None:
    """Compose the first job of a command line, and check it against the script's settings."""
    if "--config-name" in given:
        at = given.index("--config-name")
        script, given = given[at + 1], given[:at] + given[at + 2 :]
    # A sweep is completed before anything is composed.
    ours = ("-m", "--multirun", "--cfg", "job", "--help", "resume=SWEEP_DIR")
    overrides = [word for word in given if word not in ours]
    if set(given) & {"-m", "--multirun"}:
        every = OverridesParser.create().parse_overrides(overrides)
        ((first, *_),) = BasicSweeper.split_arguments(every, None)
        overrides = list(first)
    settings = checked(SETTINGS[script], composed(script, *overrides))
    if script == "evaluate":
        evaluation_of(settings, policy_settings)
    elif script == "offload_bench":
        offloading_of(settings, policy_settings)


def check_module(name: str, given: list[str]) -> None:
    """Check that a module is there, and that the options which it is given stand in its source."""
    if name in OTHER_MODULES:
        return
    assert name.startswith(("eenn.", "benchmarks.")), name
    found = importlib.util.find_spec(name)
    assert found is not None, f"there is no module {name}"
    assert found.origin is not None
    source = Path(found.origin)
    if source.name == "__init__.py":
        source = source.with_name("__main__.py")
    for word in given:
        if word.startswith("--"):
            assert word.split("=")[0] in source.read_text(), f"{name} {word}"


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_every_command_is_one_that_its_program_takes(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (line for block in blocks((ROOT / page).read_text()) for line in commands(block))
    wrong = [said for line in lines if (said := mistake(line, monkeypatch, capsys))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "command",
    [
        "python train.py brnches=3",
        "python train.py -m branches=2,3 model=resnet",
        "python train.py --config-name train_experts data.root=x",
        "python evaluate.py fit.goal=accuracy_drop",
        "python evaluate.py && python evaluate.py policy=mood",
        "eenn-bench cloud.token=x",
        "python eval.py",
        "python -m benchmarks.nothing",
        "python -m benchmarks.planned --artifcat DIR",
        "make lunch",
        "eenn-edge --artifact DIR --cloud URL",
        "eenn-cloud --artifact DIR --prot 8000",
        "eenn-export",
        "nmap localhost",
    ],
)
def test_a_wrong_command_is_found(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = f"Text.\n\n```\n$ {command}   # why\noutput\n```\n"
    ((line,),) = map(commands, blocks(page))
    assert mistake(line, monkeypatch, capsys)


def test_commands_are_told_from_what_they_print() -> None:
    page = "```\n$ ls photos\na b\n```\n```\nmake demo\nmake test\n```\n```\nphoto -> it's\n```\n"
    assert [commands(block) for block in blocks(page)] == [
        ["ls photos"],
        ["make demo", "make test"],
        [],
    ]
