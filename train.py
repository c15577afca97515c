"""Train an early-exit network: `python train.py`, or a sweep: `... -m branches=2,3,4,5`.

Reads conf/train.yaml, writes outputs/train/NAME/TIMESTAMP/.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.provenance import provenance
from eenn.run_directory import CONFIG, find_artifact, is_first_process
from eenn.workflows.hydra_job import CONF, claimed_job


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> None:
    with claimed_job(config, of_artifact) as (settings, directory):
        resumed = config.resume is not None
        given: Any = OmegaConf.load(directory / CONFIG) if resumed else OmegaConf.create(settings)
        (train_experts if given.artifact is not None else train)(given, directory)


def of_artifact(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that trains experts: data are those of the artifact's own run.

    Raises:
        EennError: settings that experts have no use for, or no such run.
    """
    if settings["artifact"] is None or settings["resume"] is not None:
        return settings
    if "expert_training" not in settings:
        raise EennError("artifact=... is for experiment=distortion_experts; give that, too")
    own = ("artifact", "expert_training", "name", "seed", "trainer", "logger", "hydra")
    others = [
        override
        for override in settings["overrides"]
        if override.lstrip("+~").split("=")[0].split(".")[0] not in (*own, "experiment")
        or "max_epochs" in override
    ]
    if others or (settings["trainer"]["strategy"], settings["trainer"]["devices"]) != ("auto", 1):
        raise EennError(
            f"experts take data and network from their artifact and train on one device; leave out "
            f"{' '.join(others) or 'trainer'}, allowed are {', '.join(own)}"
        )
    path = find_artifact(settings["artifact"])
    trained = path.parent / CONFIG
    if not trained.exists():
        raise EennError(
            f"{path} lies outside its training run, so where its images are is not known; give the "
            "artifact in the directory that train.py wrote, with its config.yaml"
        )
    data: Any = OmegaConf.to_container(OmegaConf.load(trained).data)
    kept = {name: settings[name] for name in (*own[:-1], "overrides", "group")}
    return {**kept, "artifact": str(path), "data": data}


def train_experts(config: Any, directory: Path) -> None:
    from pytorch_lightning import seed_everything

    from eenn.artifact import store
    from eenn.data.augmentation import Augmentation
    from eenn.hardware import prepare
    from eenn.workflows import train_experts

    machine = prepare(config.trainer.accelerator)
    print(f"{machine.settings}\nwriting to {directory}")
    given: Any = OmegaConf.to_container(config)
    recipe = train_experts.Recipe(**given["expert_training"])
    base, data = store.load(config.artifact), config.data
    seed_everything(config.seed, workers=True, verbose=False)

    def open_logger(folder: Path, fit: str) -> Any:
        name, group = f"{config.name}-{fit}", config.group or config.name
        return hydra.utils.instantiate(config.logger, folder, name=name, group=group)

    train_experts.train_experts(
        directory,
        base,
        hydra.utils.instantiate(data.source),
        Augmentation(**data.augmentation),
        data.batch_size,
        data.num_workers,
        recipe,
        config.seed,
        open_logger,
        trainer={"precision": machine.precision, **given["trainer"]},
        provenance={
            **provenance(config.seed, data.title, machine.hardware),
            "overrides": given["overrides"],
        },
    )


def train(config: Any, directory: Path) -> None:
    # Imported here because torch and Lightning take seconds, and a wrong key should not wait.
    from pytorch_lightning import seed_everything

    from eenn.data.augmentation import Augmentation
    from eenn.data.datamodule import ImageDataModule
    from eenn.hardware import prepare
    from eenn.models.building import build, place
    from eenn.preprocess import Preprocessing
    from eenn.training.losses import exit_weights
    from eenn.training.module import EarlyExitModule
    from eenn.workflows.tracking import finish
    from eenn.workflows.train import run_training

    machine = prepare(config.trainer.accelerator)
    if is_first_process():
        print(f"{machine.settings}\nwriting to {directory}")
    data, model = config.data, config.model
    source = hydra.utils.instantiate(data.source)
    datamodule = ImageDataModule(
        source,
        Preprocessing(data.input_size, data.resize_size),
        Augmentation(**data.augmentation),
        config.seed,
        data.batch_size,
        data.num_workers,
    )
    seed_everything(config.seed, workers=True, verbose=False)
    classes = len(source.classes)
    given: Any = OmegaConf.to_container(config)
    architecture = place(classes, given["branches"], model.head, model.width_mult, data.input_size)
    weights = exit_weights(given["loss_weights"], len(architecture.positions) + 1)
    network = build(architecture, model.weights)
    module = EarlyExitModule(network, classes, weights, seed=config.seed, **config.optimiser)
    logger = hydra.utils.instantiate(config.logger, directory, name=config.name, group=config.group)
    logger.log_hyperparams(given)
    origin = provenance(config.seed, data.title, machine.hardware)
    try:
        run_training(
            directory,
            datamodule,
            architecture,
            module,
            logger,
            trainer={"precision": machine.precision, **config.trainer},
            patience=config.patience,
            provenance={**origin, "overrides": list(config.overrides)},
        )
    finally:
        finish()


if __name__ == "__main__":
    with one_line_errors():
        main()
