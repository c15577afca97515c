"""Sweeps and runs of strangers that are gone on with: their files are data and lead to no code."""

import json
import os
import pickle
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.programs import EVALUATE
from eenn.run_directory import SWEEP, Sweep
from eenn.workflows.console import evaluate, train
from eenn.workflows.resume_sweep import MAX_CHARACTERS, MAX_PARTS, completing, typed_again
from tests.workflows.composing import composed

SETTINGS = ("artifact=nowhere", "p_tar=0.5,0.7", "logger=csv")


class Trap:
    """A pickle that leaves a folder where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a stranger, with files of settings and a pickle that make `made` if followed."""
    monkeypatch.chdir(tmp_path)
    handler = {"()": "os.mkdir", "path": str(tmp_path / "made")}
    logging = {"version": 1, "root": {"handlers": ["x"]}, "handlers": {"x": handler}}
    bait = {"hydra": {"job_logging": logging, "hydra_logging": logging}}
    (tmp_path / "bait.yaml").write_text("# @package _global_\n" + yaml.safe_dump(bait))
    (tmp_path / "logging.yaml").write_text(yaml.safe_dump(logging))
    for group in ("experiment", "hydra/job_logging"):
        (tmp_path / group).mkdir(parents=True)
    (tmp_path / "experiment" / "bait.yaml").write_text((tmp_path / "bait.yaml").read_text())
    (tmp_path / "hydra" / "job_logging" / "bait.yaml").write_text(
        "# @package hydra.job_logging\n" + yaml.safe_dump(logging)
    )
    primary = {"defaults": ["/evaluate", "_self_"], **bait}
    (tmp_path / "primary.yaml").write_text("# @package _global_\n" + yaml.safe_dump(primary))
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(Trap(tmp_path / "made")))
    return tmp_path


def write(place: Path, **content: Any) -> Path:
    """Write a stranger's sweep into a folder of `place`; returns the folder."""
    directory = place / "swept"
    directory.mkdir(exist_ok=True)
    whole = {"config_name": "evaluate", "overrides": SETTINGS, "varied": ["p_tar"], **content}
    (directory / SWEEP).write_text(json.dumps(whole))
    return directory


def called(script: Callable[[], None], *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments])
        script()


def error_of(capfd: pytest.CaptureFixture[str], script: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit, match="1"):
        called(script, *arguments)
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


MAKES = r"{\(\):os.mkdir,path:MADE}"
FOLLOWED: Mapping[str, Mapping[str, Any]] = {
    "a factory of a log handler": {"launching": [f"+hydra.job_logging.handlers.x={MAKES}"]},
    "Hydra's own log": {"launching": [f"+hydra.hydra_logging.handlers.x={MAKES}"]},
    "a class of a log handler": {
        "launching": ["+hydra.job_logging.handlers.x={class:logging.FileHandler,filename:MADE}"]
    },
    "added twice": {"launching": [f"++hydra.job_logging.handlers.x={MAKES}"]},
    "among the others": {"overrides": [f"+hydra.hydra_logging.handlers.x={MAKES}", *SETTINGS]},
    "the whole node": {
        "overrides": [f"+hydra={{job_logging:{{handlers:{{x:{MAKES}}}}}}}", *SETTINGS]
    },
    "a group by path": {"launching": ["hydra/job_logging=UP/hydra/job_logging/bait"]},
    "an experiment by path": {"overrides": ["experiment=UP/bait", *SETTINGS]},
    "experiments by path": {"overrides": ["experiment=[blur_committee,'UP/bait']", *SETTINGS]},
    "a package": {"overrides": ["+link@hydra.job_logging=UP/logging", *SETTINGS]},
    "further folders": {
        "launching": ["hydra.searchpath=['file://PLACE']", "hydra/job_logging=bait"]
    },
    "an option": {"launching": ["--config-dir=PLACE"], "overrides": ["experiment=bait", *SETTINGS]},
    "a pickle": {"launching": ["--experimental-rerun=PLACE/config.pickle"]},
    "a configuration by path": {"config_name": "UP/primary"},
}


