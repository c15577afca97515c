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
from eenn.exits.head_sets import PLAIN_HEADS, HeadChoice
from eenn.exits.settings import ActiveBranches, Swept, swept
from eenn.planning.costs import Link
from eenn.provenance import processor, provenance
from eenn.records.evaluated_artifact import EvaluatedArtifact, open_artifact
from eenn.workflows.evaluate import Evaluation, run_evaluation
from eenn.workflows.evaluate_experts import run_expert_evaluation
from eenn.workflows.hydra_job import CONF, claimed_job
from eenn.workflows.run import Run


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(config: DictConfig) -> None:
    with claimed_job(config) as (settings, directory):
        evaluate(settings, directory)


def evaluate(settings: dict[str, Any], directory: Path) -> None:
    artifacts = [open_artifact(p, settings["images"]) for p in as_list(settings["artifacts"])]
    fit = settings["fit"]
    policies = policies_of(settings)
    evaluation = Evaluation(
        split=settings["split"],
        policies=policies,
        p_tars=thresholds_of(settings),
        active=active_of(settings),
        distortion=Distortion(settings["distortion"]["kind"], 0).kind,
        levels=as_list(settings["distortion"]["level"]),
        temperature=settings["temperature"],
        experts=PLAIN_HEADS
        if settings["distortions"] is not None
        else HeadChoice.named(settings["experts"]),
        link=Link(**settings["link"]),
        service=Service(settings["deadline_ms"], settings["batch_size"]),
        goal=Goal(**fit) if fit["goal"] else None,
    )
    run = run_of(settings, directory, artifacts)
    if settings["distortions"] is None:
        run_evaluation(run, artifacts, evaluation)
        return
    if any(override.startswith("distortion.") for override in settings["overrides"]):
        raise EennError("distortion.kind and level: give distortions.KIND=[LEVEL,LEVEL] instead")
    experts = [HeadChoice.named(name) for name in as_list(settings["experts"])]
    run_expert_evaluation(run, artifacts, evaluation, settings["distortions"], experts)


def policies_of(settings: dict[str, Any]) -> list[Swept]:
    """The chosen policy and those it is compared with."""
    chosen = dict(settings["policy"])
    policies = {chosen.pop("name"): chosen}
    for name in as_list(settings["compare"]):
        if name in policies:
            raise EennError(f"compare={name}: it is evaluated already; leave it out")
        policies[name] = policy_settings(name)
    grids = {"p_tar": thresholds_of(settings)}
    return [swept(name, own, grids) for name, own in policies.items()]


def thresholds_of(settings: dict[str, Any]) -> list[Any]:
    return [tuple(t) if isinstance(t, list) else t for t in as_list(settings["p_tar"])]


def active_of(settings: dict[str, Any]) -> ActiveBranches:
    active = settings["active"]
    if isinstance(active, int):
        return ActiveBranches(first=active)
    if isinstance(active, list):
        return ActiveBranches(
            active_sets=[[*range(1, a + 1)] if isinstance(a, int) else a for a in active]
        )
    return ActiveBranches()


def run_of(settings: dict[str, Any], directory: Path, artifacts: list[EvaluatedArtifact]) -> Run:
    """Where the job's results go, and their origin."""
    titles = dict.fromkeys(artifact.title for artifact in artifacts)
    seeds = dict.fromkeys(str(artifact.split.seed) for artifact in artifacts)
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
