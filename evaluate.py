"""Evaluate artifacts: `python evaluate.py`, or a sweep: `... -m p_tar=0.7,0.8 first=1,2,3`.

Reads conf/evaluate.yaml, writes outputs/evaluate/NAME/TIMESTAMP/.
"""

import hydra
from omegaconf import DictConfig

from eenn.cli import one_line_errors
from eenn.workflows.hydra_job import CONF, claimed_job, policy_settings
from eenn.workflows.interrupted import interruptible
from eenn.workflows.jobs import evaluate_job
from eenn.workflows.settings import EvaluateSettings


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    with claimed_job(config, EvaluateSettings) as job, interruptible(job.directory):
        evaluate_job(job, policy_settings)


if __name__ == "__main__":
    with one_line_errors():
        main()
