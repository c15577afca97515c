"""Measure early exits against a cloud: `python offload_bench.py`, or `... cloud.url=https://HOST`.

Reads conf/offload_bench.yaml, writes outputs/offload/NAME/TIMESTAMP/.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from eenn.cli import one_line_errors
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.exits.head_sets import HeadChoice
from eenn.offload.bench.benchmark import Offloading, Server
from eenn.offload.export.report import export_artifact
from eenn.offload.graphs.index import FOLDER
from eenn.planning.costs import Link
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.workflows.hydra_job import CONF, claimed_job
from eenn.workflows.offload import run_offloading
from evaluate import active_of, as_list, policies_of, run_of, thresholds_of


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="offload_bench")
def main(config: DictConfig) -> None:
    with claimed_job(config) as (settings, directory):
        offload(settings, directory)


def offload(settings: dict[str, Any], directory: Path) -> None:
    cloud, edge, plan = settings["cloud"], settings["edge"], settings["plan"]
    token = cloud["token_file"]
    server = Server(
        cloud["url"],
        Path(token).read_text().strip() if token else None,
        cloud["ca_file"],
        cloud["slowdown"],
    )
    planned = Offloading(
        split=settings["split"],
        limit=settings["limit"],
        policies=policies_of(settings),
        p_tars=thresholds_of(settings),
        active=active_of(settings),
        distortion=Distortion(settings["distortion"]["kind"], 0).kind,
        levels=as_list(settings["distortion"]["level"]),
        link=Link(**settings["link"]),
        payload=settings["payload"],
        compress=settings["compress"],
        upload=settings["upload"],
        experts=HeadChoice.named(settings["experts"]),
        precision=edge["precision"],
        slowdown=edge["slowdown"],
        deadline_ms=settings["deadline_ms"],
        min_accuracy=plan["min_accuracy"],
        plan_deadline_ms=plan["deadline_ms"],
    )
    artifact, conventional = exported(settings, "artifact"), None
    if settings["conventional"] is not None:
        conventional = exported(settings, "conventional")
        if conventional.branches:
            raise EennError(
                f"conventional={settings['conventional']} has {conventional.branches} branches; "
                "allowed is an artifact of `python train.py branches=0`"
            )
    run = run_of(settings, directory, [artifact])
    run_offloading(run, artifact, conventional, server, planned)


def exported(settings: dict[str, Any], key: str) -> EvaluatedArtifact:
    """An artifact of the settings, with its graphs exported if they were not yet."""
    artifact = open_artifact(settings[key], settings["images"])
    if not (artifact.manifest.path / FOLDER).exists():
        print(f"exporting {artifact.manifest.path} (once)")
        print(f"\n{export_artifact(artifact)}\n")
    return artifact


if __name__ == "__main__":
    with one_line_errors():
        main()
