"""Train an early-exit network: `python train.py`, or a sweep: `... -m branches=2,3,4,5`.

Reads conf/train.yaml, writes outputs/train/NAME/TIMESTAMP/.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eenn.cli import one_line_errors
from eenn.provenance import provenance
from eenn.runs import CONFIG, claim, comparison, is_first_process, run_directory

CONF = Path(__file__).parent / "conf"

OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)


class CompareRuns(Callback):
    """Prints one table over all jobs when a sweep ends, whichever launcher ran them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        jobs, unfinished = comparison(Path(config.hydra.sweep.dir))
        print(f"\n{config.hydra.sweep.dir}:\n\n{jobs}")
        if unfinished:
            raise SystemExit(f"error: jobs without a result: {', '.join(unfinished)}")


@contextmanager
def claimed_job(config: DictConfig) -> Iterator[tuple[dict[str, Any], Path]]:
    """Settings and directory of this Hydra job, claimed; a user's mistake ends it with one line.

    To the settings come the overrides and the name of the sweep, which groups its runs.
    """
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode is RunMode.MULTIRUN
    overrides = list(hydra_config.overrides.task)
    with one_line_errors(f"{hydra_config.job.num} {overrides}" if sweeping else None):
        directory = Path(hydra_config.runtime.output_dir)
        settings: Any = OmegaConf.to_container(config, resolve=True)
        settings |= {
            "overrides": overrides,
            "group": directory.parent.name if sweeping else None,
        }
        claim(directory, OmegaConf.to_yaml(settings), settings.get("resume"), overrides)
        yield settings, directory


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> None:
    with claimed_job(config) as (settings, directory):
        resumed = config.resume is not None
        train(
            OmegaConf.load(directory / CONFIG) if resumed else OmegaConf.create(settings), directory
        )


def train(config: Any, directory: Path) -> None:
    # Imported here because torch and Lightning take seconds, and a wrong key should not wait.
    from pytorch_lightning import seed_everything

    from eenn.data.augmentation import Augmentation
    from eenn.data.datamodule import ImageDataModule
    from eenn.experiment import run_training
    from eenn.models.early_exit import Architecture
    from eenn.preprocess import Preprocessing
    from eenn.tracking import finish
    from eenn.training.hardware import prepare
    from eenn.training.losses import exit_weights
    from eenn.training.module import EarlyExitModule

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
    place = Architecture.place
    architecture = place(classes, given["branches"], model.head, model.width_mult, data.input_size)
    weights = exit_weights(given["loss_weights"], len(architecture.positions) + 1)
    network = architecture.build(model.weights)
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
