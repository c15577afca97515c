"""The configuration: every file composes to what its script takes, and mistakes are one line."""

import copy
import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from eenn.cli import one_line_errors
from eenn.exits.policies.registry import POLICIES
from eenn.exits.settings import ActiveBranches
from eenn.training.module import EarlyExitModule
from eenn.workflows.check import checked
from eenn.workflows.hydra_job import CONF, policy_settings
from eenn.workflows.jobs import active_of, evaluation_of, offloading_of, p_tars_of
from eenn.workflows.settings import OptimiserSettings
from tests.exits.any_policy import any_policy
from tests.workflows.composing import MEASURING, SETTINGS, composed

GROUPS = {
    "train": ("data", "model", "recipe", "trainer", "logger"),
    "train_experts": ("trainer", "logger"),
    "evaluate": ("policy", "link", "logger"),
    "offload_bench": ("policy", "link", "logger"),
}
EXPERIMENTS = {
    "train": ("caltech101", "caltech101_128", "caltech101_160", "caltech101_96", "caltech256"),
    "evaluate": ("blur_committee", "distortion_experts", "edge_analysis"),
    "offload_bench": ("drift", "offload_blur", "offload_experts", "offload_times"),
}


def files(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


CHOICES = [
    (script, f"{group}={name}")
    for script, groups in GROUPS.items()
    for group in groups
    for name in files(group)
    if (script, name) != ("train_experts", "ddp")
] + [
    (script, f"experiment={name}")
    for script, experiments in EXPERIMENTS.items()
    for name in experiments
]


def edited(script: str, key: str, value: Any) -> dict[str, Any]:
    """The composition without overrides, and one value in it, which is much quicker."""
    *above, last = key.split(".")
    whole = node = copy.deepcopy(composed(script))
    for name in above:
        node = node[name]
    node[last] = value
    return whole


def settings(script: str, *overrides: str) -> Any:
    return checked(SETTINGS[script], composed(script, *overrides))


def error_of(capsys: pytest.CaptureFixture[str], script: str, *overrides: str) -> str:
    """The line that a command line ends with."""
    return line_of(capsys, script, lambda: composed(script, *overrides))


def line_of(
    capsys: pytest.CaptureFixture[str], script: str, made: Callable[[], dict[str, Any]]
) -> str:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        checked(SETTINGS[script], made())
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def flat(tree: dict[str, Any], at: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{at}.{name}" if at else name
        values |= flat(value, key) if isinstance(value, dict) else {key: value}
    return values


def test_every_file_belongs_to_a_script() -> None:
    primary = {file.stem for file in CONF.glob("*.yaml")} - {"job"}
    assert primary == set(SETTINGS)
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    assert groups == {group for own in GROUPS.values() for group in own} | {"experiment"}
    assert sorted(name for own in EXPERIMENTS.values() for name in own) == files("experiment")


@pytest.mark.parametrize(("script", "choice"), CHOICES)
def test_every_file_composes_to_what_its_script_takes(script: str, choice: str) -> None:
    missing = {"data=folder": ("data.root=somewhere",), "model=custom": ("model.build=a.b:c",)}
    taken = settings(script, choice, *missing.get(choice, ()))
    if script not in MEASURING:
        return
    name, own = taken.policy["name"], {k: v for k, v in taken.policy.items() if k != "name"}
    any_policy(name, {"p_tar": 0.8, "weights": (1.0,), **own})
    assert set(own) <= {field.name for field in fields(POLICIES[name])}
    job = evaluation_of if script == "evaluate" else offloading_of
    assert {policy.name for policy in job(taken, policy_settings).policies} <= set(POLICIES)


@pytest.mark.parametrize("script", SETTINGS)
def test_keys_are_those_of_the_settings(script: str) -> None:
    assert set(composed(script)) == {field.name for field in fields(SETTINGS[script])}


def test_the_optimiser_takes_its_settings() -> None:
    taken = inspect.signature(EarlyExitModule).parameters
    assert {field.name for field in fields(OptimiserSettings)} < set(taken)


# As composed at a75e43b, when a data file brought network and recipe; data=demo, data=folder,
# data=caltech256, experiment=caltech101, experiment=caltech101_160.
BEFORE = """
name                   demo         folder     caltech256     caltech101     caltech101-160
branches               5            5          5              5              5
seed                   0            0          0              0              0
resume                 null         null       null           null           null
loss_weights           linspace     linspace   linspace       linspace       linspace
patience               5            5          5              5              5
model.head             conv         conv       linear         conv           conv
model.width_mult       0.35         1.0        1.0            1.0            1.0
model.weights          null         imagenet   imagenet       WEIGHTS        WEIGHTS
trainer.accelerator    auto         auto       auto           auto           auto
trainer.devices        1            1          1              1              1
trainer.strategy       auto         auto       auto           auto           auto
trainer.num_nodes      1            1          1              1              1
trainer.max_epochs     11           10         100            8              3
logger.project         eenn         eenn       eenn           eenn           eenn
data.title             demo-images  PATH       Caltech-256    Caltech-101    Caltech-101
data.root              -            PATH       ~/.cache/eenn  IMAGES         IMAGES
data.on_error          -            raise      skip           raise          raise
data.source.root       -            PATH       ~/.cache/eenn  IMAGES         IMAGES
data.source.on_error   -            raise      skip           raise          raise
data.source.images_per_class  250   -          -              -              -
data.source.size       64           -          -              -              -
data.source.seed       0            -          -              -              -
data.input_size        64           null       300            224            160
data.resize_size       64           null       330            256            184
data.batch_size        32           32         64             32             32
data.num_workers       0            null       null           null           null
augmentation.crop_area 1            0.6        0.8            0.3            0.6
augmentation.flip      true         true       true           true           true
augmentation.rotation  0            10         25             10             10
augmentation.colour    0            0.2        0.2            0.3            0.2
augmentation.greyscale 0            0.1        0.25           0.1            0.1
augmentation.blur_sigma 0           0          0              0              0
optimiser.lr_backbone  0.006        0.0003     0.00015        0.0002         0.0003
optimiser.lr_heads     0.006        0.003      0.00015        0.003          0.003
optimiser.weight_decay 0.01         0.01       0.0005         0.05           0.01
optimiser.schedule     onecycle     onecycle   cosine         onecycle       onecycle
"""
LONG = {
    "demo-images": "demo images",
    "WEIGHTS": "../shared/weights/mobilenet_v2_imagenet.pth",
    "IMAGES": "../shared/data/caltech101",
}
LICENCES = {"demo": "none needed, the images are drawn by the program"}
SOURCES = ("demo", "folder", "caltech256", "folder", "folder")


@pytest.mark.parametrize(
    ("column", "overrides"),
    [
        (0, ()),
        (1, ("data=folder", "data.root=PATH")),
        (2, ("experiment=caltech256",)),
        (3, ("experiment=caltech101",)),
        (4, ("experiment=caltech101_160",)),
    ],
)
def test_trainings_are_composed_as_before_there_were_recipes(
    column: int, overrides: tuple[str, ...]
) -> None:
    rows = [line.split() for line in BEFORE.strip().splitlines()]
    texts = {key: LONG.get(values[column], values[column]) for key, *values in rows}
    expected = {key: yaml.safe_load(text) for key, text in texts.items() if text != "-"}
    expected |= {
        "data.source.name": SOURCES[column],
        "logger.name": "wandb",
        "model.source": "torchvision",
        "model.name": "mobilenet_v2",
        "model.build": None,
        "regularisation.batch_norm_momentum": 0.1 if column == 0 else None,
        "regularisation.drop_path": None,
        "data.licence": LICENCES.get(SOURCES[column]),
        "model.licence": "none needed, training begins at random" if column == 0 else None,
    }
    assert flat(composed("train", *overrides)) == expected


def test_an_experiment_is_a_short_delta_that_has_the_last_word() -> None:
    small, large = (settings("train", f"experiment=caltech101{size}") for size in ("_160", ""))
    assert (small.data.input_size, large.data.input_size) == (160, 224)
    assert small.data.root == large.data.root
    given = settings("train", "experiment=caltech101", "data.input_size=96")
    assert given.data.input_size == 96


def test_the_command_line_chooses_network_and_recipe_on_any_data() -> None:
    demo, large, tuned = (
        settings("train", *given) for given in ((), ("model=mobilenet_v2",), ("recipe=fine_tune",))
    )
    assert (demo.model.width_mult, large.model.width_mult, tuned.model.width_mult) == (
        0.35,
        1,
        0.35,
    )
    assert large.optimiser == demo.optimiser
    assert tuned.optimiser.lr_backbone == 3e-4
    assert tuned.trainer["max_epochs"] == 10
    given = ("data=folder", "data.root=PATH", "model.weights=FILE", "branches=3")
    own = settings("train", "model=mobilenet_v2_narrow", "recipe=from_scratch", *given)
    assert (own.model.width_mult, own.model.weights, own.branches) == (0.35, "FILE", 3)
    assert own.optimiser == demo.optimiser
    assert own.data.root == own.data.source["root"] == "PATH"


@pytest.mark.parametrize("name", ["caltech101", "caltech256", "cifar10", "cifar100"])
def test_published_data_are_looked_for_below_the_root_that_is_given(name: str) -> None:
    data = settings("train", f"data={name}", "data.root=PATH").data
    assert (data.source["name"], data.source["root"]) == (name, "PATH")


@pytest.mark.parametrize("group", ["data", "recipe"])
def test_neither_data_nor_a_recipe_sets_anything_of_the_network(group: str) -> None:
    for name in files(group):
        content = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
        assert "model" not in content
        assert group == "recipe" or set(content) <= {"defaults", "name", "data"}


def test_experts_are_trained_for_kinds_that_their_evaluation_has() -> None:
    trained = settings("train_experts").recipe
    evaluated = settings("evaluate", "experiment=distortion_experts")
    assert set(trained.levels) <= set(evaluated.distortions)
    more = settings("train_experts", "+recipe.levels.jpeg=[60,5]", "~recipe.levels.gaussian_noise")
    assert [kind.kind for kind in more.recipe.kinds] == ["gaussian_blur", "jpeg"]


@pytest.mark.parametrize("script", MEASURING)
def test_lists_mean_the_same_in_every_script(script: str) -> None:
    def given(key: str, value: Any) -> Any:
        return checked(SETTINGS[script], edited(script, key, value))

    assert active_of(settings(script)) == ActiveBranches()
    assert active_of(given("active", [1, 3])) == ActiveBranches(active=(1, 3))
    sets = active_of(given("active_sets", [[1], [1, 3]]))
    assert sets == ActiveBranches(active_sets=((1,), (1, 3)))
    assert active_of(given("first", 3)) == ActiveBranches(first=3)
    assert p_tars_of(given("p_tar", 0.8)) == (0.8,)
    assert p_tars_of(given("p_tar", [0.8, 1])) == (0.8, 1)
    assert p_tars_of(given("thresholds", [0.9, 0.8, 0.7])) == [(0.9, 0.8, 0.7)]


def test_an_evaluation_takes_one_artifact_or_several() -> None:
    assert settings("evaluate").artifact == "latest"
    assert settings("evaluate", "artifact=[A,B]").artifact == ("A", "B")


WRONG = [
    ("train", "branches", "abc", "branches=abc: allowed is a whole number or a list of whole"),
    ("train", "branches", [1, "x"], r'branches=\[1, "x"\]: allowed is a whole number or a list'),
    ("train", "seed", 1.5, "seed=1.5: allowed is a whole number"),
    ("train", "patience", True, "patience=true: allowed is a whole number"),
    ("train", "model.width_mult", "0.5", "model.width_mult=0.5: allowed is a number"),
    ("train", "augmentation.flip", 1, "augmentation.flip=1: allowed is true or false"),
    ("train", "augmentation.rotation", True, "augmentation.rotation=true: allowed is a number"),
    ("train", "optimiser.lr_heads", "abc", "optimiser.lr_heads=abc: allowed is a number"),
    ("train", "optimiser.schedule", None, "optimiser.schedule=null: allowed is a text"),
    ("train", "optimiser", "fast", "optimiser=fast: allowed is settings by name"),
    ("train", "loss_weights", 0.5, "loss_weights=0.5: allowed is a text or a list of numbers"),
    ("train", "data.batch_size", "abc", "data.batch_size=abc: allowed is a whole number"),
    ("train", "data.source.images_per_class", "x", "images_per_class=x: allowed is a whole"),
    ("train", "data.source.name", "nowhere", "data.source.name=nowhere: allowed is data.source"),
    ("train", "logger.name", "os.mkdir", "logger.name=os.mkdir: allowed is logger.name=csv, wandb"),
    ("train", "data.root", "x", "data.root=x: demo images have none"),
    ("train", "trainer.max_epochs", "many", "trainer.max_epochs=many: allowed is a whole number"),
    ("train", "model.build", "os.system", "model.build=os.system: allowed is MODULE:FUNCTION, as"),
    ("train", "model.build", ["a:b"], r'model.build=\["a:b"\]: allowed is a text or null'),
    ("train_experts", "build", "a", "build=a: allowed is MODULE:FUNCTION"),
    ("evaluate", "build", ["a.b:c", "d"], "build=d: allowed is MODULE:FUNCTION"),
    ("offload_bench", "build", "a:", "build=a:: allowed is MODULE:FUNCTION"),
    ("train", "name", 2021, "name=2021: allowed is a text, .* 'name=\"2021\"'"),
    ("train_experts", "recipe.lr", "fast", "recipe.lr=fast: allowed is a number"),
    ("train_experts", "recipe.epochs", 1.5, "recipe.epochs=1.5: allowed is a whole number"),
    ("train_experts", "recipe.levels.jpeg", 3, "levels.jpeg=3: allowed is a list of 2 numbers"),
    ("train_experts", "artifact", ["A", "B"], "artifact=.*: allowed is a text"),
    ("train_experts", "trainer.devices", 2, "experts train on one device"),
    ("evaluate", "p_tar", "high", "p_tar=high: allowed is a number or a list of numbers"),
    ("evaluate", "thresholds", 0.8, "thresholds=0.8: allowed is a list of numbers or null"),
    ("evaluate", "active", "some", "active=some: allowed is a list of whole numbers or null"),
    ("evaluate", "first", [1, 3], r"first=\[1, 3\]: allowed is a whole number or null"),
    ("evaluate", "active_sets", [1, 3], "active_sets=.*: allowed is a list of lists of whole"),
    ("evaluate", "batch_size", 1.5, "batch_size=1.5: allowed is a whole number"),
    ("evaluate", "link.rtt_ms", "fast", "link.rtt_ms=fast: allowed is a number"),
    ("evaluate", "distortion.level", "far", "distortion.level=far: allowed is a number or a list"),
    ("evaluate", "distortion.kind", "fog", "fog.*gaussian_blur"),
    ("evaluate", "distortion", None, "distortion and distortions: allowed is one of them"),
    ("evaluate", "distortions", {"jpeg": [50]}, "distortion and distortions: allowed is one of"),
    ("evaluate", "experts", ["auto", "soft"], "experts=.*: allowed is one of them"),
    ("evaluate", "fit.goal", "macs", "fit.limit=null: allowed is a number"),
    ("evaluate", "fit.active", "all", "fit.active=all: allowed are search or null"),
    ("evaluate", "fit.active", [1, 3], r"fit.active=\[1, 3\]: allowed is a text or null"),
    ("evaluate", "fit.active", "search", "fit.active=search without fit.goal: give a goal"),
    ("evaluate", "policy.name", 3, "policy.name"),
    ("offload_bench", "limit", "few", "limit=few: allowed is a whole number or null"),
    ("offload_bench", "compress", 1, "compress=1: allowed is true or false"),
    ("offload_bench", "edge.slowdown", "slow", "edge.slowdown=slow: allowed is a number"),
    ("offload_bench", "plan.min_accuracy", "all", "plan.min_accuracy=all: allowed is a number or"),
    ("offload_bench", "stream", 4, "stream=4: allowed is a list of settings by name or null"),
    ("offload_bench", "stream", [], "stream and guard: allowed are both or none of them"),
    ("offload_bench", "stream", [{"images": "a"}], "stream.0.images=a: allowed is a whole number"),
    ("offload_bench", "stream", [{"level": 2}], "stream.0.images is missing; allowed is a whole"),
    ("offload_bench", "stream", [{"images": 0}], "stream: images=0: allowed is 1 or more"),
    ("offload_bench", "stream", [{"images": 9, "level": 2}], "stream: level=2 without a kind"),
    ("offload_bench", "stream", [{"images": 9, "kind": "fog"}], "fog.*gaussian_blur"),
    ("offload_bench", "guard", {"risk": 5}, "guard: risk=5.0: allowed is 0.001 to 0.5"),
    ("offload_bench", "guard", {"risk": 0.03}, "stream and guard: allowed are both or none"),
]


@pytest.mark.parametrize(("script", "key", "value", "said"), WRONG)
def test_a_wrong_type_is_one_line_with_the_key_the_value_and_what_is_allowed(
    script: str, key: str, value: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(capsys, script, lambda: edited(script, key, value))
    assert re.search(said, line), line


UNKNOWN = [
    ("train", "brnches", "brnches is not a setting here; allowed are .*branches"),
    ("train", "model.heads", "model.heads .* allowed are source, name, head"),
    ("train", "data.folder", "data.folder .* allowed are .*source"),
    ("train", "data.source.foo", "data.source.foo .* allowed are images_per_class, size, seed"),
    ("train", "logger.foo", "logger.foo .* allowed are project"),
    ("train", "trainer.max_epohs", "trainer.max_epohs .* allowed are .*max_epochs"),
    ("train", "trainer.callbacks", "trainer.callbacks is not a setting here"),
    ("train_experts", "trainer.max_epochs", "trainer.max_epochs is not a setting here"),
    ("train_experts", "recipe.rate", "recipe.rate .* allowed are .*lr"),
    ("evaluate", "link.loss", "link.loss .* allowed are bandwidth_mbps, rtt_ms"),
    ("evaluate", "distortion.sigma", "distortion.sigma .* allowed are kind, level"),
    ("offload_bench", "cloud.token", "cloud.token .* allowed are .*token_file"),
]


@pytest.mark.parametrize(("script", "key", "said"), UNKNOWN)
def test_a_key_that_nothing_reads_is_one_line(
    script: str, key: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(capsys, script, lambda: edited(script, key, 1))
    assert re.search(said, line), line


@pytest.mark.parametrize(
    ("script", "override", "said"),
    [
        ("train", "brnches=3", "brnches is not a setting here; allowed are .*branches"),
        ("train", "+brnches=3", "brnches is not a setting here; allowed are .*branches"),
        ("train", "~patience", "patience is missing; allowed is a whole number"),
        ("train", "data=imagenet", "data=imagenet: allowed are caltech101, .*cifar10, .*folder"),
        ("train", "data=folder", "data.root is missing; give data.root=VALUE"),
        ("train", "model=custom", "model.build is missing; give model.build=VALUE"),
        ("train", "build=a:b", "build is not a setting here; a training reads model.build;"),
        ("train", "experiment=offload_times", "limit is not a setting here; allowed are .*seed"),
        ("evaluate", "experiment=offload_blur", "is not a setting here; allowed are .*p_tar"),
        ("evaluate", "experiment=caltech101", "data"),
        ("offload_bench", "experiment=distortion_experts", "distortions is not a setting here"),
        (
            "offload_bench",
            "stream=[{images: 4, sigma: 2}]",
            "stream.0.sigma .* images, kind, level",
        ),
        ("offload_bench", "guard={share: 2}", "guard.share .* allowed are risk, delta, audit"),
        ("train_experts", "branches=3", "branches is not a setting here"),
        ("train_experts", "data.batch_size=8", "data is not a setting here"),
        ("train_experts", "trainer=ddp", "experts train on one device"),
    ],
)
def test_the_command_line_and_files_are_held_to_the_same(
    script: str, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, script, override)
    assert re.search(said, line), line


@pytest.mark.parametrize(
    "given",
    ["conventional=A", "compare=[committee]", "distortion.level=2", "cloud.url=U", "upstream=A"],
)
def test_a_stream_takes_nothing_that_it_does_not_use(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, "offload_bench", "experiment=drift", given)
    assert f"stream with {given.split('=')[0]}" in line


@pytest.mark.parametrize(
    "given", ["active=[1,3]", "active=[]", "active_sets=[[1],[1,3]]", "first=0", "artifacts=[A,B]"]
)
def test_a_search_for_branches_takes_no_branches(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = ("fit.goal=macs", "fit.limit=1e8", "fit.active=search")
    line = error_of(capsys, "evaluate", *goal, given)
    assert f"fit.active=search with {given.split('=')[0]}" in line


OLD = [
    ("train", ("model=mobilenetv2",), "mobilenet_v2"),
    ("train", ("data.augmentation.flip=false",), "augmentation.NAME=VALUE"),
    ("train", ("+data.augmentation.flip=false",), "augmentation.NAME=VALUE"),
    ("train", ("artifact=DIR",), "--config-name train_experts artifact=DIR"),
    ("train", ("experiment=distortion_experts",), "--config-name train_experts artifact=DIR"),
    (
        "train",
        ("experiment=distortion_experts", "artifact=DIR"),
        "--config-name train_experts artifact=DIR",
    ),
    ("train_experts", ("expert_training.epochs=1",), "it is recipe"),
    ("evaluate", ("active=3",), "first=3"),
    ("evaluate", ("active=3",), "active=[3]"),
    ("evaluate", ("active=[[1,2]]",), "active_sets="),
    ("offload_bench", ("active=[2,[1,3]]",), "active_sets="),
    ("evaluate", ("p_tar=[[0.9,0.8,0.7]]",), "thresholds=[0.9,0.8,0.7]"),
    ("offload_bench", ("p_tar=[[0.9,0.8,0.7]]",), "thresholds=[0.9,0.8,0.7]"),
    (
        "evaluate",
        ("experiment=distortion_experts", "distortion.level=1"),
        "distortions.KIND=[LEVEL,LEVEL]",
    ),
]


@pytest.mark.parametrize(("script", "overrides", "said"), OLD)
def test_an_old_spelling_is_told_the_new_one(
    script: str, overrides: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in error_of(capsys, script, *overrides)


@pytest.mark.parametrize(
    "chosen", [("active=[1]", "first=2"), ("active_sets=[[1]]", "first=2", "active=[1]")]
)
def test_at_most_one_choice_of_branches_is_taken(
    chosen: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for script in MEASURING:
        line = error_of(capsys, script, *chosen)
        assert all(given.split("=")[0] in line for given in chosen)
        assert "allowed is one of them" in line


@pytest.mark.parametrize(
    "root",
    [
        "/my photos/x=y",
        "/a,b",
        "/photos (2)",
        "/my dog's",
        '/the "best"',
        "/a[1]",
        "/a#b",
        "/été",
        "/a b=c,d's {e}",
    ],
)
def test_a_path_with_signs_of_hydras_own_is_told_how_to_be_quoted(
    root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, "train", "data=folder", f"data.root={root}")
    told = line.split("one for Hydra: ")[1].rsplit("; lists", 1)[0]
    (as_the_shell_gives_it,) = shlex.split(told)
    assert settings("train", "data=folder", as_the_shell_gives_it).data.root == root


@pytest.mark.parametrize("rest", ["photos", "photos/x=y"])
def test_a_path_that_the_shell_split_is_told_how_to_be_quoted(
    rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, "train", "data=folder", "data.root=/my", rest)
    assert "'data.root=\"/my photos\"'" in line


def test_settings_survive_their_record() -> None:
    """Check a resumed run against the content of its config.yaml."""
    for script in SETTINGS:
        given = composed(script)
        again = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.create(given)))
        assert json.dumps(again) == json.dumps(given)


def test_settings_are_checked_before_torch_and_wandb_are_imported() -> None:
    """A mistake on the command line is one line within a second, not after several."""
    code = (
        "import sys; import eenn.workflows.settings, eenn.workflows.measured_settings; "
        "print(*{'torch', 'torchvision', 'pytorch_lightning', 'wandb'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
