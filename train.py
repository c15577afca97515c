"""Train an early-exit network: `python train.py`, or a sweep: `... -m branches=2,3,4,5`.

Reads conf/train.yaml, writes outputs/train/NAME/TIMESTAMP/.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eenn.cli import one_line_errors
from eenn.runs import CONFIG, claim, comparison, provenance, run_directory

CONF = Path(__file__).parent / "conf"

OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)


class CompareRuns(Callback):
    """Prints one table over all runs when a sweep ends, whichever launcher ran them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        print(f"\n{comparison(Path(config.hydra.sweep.dir))}")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> None:
    job = HydraConfig.get()
    sweeping = job.mode is RunMode.MULTIRUN
    # In a sweep Hydra itself reports a failed job, after the others have run.
    with nullcontext() if sweeping else one_line_errors():
        directory = Path(job.runtime.output_dir)
        overrides = list(job.overrides.task)
        claim(directory, OmegaConf.to_yaml(config, resolve=True), config.resume, overrides)
        train(OmegaConf.load(directory / CONFIG), directory, overrides, sweeping)


def train(config: Any, directory: Path, overrides: list[str], sweeping: bool) -> None:
    # Imported here because torch and Lightning take seconds, and a wrong key should not wait.
    from pytorch_lightning import seed_everything

    from eenn.data.augmentation import Augmentation
    from eenn.data.datamodule import ImageDataModule
    from eenn.experiment import run_training
    from eenn.models.early_exit import Architecture
    from eenn.preprocess import Preprocessing
    from eenn.training.hardware import prepare
    from eenn.training.losses import exit_weights
    from eenn.training.module import EarlyExitModule

    precision, settings = prepare(config.trainer.accelerator)
    print(f"{settings}\nwriting to {directory}")
    seed_everything(config.seed, workers=True, verbose=False)
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
    classes = len(source.classes)
    branches = config.branches if isinstance(config.branches, int) else list(config.branches)
    place = Architecture.place
    architecture = place(classes, branches, model.head, model.width_mult, data.input_size)
    weights = exit_weights(config.loss_weights, len(architecture.positions) + 1)
    module = EarlyExitModule(
        architecture.build(model.weights), classes, weights, seed=config.seed, **config.optimiser
    )
    group = directory.parent.name if sweeping else None
    logger = hydra.utils.instantiate(config.logger, directory, name=config.name, group=group)
    logger.log_hyperparams(OmegaConf.to_container(config))
    run_training(
        directory,
        datamodule,
        architecture,
        module,
        logger=logger,
        trainer={"precision": precision, **config.trainer},
        patience=config.patience,
        provenance={**provenance(config.seed, config.name), "overrides": overrides},
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
