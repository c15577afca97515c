"""The configuration: every file composes, and every value reaches a constructor that takes it."""

import inspect
from dataclasses import fields
from typing import Any, get_args

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from eenn.data.augmentation import Augmentation
from eenn.data.distortions import Distortion
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.offload.protocol.codecs import Precision
from eenn.planning.costs import Link
from eenn.training.module import EarlyExitModule
from eenn.workflows.hydra_job import CONF
from eenn.workflows.offload import UPLOADS
from eenn.workflows.train_experts import Recipe

CHOICES = [
    f"{group.name}={file.stem}"
    for group in sorted(CONF.iterdir())
    if group.is_dir()
    for file in sorted(group.glob("*.yaml"))
]
OF_EVALUATION = ("policy=", "link=", "experiment=edge_analysis", "experiment=blur_committee")
OFFLOADINGS = [choice for choice in CHOICES if choice.startswith("experiment=offload_")]
EVALUATIONS = [choice for choice in CHOICES if choice.startswith(OF_EVALUATION)]


def composed(*overrides: str, script: str = "train") -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(script, list(overrides))


@pytest.mark.parametrize("choice", EVALUATIONS)
def test_every_evaluation_file_composes_to_what_the_constructors_take(choice: str) -> None:
    config: Any = OmegaConf.to_container(composed(choice, script="evaluate"), resolve=True)
    name, own = config["policy"].pop("name"), config["policy"]
    make_policy(name, {"p_tar": 0.8, "weights": (1.0,), **own})
    assert set(own) <= {field.name for field in fields(POLICIES[name])}
    Link(**config["link"])
    Distortion(config["distortion"]["kind"], 1.0)
    assert set(config["compare"]) <= set(POLICIES)


@pytest.mark.parametrize("choice", ["policy=confidence", *OFFLOADINGS])
def test_every_offloading_file_composes_to_what_the_plan_takes(choice: str) -> None:
    config: Any = OmegaConf.to_container(composed(choice, script="offload_bench"), resolve=True)
    Link(**config["link"])
    assert config["payload"] in get_args(Precision)
    assert config["upload"] in UPLOADS
    assert config["upload"] == "crop" or not config["distortion"]["level"]
    assert set(config["compare"]) <= set(POLICIES)


@pytest.mark.parametrize("choice", [c for c in CHOICES if c not in EVALUATIONS + OFFLOADINGS])
def test_every_file_composes_to_what_the_constructors_take(choice: str) -> None:
    config = composed(choice, "data.root=somewhere" if choice == "data=folder" else "seed=0")
    Augmentation(**config.data.augmentation)
    taken = inspect.signature(EarlyExitModule).parameters
    assert set(config.optimiser) <= set(taken)
    assert set(config.model) == {"head", "width_mult", "weights"}
    assert not OmegaConf.missing_keys(config)


def test_an_experiment_is_a_short_delta_that_has_the_last_word() -> None:
    small, large = composed("experiment=caltech101_160"), composed("experiment=caltech101")
    assert (small.data.input_size, large.data.input_size) == (160, 224)
    assert small.data.root == large.data.root
    assert composed("experiment=caltech101", "data.input_size=96").data.input_size == 96


def test_the_experts_file_composes_to_what_both_scripts_take() -> None:
    choice = "experiment=distortion_experts"
    recipe = Recipe(**OmegaConf.to_container(composed(choice).expert_training))
    config: Any = OmegaConf.to_container(composed(choice, script="evaluate"))
    for kind, levels in config["distortions"].items():
        assert all(Distortion(kind, level).level == level for level in levels)
    assert set(recipe.levels) <= set(config["distortions"])