@pytest.mark.parametrize("content", FOLLOWED.values(), ids=FOLLOWED)
def test_nothing_in_a_sweep_of_a_stranger_is_followed(
    content: Mapping[str, Any], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(content).replace("MADE", str(place / "made"))
    text = text.replace("UP", "/".join([".."] * 30) + str(place)).replace("PLACE", str(place))
    swept = write(place, **json.loads(text))
    before = sorted(place.rglob("*"))
    line = error_of(capfd, evaluate, f"resume={swept}")
    assert str(swept / SWEEP) in line
    assert sorted(place.rglob("*")) == before


def refused(place: Path, setting: str, among: str = "launching") -> str:
    """Give the error for a sweep with this setting."""
    content = {among: [setting, *(SETTINGS if among == "overrides" else ())]}
    return asked(write(place, **content))


def asked(swept: Path, *typed: str) -> str:
    """Give the error for completing a sweep with settings that the user typed."""
    with pytest.raises(EennError) as caught:
        completing([f"resume={swept}", *typed], EVALUATE)
    return str(caught.value)


# Names of Hydra's own node, and what may follow them.
NODES = st.sampled_from(
    ("job_logging", "hydra_logging", "launcher", "sweeper", "searchpath", "callbacks", "env", "job",
     "job.env_set.X", "job.chdir", "launcher.setup", "launcher.pre_dispatch", "launcher._target_",
     "sweeper.params.p_tar", "run.dir", "sweep.dir", "output_subdir", "verbose", "mode")
)  # fmt: skip
KEYS = st.one_of(
    st.tuples(st.sampled_from("./"), NODES).map(lambda pair: "hydra" + "".join(pair)),
    st.just("hydra"),
    st.tuples(st.sampled_from(("model", "link", "name", "hydra/env", "")), NODES).map(
        lambda pair: f"{pair[0]}@hydra.{pair[1]}"
    ),
    NODES.map(lambda node: f"hydra/{node}@{node}"),
    NODES.map(lambda node: f" hydra.{node}"),
    NODES.map(lambda node: f"'hydra'.{node}"),
    NODES.map(lambda node: f"[hydra].{node}"),
    NODES.map(lambda node: f"hydra .{node}"),
    NODES.map(lambda node: f"hydra.{node} "),
)
VALUES = st.sampled_from(
    ("", "=", "=1", "=submitit", "=[a,b]", "={a:{b:1}}", r"={\(\):os.mkdir}", "='a b'", "= true",
     "=joblib,basic", "=range(1,3)", "=${now:x}", "=../../x")
)  # fmt: skip
PREFIXES = st.sampled_from(("", "+", "++", "~", "-", "--"))


@given(PREFIXES, KEYS, VALUES, st.sampled_from(("launching", "overrides")))
@example("", "hydra/launcher", "=submitit_local", "launching")
@example("", "hydra/launcher", "=../joblib", "launching")
@example("", "hydra/launcher", "=joblib,basic", "overrides")
@example("+", "hydra/launcher", "=joblib", "launching")
@example("~", "hydra/launcher", "", "launching")
@example("", "hydra/launcher@hydra.sweeper", "=joblib", "launching")
@example("", "hydra.launcher.n_jobs", "=0", "launching")
@example("", "hydra.launcher.n_jobs", "=100000", "launching")
@example("", "hydra.launcher.n_jobs", "='2'", "launching")
@example("", "hydra.launcher.n_jobs", "=true", "launching")
@example("", "hydra.launcher.n_jobs", "=${oc.env:N}", "launching")
def test_no_file_reaches_hydras_own_settings(
    tmp_path_factory: pytest.TempPathFactory, prefix: str, key: str, value: str, among: str
) -> None:
    place = tmp_path_factory.getbasetemp() / "reached"
    place.mkdir(exist_ok=True)
    line = refused(place, f"{prefix}{key}{value}", among)
    assert "add them to the command line" in line or "does not describe a sweep" in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "setting",
    [
        "+trainer.x={_target_:os.mkdir,path:made}",
        "+trainer.x=[1,{a:{'_target_':os.mkdir}}]",
        "+trainer.x={_target_:a},{_target_:b}",
        "data.source._target_=os.mkdir",
        "name=${oc.env:HOME}",
        "name=x-${run_directory:a,b}",
        r"name=$\{oc.env:HOME\}",
        "name='${ oc.env:HOME}'",
        "name=${oc.env:HOME},b",
        "+x={${now:x}:1}",
        "+x={a:[${now:x}]}",
        "model=../../model/custom",
        "model=/model",
        "experiment=[a,../b]",
        "experiment=a,'/b'",
        "policy={a:../b}",
        "link=C:evil",
        "$name=1",
        "@name=1",
        "=1",
    ],
)
def test_other_settings_of_a_file_are_no_more_than_values(setting: str, place: Path) -> None:
    for among in ("launching", "overrides"):
        line = refused(place, setting, among)
        assert "add them to the command line" in line or "does not describe a sweep" in line


def test_a_sweep_with_plain_settings_needs_no_others(place: Path) -> None:
    launching = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=-1"]
    settings = [
        'artifact="/some where/x"',
        "artifact='../x',../y",
        "+trainer.enable_progress_bar=false",
        "++trainer.max_epochs=1",
        "~logger",
        "model=resnet18,custom",
        "model.build=own.net:blocks",
        "experiment=[edge_analysis,mine/own]",
        "experiment=null",
        "recipe.levels={gaussian_blur:[1,2],none:0}",
        "p_tar=range(0.5,0.9,0.1)",
        "active_sets=[[1],[1,3]]",
        "name=run-${seed}",
        "policy=glob(*)",
        "data.root=",
    ]
    swept = write(place, launching=launching, overrides=settings)
    assert completing([f"resume={swept}"], EVALUATE) == [
        "-m", "--config-name=evaluate", *launching, f'hydra.sweep.dir="{swept}"', *settings,
    ]  # fmt: skip
    assert typed_again(swept / SWEEP, Sweep.read(swept)) == []


