"""Composes command lines as Hydra does, for tests of conf/ and of the commands in the docs."""

from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from eenn.workflows.hydra_job import CONF
from eenn.workflows.measured_settings import EvaluateSettings, OffloadSettings
from eenn.workflows.settings import TrainExpertsSettings, TrainSettings

SETTINGS = {
    "train": TrainSettings,
    "train_experts": TrainExpertsSettings,
    "evaluate": EvaluateSettings,
    "offload_bench": OffloadSettings,
}
MEASURING = ("evaluate", "offload_bench")


@cache
def composed(script: str, *overrides: str) -> dict[str, Any]:
    """Compose a command line as Hydra does; the result is not to be changed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose(script, list(overrides)), resolve=True)
    return dict(config)
