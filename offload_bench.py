"""Measure early exits against a cloud: `python offload_bench.py`, or `... cloud.url=https://host:8000`.

Reads conf/offload_bench.yaml, writes outputs/offload/NAME/TIMESTAMP/.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from eenn.subject import open_subject
from train import CONF, claimed_job


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="offload_bench")
def main(config: DictConfig) -> None:
    with claimed_job(config) as (settings, directory):
        offload(settings, directory)


def offload(settings: dict[str, Any], directory: Path) -> None:
    subject = open_subject(settings["artifact"], settings["images"])
