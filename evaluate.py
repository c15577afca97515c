"""Evaluate artifacts: `python evaluate.py`, or a sweep: `... -m p_tar=0.7,0.8 active=1,2,3`.

Reads conf/evaluate.yaml, writes outputs/evaluate/NAME/TIMESTAMP/.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from eenn.cli import one_line_errors
from eenn.data.distortions import Distortion
from eenn.errors import EennError
from eenn.evaluation.fitting import Goal
from eenn.evaluation.grid import Service
from eenn.planning.costs import Link
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.workflows.evaluate import Plan, run_evaluation
from eenn.workflows.evaluate_experts import run_expert_evaluation
from eenn.workflows.hydra_job import CONF, claimed_job
from eenn.workflows.run import Run


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    with claimed_job(config) as (settings, directory):
        evaluate(settings, directory)


def evaluate(settings: dict[str, Any], directory: Path) -> None:
    subjects = [open_artifact(path, settings["images"]) for path in as_list(settings["artifacts"])]
    fit = settings["fit"]
    plan = Plan(
        split=settings["split"],
        policies=policies_of(settings),
        p_tars=as_list(settings["p_tar"]),
        active=settings["active"],
        distortion=Distortion(settings["distortion"]["kind"], 0).kind,
        levels=as_list(settings["distortion"]["level"]),
        temperature=settings["temperature"],
        experts=settings["experts"],
        link=Link(**settings["link"]),
        service=Service(settings["deadline_ms"], settings["batch_size"]),
        goal=Goal(**fit) if fit["goal"] else None,
    )
    run = run_of(settings, directory, subjects)
    if settings["distortions"] is None:
        run_evaluation(run, subjects, plan)
        return
    if any(override.startswith("distortion.") for override in settings["overrides"]):
        raise EennError("distortion.kind and level: give distortions.KIND=[LEVEL,LEVEL] instead")
    run_expert_evaluation(run, subjects, plan, settings["distortions"], settings["experts"])


def policies_of(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The chosen policy and those it is compared with: their settings by name."""
    chosen = dict(settings["policy"])
    policies = {chosen.pop("name"): chosen}
    for name in as_list(settings["compare"]):
        if name in policies:
            raise EennError(f"compare={name}: it is evaluated already; leave it out")
        policies[name] = policy_settings(name)
    return policies


def run_of(settings: dict[str, Any], directory: Path, subjects: list[EvaluatedArtifact]) -> Run:
    """Where the job's results go, and their origin."""
    titles = dict.fromkeys(subject.title for subject in subjects)
    seeds = dict.fromkeys(str(subject.split.seed) for subject in subjects)
    origin = provenance(", ".join(seeds), ", ".join(titles), f"{processor()}, 1 thread")
    return Run(
        directory,
        settings["name"],
        settings["group"],
        settings["logger"].get("project"),
        settings,
        {**origin, "overrides": settings["overrides"]},
    )


def policy_settings(name: str) -> dict[str, Any]:
    """What conf/policy/NAME.yaml says."""
    file = CONF / "policy" / f"{name}.yaml"
    if not file.exists():
        allowed = ", ".join(sorted(other.stem for other in file.parent.glob("*.yaml")))
        raise EennError(f"compare={name}: allowed are {allowed}")
    settings: Any = OmegaConf.to_container(OmegaConf.load(file))
    del settings["name"]
    return dict(settings)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    with one_line_errors():
        main()
