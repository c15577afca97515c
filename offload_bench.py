"""Measure early exits against a cloud: `python offload_bench.py`, or `... cloud.url=https://HOST`.

Reads conf/offload_bench.yaml, writes outputs/offload/NAME/TIMESTAMP/.
"""

import hydra
from omegaconf import DictConfig

from eenn.cli import one_line_errors
from eenn.workflows.hydra_job import CONF, claimed_job, policy_settings
from eenn.workflows.interrupted import interruptible
from eenn.workflows.jobs import found_artifacts, offload_job
from eenn.workflows.settings import OffloadSettings


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="offload_bench")
def main(config: DictConfig) -> None:
    with (
        claimed_job(config, OffloadSettings, completed=found_artifacts) as job,
        interruptible(job.directory),
    ):
        offload_job(job, policy_settings)


if __name__ == "__main__":
    with one_line_errors():
        main()
