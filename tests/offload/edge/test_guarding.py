"""A guard on the edge: what it changes of the answers, and what its audits may cost."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from eenn.exits.decide import Decisions
from eenn.exits.policies.base import Policy
from eenn.exits.policies.threshold import Confidence
from eenn.offload.adaptation.field_log import FieldLog
from eenn.offload.adaptation.refit import Candidates
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.cloud.command import running
from eenn.offload.edge.answers import as_json
from eenn.offload.edge.watching import EdgeWatcher
from tests.offload.edge.edge_command import decided, outputs_of
from tests.offload.edge.edge_service import runtime_of, serving
from tests.offload.edge.guarded import (
    ALL,
    OWN,
    WITHOUT_AUDITS,
    deployment_of,
    guarded,
    policy_at,
    without_times,
)
from tests.offload.exported import Exported
from tests.offload.patience import PATIENT


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    with running([exported.path]) as cloud:
        yield cloud.url


@pytest.fixture
def cloud(exported: Exported, url: str) -> Iterator[HttpCloud]:
    with HttpCloud(url, exported.graphs.id, **PATIENT) as cloud:
        yield cloud


@pytest.fixture
def share(exported: Exported) -> float:
    """Of the files that leave on the edge."""
    return float(decided(exported, ALL, cloud=True).on_edge.mean())


def test_a_field_log_alone_changes_no_answer(
    exported: Exported, cloud: HttpCloud, tmp_path: Path
) -> None:
    runtime = runtime_of(exported, cloud)
    before = [without_times(as_json(runtime.classify_file(file))) for file in exported.files]
    with FieldLog(tmp_path / "field.jsonl") as log:
        for kept in (None, log):
            runtime.watcher = EdgeWatcher(runtime.policy, None, kept, "", cloud)
            now = [without_times(as_json(runtime.classify_file(file))) for file in exported.files]
            assert now == before
    assert {answer["place"] for answer in before} == {"edge", "cloud"}


def test_without_an_alarm_the_exits_and_answers_are_those_without_a_guard(
    exported: Exported, cloud: HttpCloud, share: float, tmp_path: Path
) -> None:
    runtime = runtime_of(exported, cloud)
    before = [without_times(as_json(runtime.classify_file(file))) for file in exported.files]
    deployment = deployment_of(exported, WITHOUT_AUDITS, share=share)
    with guarded(exported, deployment, tmp_path / "guard.json", cloud) as edge:
        assert edge.answers(exported.files) == before
        assert (edge.status["state"], edge.said) == ("watching", [])
        left = sum(answer["place"] == "edge" for answer in before)
        assert (edge.totals["images"], edge.totals["kept"]) == (48, left)


def refitted(exported: Exported, own: Policy, images: slice, risk: float, delta: float) -> float:
    """The boldest threshold that passes, each candidate tested after all safer ones."""
    cloud = outputs_of(exported)[-1, images].argmax(-1)
    passed = []
    for threshold in Candidates(own, ALL).values:
        made = decided(exported, ALL, True, policy_at(own, threshold))
        lost = (made.on_edge & (made.label != outputs_of(exported)[-1].argmax(-1)))[images].sum()
        if binom.cdf(lost, len(cloud), risk) > delta:
            break
        passed.append(threshold)
    return float(passed[-1])


@pytest.mark.parametrize(
    "own",
    [
        OWN,
        Confidence(p_tar=0.65, fallback_to="most_confident"),
        Confidence(p_tar=0.65, strict=10.0),
    ],
    ids=["plain", "most_confident", "strict"],
)
def test_a_burst_is_answered_by_the_cloud_and_its_threshold_decides_from_then_on(
    own: Policy, exported: Exported, cloud: HttpCloud, tmp_path: Path
) -> None:
    deployment = deployment_of(exported, WITHOUT_AUDITS, policy=own)
    with guarded(exported, deployment, tmp_path / "guard.json", cloud) as edge:
        size = edge.status["burst_size"]
        assert edge.status["state"] == "burst"
        answers = edge.answers(exported.files[:size])
        assert [(answer["place"], answer["exit"]) for answer in answers] == [("cloud", 4)] * size
        labels = burst_labels(exported, own)[:size]
        assert [answer["label"] for answer in answers] == labels
        threshold = edge.status["threshold"]
        assert threshold == refitted(exported, own, slice(size), 0.3, 0.5)
        later = edge.answers(exported.files[size:])
    now = decided(exported, ALL, True, policy_at(own, threshold))
    assert_same(later, now, slice(size, None))
    assert {answer["place"] for answer in later} == {"edge", "cloud"}


def burst_labels(exported: Exported, own: Policy) -> list[int]:
    """The answers where no branch answers by itself."""
    outputs = outputs_of(exported)
    last = outputs[-1]
    if own.fallback_to == "last_exit":
        return last.argmax(-1).tolist()
    sure, best = last.max(-1) >= 0.65, outputs.max(-1).argmax(0)
    found = outputs[best, np.arange(len(best))].argmax(-1)
    return np.where(sure, last.argmax(-1), found).tolist()


def assert_same(answers: list[dict[str, Any]], made: Decisions, images: slice) -> None:
    assert [answer["exit"] - 1 for answer in answers] == made.taken[images].tolist()
    assert [answer["label"] for answer in answers] == made.label[images].tolist()


def test_a_replaced_guard_writes_its_state_no_more(
    exported: Exported, cloud: HttpCloud, tmp_path: Path
) -> None:
    state = tmp_path / "guard.json"
    deployment = deployment_of(exported, WITHOUT_AUDITS, share=0.5)
    with guarded(exported, deployment, state, cloud) as edge, serving(edge.runtime) as server:
        server.classify(BytesIO(exported.files[0].read_bytes()))
        server.save()
        state.write_text("of the new guard")
        server.classify(BytesIO(exported.files[1].read_bytes()))
        server.use(runtime_of(exported, cloud), {})
    assert state.read_text() == "of the new guard"
