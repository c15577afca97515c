"""Evaluate artifacts: `python evaluate.py`, or a sweep: `... -m p_tar=0.7,0.8 first=1,2,3`.

Reads conf/evaluate.yaml, writes outputs/evaluate/NAME/TIMESTAMP/.
"""

import hydra
from omegaconf import DictConfig

from eenn.cli import one_line_errors
from eenn.workflows.evaluate_job import evaluate_job
from eenn.workflows.hydra_job import CONF, claimed_job, policies_of
from eenn.workflows.settings import EvaluateSettings


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    with claimed_job(config, EvaluateSettings) as job:
        evaluate_job(job, policies_of(job.settings))


if __name__ == "__main__":
    with one_line_errors():
        main()
