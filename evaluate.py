"""Evaluate artifacts: `python evaluate.py`, or a sweep: `... -m p_tar=0.7,0.8 first=1,2,3`.

Reads conf/evaluate.yaml, writes outputs/evaluate/NAME/TIMESTAMP/.
"""

from functools import partial

import hydra
from omegaconf import DictConfig

from eenn.workflows.hydra_job import CONF, policy_settings, run_job, run_script
from eenn.workflows.jobs import evaluate_job
from eenn.workflows.settings import EvaluateSettings


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    work = partial(evaluate_job, policy_settings=policy_settings)
    run_job(config, EvaluateSettings, work)


if __name__ == "__main__":
    run_script(main)