def test_the_user_may_type_again_what_a_file_may_not_say(place: Path) -> None:
    told = ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[module load x]"]
    swept = write(place, launching=told)
    assert shlex.join(told) in asked(swept)
    assert shlex.quote(told[1]) in asked(swept, told[0])
    for beside in ("hydra.launcher.setup=[other]", "hydra.verbose=true"):
        assert f"leave out {beside}" in asked(swept, *told, beside)
    done = completing([f"resume={swept}", *reversed(told)], EVALUATE)
    assert done[2:] == [*told, f'hydra.sweep.dir="{swept}"', *SETTINGS]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"overrides": ["--multirun"]}, "does not describe a sweep"),
        ({"overrides": ["p_tar=[1"]}, "does not describe a sweep"),
        ({"overrides": ["p_tar=" + 400 * "[" + 400 * "]"]}, "brackets"),
        ({"overrides": ["p_tar"]}, "does not describe a sweep"),
        ({"overrides": ["name=" + "x" * MAX_CHARACTERS]}, "characters"),
        ({"overrides": ["p_tar=[" + "1," * MAX_PARTS + "1]"]}, "parts"),
        ({"overrides": ["seed=range(1000000000000)"]}, "jobs"),
        ({"overrides": ["p_tar=range(0,inf)"]}, "jobs"),
        ({"overrides": ["p_tar=range(0,nan)"]}, "jobs"),
        ({"overrides": ["p_tar=range(0,1,0)"]}, "jobs"),
        ({"overrides": [f"{key}=range(1{400 * '0'})" for key in ("seed", "n")]}, "jobs"),
        ({"overrides": [f"{key}=range(100)" for key in ("seed", "n", "m")]}, "jobs"),
        ({"config_name": "../conf/evaluate"}, "config_name"),
        ({"config_name": "hydra/config"}, "config_name"),
        ({"config_name": "none"}, "config_name"),
        ({"launching": [["p_tar=1"]]}, "does not describe a sweep"),
    ],
)
def test_a_file_costs_little_and_is_refused_in_a_line(
    content: Mapping[str, Any], said: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    swept = write(place, **content)
    line = error_of(capfd, evaluate, f"resume={swept}")
    assert said in line
    assert str(swept / SWEEP) in line


@pytest.mark.parametrize("text", ["[" * 100_000, '"' + "x" * 2**24 + '"', "\xff"])
def test_what_is_not_a_small_json_file_is_not_a_sweep(text: str, place: Path) -> None:
    swept = write(place)
    (swept / SWEEP).write_text(text, encoding="latin-1")
    with pytest.raises(EennError, match="does not describe a sweep"):
        completing([f"resume={swept}"], EVALUATE)


def run_of(place: Path, changed: Mapping[str, Any]) -> Path:
    """Write the directory of an interrupted training whose settings a stranger has changed."""
    logging = {"handlers": {"x": {"()": "os.mkdir", "path": "made"}}, "root": {"handlers": ["x"]}}
    told = {"hydra": {"job_logging": logging}, "overrides": [f"hydra.job_logging={logging}"]}
    settings = {**composed("train", "logger=csv"), **told, "group": None, "varied": {}}
    for key, value in changed.items():
        settings[key] = {**settings[key], **value} if isinstance(settings.get(key), dict) else value
    run = place / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return run


MAKE = {"_target_": "os.mkdir", "path": "made"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("logger", MAKE),
        ("data", {"source": MAKE}),
        ("trainer", {"profiler": MAKE}),
        ("trainer", {"callbacks": [MAKE]}),
        ("optimiser", MAKE),
        ("name", MAKE),
        ("patience", "${run_directory:a,b}"),
    ],
)
def test_nothing_in_the_configuration_of_a_strangers_run_is_followed(
    key: str, value: Any, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capfd, train, f"resume={run_of(place, {key: value})}")
    assert key in line
    assert not (place / "made").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("group", ["a"]),
        ("group", 3),
        ("overrides", "branches=3"),
        ("overrides", [1]),
        ("overrides", None),
        ("varied", ["branches"]),
        ("varied", {"branches": 3}),
    ],
)
def test_what_a_strangers_run_says_of_its_command_has_its_types(
    key: str, value: Any, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_of(place, {})
    settings = {**composed("train", "logger=csv"), "group": None, "overrides": [], "varied": {}}
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, key: value}))
    line = error_of(capfd, train, f"resume={run}")
    assert key in line
    assert "start a new run" in line
