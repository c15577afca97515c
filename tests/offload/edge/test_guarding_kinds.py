"""A guard with other rules than one confidence, with expert heads, and in a cascade."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment, Upstream
from eenn.artifact.manifest import read_manifest
from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.base import ExitProbs, Policy
from eenn.exits.policies.registry import make_policy
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.edge import audits
from eenn.offload.edge.clouds import LocalCloud
from eenn.offload.export.write import export
from eenn.offload.protocol.wire import Cut
from tests.artifact.expert_artifact import save_with_random_experts
from tests.offload.edge.edge_command import decided, outputs_of
from tests.offload.edge.guarded import (
    ALWAYS,
    WITHOUT_AUDITS,
    Edge,
    Fake,
    deployment_of,
    guarded,
)
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S, wait_until

Floats = NDArray[np.float32]
POLICIES = [
    make_policy("confidence", {"p_tar": 0.3, "strict": 10, "fallback_to": "most_confident"}),
    make_policy("patience", {"agree": 2}),
    make_policy("window", {"p_tar": 0.6, "strict": 2, "low": 0.5}),
    make_policy("committee", {"p_tar": 0.4, "weights": (0.3, 0.5, 0.9)}),
]
ACTIVE = (0, 1, 2)
BURST = 6


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "FREE_LINK_S", PATIENCE_S)


@pytest.fixture(scope="module")
def here(exported: Exported) -> LocalCloud:
    return LocalCloud(exported.path)


def audited(edge: Edge, files: Sequence[Path]) -> list[dict[str, Any]]:
    """Answers one by one, so that there is room for the audit of each."""
    answers = []
    for file in files:
        answers += edge.answers([file])
        wait_until(
            lambda: edge.totals["audits"] + edge.totals["dropped_audits"] == edge.totals["kept"]
        )
    assert edge.totals["dropped_audits"] == 0
    return answers


def without_guard(edge: Edge, files: Sequence[Path]) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge.runtime, "watcher", None)
        return edge.answers(files)


def disagreements(answers: Sequence[dict[str, Any]], cloud: Sequence[int]) -> int:
    pairs = zip(answers, cloud, strict=True)
    return sum(a["place"] == "edge" and a["label"] != label for a, label in pairs)


def offloaded(policy: Policy, outputs: NDArray[np.float64], image: int) -> tuple[int, int]:
    """The answer to an image that no branch may answer, and the exit, from 1, that it is of."""
    seen = [ExitProbs(exit, own[image : image + 1]) for exit, own in enumerate(outputs)]
    answer = policy.answer(seen) if policy.accept(seen, True)[0] else policy.fallback(seen)
    return int(answer.label[0]), int(answer.exit[0]) + 1


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_rule_is_audited_and_fitted_anew(
    policy: Policy, exported: Exported, here: LocalCloud, tmp_path: Path
) -> None:
    made, outputs = decided(exported, ACTIVE, True, policy), outputs_of(exported)
    share = float(made.on_edge.mean())
    deployment = deployment_of(exported, ALWAYS, policy=policy, share=share)
    asked = Fake(lambda features: here.infer(features, exported.cut(3), None))
    with guarded(exported, deployment, tmp_path / "watching", here, asked) as edge:
        answers = audited(edge, exported.files)
        assert answers == without_guard(edge, exported.files)
        assert edge.totals["disagreements"] == disagreements(answers, outputs[-1].argmax(-1))
        assert (edge.totals["bursts"], edge.said) == (0, [])
    # Images of the burst: some would be lost, so that the threshold is not the boldest.
    differ = outputs[2].argmax(-1) != outputs[3].argmax(-1)
    first = [*np.flatnonzero(differ)[:2], *np.flatnonzero(~differ)[: BURST - 2]]
    later = [image for image in range(len(differ)) if image not in first]
    deployment = deployment_of(exported, WITHOUT_AUDITS, policy=policy)
    with guarded(exported, deployment, tmp_path / "burst", here) as edge:
        assert edge.status["burst_size"] == BURST
        burst = edge.answers([exported.files[image] for image in first])
        threshold = edge.status["threshold"]
        after = edge.answers([exported.files[image] for image in later])
    assert [answer["exit"] for answer in burst] == [4] * BURST
    own = [offloaded(policy, outputs, image) for image in first]
    assert [(answer["label"], answer["answered_by"]) for answer in burst] == own
    settings = {**json.loads(policy.to_json()), edge.status["knob"]: threshold}
    del settings["name"]
    now = decided(exported, ACTIVE, True, make_policy(policy.name, settings))
    assert [answer["exit"] - 1 for answer in after] == now.taken[later].tolist()
    assert [answer["label"] for answer in after] == now.label[later].tolist()
    assert {answer["place"] for answer in after} == {"edge", "cloud"}


@pytest.mark.slow
def test_experts_are_audited_with_their_own_heads(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "experts"
    save_with_random_experts(path, exported.path, torch.from_numpy(exported.images))
    export(path, np.split(exported.images[:32], 4), exported.images)
    cloud, asked = LocalCloud(path), list[str]()

    class Noted(Fake):
        def infer(
            self, features: Floats, cut: Cut, deadline: float | None, heads: str = "plain"
        ) -> Floats:
            asked.append(heads)
            return cloud.infer(features, cut, deadline, heads)

    auto = HeadChoice.named("auto")
    made = deployment_of(exported, ALWAYS, share=0.8, experts=auto)
    deployment = replace(made, artifact_id=read_manifest(path).id)
    noted = Noted(lambda given: given)
    with guarded(exported, deployment, tmp_path / "state", cloud, noted, path) as edge:
        answers = audited(edge, exported.files)
        assert answers == without_guard(edge, exported.files)
    heads = [answer["heads"] for answer in answers if answer["place"] == "edge"]
    assert asked == heads
    assert len(set(heads)) > 1


def test_the_network_that_photographs_are_passed_on_to_is_asked(
    exported: Exported, upstream: tuple[Path, EarlyExitNet], tmp_path: Path
) -> None:
    other = Upstream(read_manifest(upstream[0]).id, 0.7)
    cascade: dict[str, Any] = {"active": (0, 2, 3), "payload": "photograph", "upstream": other}
    deployment: Deployment = deployment_of(exported, ALWAYS, share=0.8, **cascade)
    there = LocalCloud(upstream[0])
    asked = Fake(lambda files: there.infer_files(files, None))
    with guarded(exported, deployment, tmp_path / "state", there, asked) as edge:
        answers = audited(edge, exported.files)
        assert answers == without_guard(edge, exported.files)
        with torch.inference_mode():
            cloud = upstream[1](torch.from_numpy(exported.images))[-1].argmax(-1).tolist()
        assert edge.totals["disagreements"] == disagreements(answers, cloud)
        assert {answer["exit"] for answer in answers} >= {1, 5}
