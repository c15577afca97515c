"""Train an early-exit network: `python train.py`, or a sweep: `... -m branches=2,3,4,5`.

`resume=DIR` goes on with the run, or completes the sweep, in a directory.

Reads conf/train.yaml, writes outputs/train/NAME/TIMESTAMP/. Experts for an artifact are trained by
`python train.py --config-name train_experts artifact=DIR`, which reads conf/train_experts.yaml.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eenn.data.sources import SOURCES
from eenn.workflows.hydra_job import CONF, run_job, run_script
from eenn.workflows.run import Job
from eenn.workflows.settings import TrainExpertsSettings, TrainSettings
from eenn.workflows.tracking import LOGGERS
from eenn.workflows.trained_images import TrainedImages, of_artifact


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> None:
    if HydraConfig.get().job.config_name == "train_experts":
        run_job(config, TrainExpertsSettings, train_experts, completed=of_artifact)
    else:
        run_job(config, TrainSettings, train)


def train(job: Job[TrainSettings]) -> None:
    # Imported here because torch and Lightning take seconds, and a wrong key should not wait.
    from eenn.workflows.train import train

    train(
        job,
        SOURCES.opener("data.source", job.settings.data.source),
        LOGGERS.opener("logger", job.settings.logger),
    )


def train_experts(job: Job[TrainExpertsSettings]) -> None:
    from eenn.workflows.train_experts import train_experts

    images = TrainedImages.of(job.directory)
    train_experts(
        job,
        images,
        SOURCES.opener("data.source", images.data.source),
        LOGGERS.opener("logger", job.settings.logger),
    )


if __name__ == "__main__":
    run_script(main)
