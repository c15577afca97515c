"""Train an early-exit network: `python train.py`, or a sweep: `... -m branches=2,3,4,5`.

Reads conf/train.yaml, writes outputs/train/NAME/TIMESTAMP/. Experts for an artifact are trained by
`python train.py --config-name train_experts artifact=DIR`, which reads conf/train_experts.yaml.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eenn.cli import one_line_errors
from eenn.data.sources import SOURCES
from eenn.workflows.hydra_job import CONF, claimed_job
from eenn.workflows.interrupted import interruptible
from eenn.workflows.settings import TrainExpertsSettings, TrainSettings
from eenn.workflows.tracking import LOGGERS
from eenn.workflows.trained_images import TrainedImages, of_artifact


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> None:
    if HydraConfig.get().job.config_name == "train_experts":
        train_experts(config)
    else:
        train(config)


def train(config: DictConfig) -> None:
    with claimed_job(config, TrainSettings) as job, interruptible(job.directory):
        # Imported here because torch and Lightning take seconds, and a wrong key should not wait.
        from eenn.workflows.train import train

        train(
            job,
            SOURCES.opener("data.source", job.settings.data.source),
            LOGGERS.opener("logger", job.settings.logger),
        )


def train_experts(config: DictConfig) -> None:
    with (
        claimed_job(config, TrainExpertsSettings, completed=of_artifact) as job,
        interruptible(job.directory),
    ):
        from eenn.workflows.train_experts import train_experts

        images = TrainedImages.of(job.directory)
        train_experts(
            job,
            images,
            SOURCES.opener("data.source", images.data.source),
            LOGGERS.opener("logger", job.settings.logger),
        )


if __name__ == "__main__":
    with one_line_errors():
        main()
