"""Measure early exits against a cloud: `python offload_bench.py`, or `... cloud.url=https://HOST`.

Reads conf/offload_bench.yaml, writes outputs/offload/NAME/TIMESTAMP/.
"""

from functools import partial

import hydra
from omegaconf import DictConfig

from eenn.workflows.hydra_job import CONF, policy_settings, run_job, run_script
from eenn.workflows.jobs import found_artifacts, offload_job
from eenn.workflows.settings import OffloadSettings


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="offload_bench")
def main(config: DictConfig) -> None:
    work = partial(offload_job, policy_settings=policy_settings)
    run_job(config, OffloadSettings, work, completed=found_artifacts)


if __name__ == "__main__":
    run_script(main)
