"""The tasks that Hydra starts: a training, an evaluation or a benchmark, each with its settings.

What needs torch is imported when the settings are known to be right, because it takes seconds.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eenn.data.sources import SOURCES
from eenn.files import Json
from eenn.programs import CONF
from eenn.workflows.hydra_job import policy_settings, run_job
from eenn.workflows.measured_settings import EvaluateSettings, OffloadSettings
from eenn.workflows.run import Job
from eenn.workflows.settings import TrainExpertsSettings, TrainSettings
from eenn.workflows.tracking import LOGGERS
from eenn.workflows.trained_images import TrainedImages, of_artifact


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train(config: DictConfig) -> None:
    """Train a network, or with the configuration `train_experts` experts for one."""
    if HydraConfig.get().job.config_name == "train_experts":
        run_job(config, TrainExpertsSettings, _train_experts, completed=of_artifact)
    else:
        run_job(config, TrainSettings, _train)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def evaluate(config: DictConfig) -> None:
    """Evaluate artifacts."""
    run_job(config, EvaluateSettings, _evaluate)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="offload_bench")
def offload_bench(config: DictConfig) -> None:
    """Measure early exits against a cloud."""
    run_job(config, OffloadSettings, _offload, completed=_found_artifacts)


def _train(job: Job[TrainSettings]) -> None:
    from eenn.workflows.train import train

    train(
        job,
        SOURCES.opener("data.source", job.settings.data.source),
        LOGGERS.opener("logger", job.settings.logger),
    )


def _train_experts(job: Job[TrainExpertsSettings]) -> None:
    from eenn.workflows.train_experts import train_experts

    images = TrainedImages.of(job.directory)
    train_experts(
        job,
        images,
        SOURCES.opener("data.source", images.data.source),
        LOGGERS.opener("logger", job.settings.logger),
    )


def _evaluate(job: Job[EvaluateSettings]) -> None:
    from eenn.workflows.jobs import evaluate_job

    evaluate_job(job, policy_settings=policy_settings)


def _offload(job: Job[OffloadSettings]) -> None:
    from eenn.workflows.jobs import offload_job

    offload_job(job, policy_settings=policy_settings)


def _found_artifacts(settings: OffloadSettings) -> dict[str, Json]:
    from eenn.workflows.jobs import found_artifacts

    return found_artifacts(settings)
