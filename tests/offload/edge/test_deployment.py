"""What was evaluated is what runs: a deployment decides on the device as on records."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment, Upstream
from eenn.artifact.manifest import read_manifest
from eenn.exits.decide import Decisions, decide, on_device
from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.base import FALLBACKS, ExitProbs, Policy
from eenn.exits.policies.registry import POLICIES, make_policy
from eenn.exits.rests import RESTS
from eenn.models.early_exit import EarlyExitNet
from eenn.offload.edge import command
from eenn.offload.edge.clouds import LocalCloud, Rest
from eenn.offload.edge.runtime import EdgeRuntime
from eenn.statistics.calibration import Temperatures, probabilities
from tests.exits.any_policy import any_policy
from tests.offload.exported import TEMPERATURES, Exported
from tests.offload.patience import PATIENCE_S

# Rounding may turn what lies closer to a threshold.
CLOSE = 1e-3
UPSTREAM_TEMPERATURE = 0.7
shares = st.floats(0.05, 0.95)


@pytest.fixture(scope="module")
def logits(exported: Exported) -> NDArray[np.float32]:
    """Of every exit, from PyTorch."""
    with torch.inference_mode():
        found: NDArray[np.float32] = exported.network(torch.from_numpy(exported.images)).numpy()
    return found


@st.composite
def policies(draw: st.DrawFn, branches: int) -> Policy:
    """Any policy with any settings, for a network of so many branches."""
    name = draw(st.sampled_from(sorted(POLICIES)))
    own = {
        "p_tar": draw(shares),
        "strict": draw(st.sampled_from([1, 3, 10])),
        "low": draw(shares),
        "agree": draw(st.integers(1, 4)),
        "weights": draw(st.tuples(*branches * [shares])),
        "as_printed": draw(st.booleans()),
        "fallback_to": draw(st.sampled_from(FALLBACKS)),
    }
    if "strict" in POLICIES[name].grids and draw(st.booleans()):
        own |= {"p_tar": draw(st.tuples(*(branches + 1) * [shares])), "strict": 1}
    return any_policy(name, own)


def nudged(policy: Policy, by: float) -> Policy:
    """Shift the policy's thresholds a little."""
    found = json.loads(policy.to_json())
    moved: dict[str, Any] = {
        key: (np.asarray(found[key]) + by).tolist() for key in ("p_tar", "low") if key in found
    }
    return make_policy(found.pop("name"), found | moved)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    own=st.data(),
    active=st.sampled_from([(0,), (2,), (0, 1), (1, 2), (0, 1, 2)]),
    temperature=st.sampled_from(["per_exit", "shared", "none"]),
    rest=st.sampled_from(RESTS),
    is_cascade=st.booleans(),
    with_last=st.booleans(),
)
def test_records_file_and_device_decide_alike(
    own: st.DataObject,
    active: tuple[int, ...],
    temperature: str,
    rest: str,
    is_cascade: bool,
    with_last: bool,
    exported: Exported,
    upstream: tuple[Path, EarlyExitNet],
    logits: NDArray[np.float32],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    policy = own.draw(policies(4 if is_cascade else 3))
    if is_cascade and with_last:
        active = (*active, 3)
    file = tmp_path_factory.getbasetemp() / "deployed.json"
    Deployment(
        artifact_id=exported.graphs.manifest.id, policy=policy, active=active,
        temperature=temperature, rest=rest, payload="photograph" if is_cascade else "fp32",
        upstream=Upstream("b" * 64, UPSTREAM_TEMPERATURE) if is_cascade else None,
    ).save(file)  # fmt: skip
    deployment = Deployment.load(file)
    runtime = EdgeRuntime(
        exported.path, deployment.policy, deployment.active,
        rest_of(deployment, exported, upstream), temperature=deployment.temperature,
    )  # fmt: skip
    results = runtime.classify(exported.images, exported.files)

    chosen = Temperatures(TEMPERATURES, 1.0).chosen(temperature)
    outputs = [
        ExitProbs(exit, probabilities(own, t))
        for exit, (own, t) in enumerate(zip(logits, chosen, strict=True))
    ]
    if is_cascade:
        with torch.inference_mode():
            last = upstream[1](torch.from_numpy(exported.images))[-1].numpy()
        outputs.append(ExitProbs(4, probabilities(last, UPSTREAM_TEMPERATURE)))

    def decided(policy: Policy) -> Decisions:
        decisions = decide(policy, outputs, active, cloud=rest != "nobody")
        return on_device(decisions) if rest == "device" else decisions

    found = decided(policy)
    sure = np.ones(len(results), bool)
    for by in (-CLOSE, CLOSE):
        other = decided(nudged(policy, by))
        sure &= (other.taken == found.taken) & (other.label == found.label)
    assert sure.mean() > 0.5
    for result, is_sure, taken, label, on_edge in zip(
        results, sure, found.taken, found.label, found.on_edge, strict=True
    ):
        if is_sure:
            assert (result.exit, result.label, result.on_edge) == (taken, label, on_edge)


def rest_of(
    deployment: Deployment, exported: Exported, upstream: tuple[Path, EarlyExitNet]
) -> Rest:
    """Whoever the deployment names, all of them on this machine."""
    there = deployment.upstream
    temperature = there.temperature if there else None
    if deployment.rest == "nobody":
        return Rest(temperature=temperature)
    here = LocalCloud(upstream[0] if there else exported.path)
    features, photographs = (None, here) if there else (here, None)
    return Rest(features, photographs, temperature, on_device=deployment.rest == "device")


@pytest.fixture
def deployed(exported: Exported, tmp_path: Path) -> Path:
    """A deployment of strict confidence over all branches."""
    policy = make_policy("confidence", {"p_tar": 0.4, "strict": 10})
    path = tmp_path / "deployment.json"
    Deployment(
        artifact_id=exported.graphs.manifest.id, policy=policy, active=(0, 1, 2),
        deadline_ms=1e3 * PATIENCE_S,
    ).save(path)  # fmt: skip
    return path


@pytest.fixture
def edge(exported: Exported, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `eenn-edge` on all images: answers by file, and stderr."""

    def run(*arguments: object) -> tuple[list[dict[str, Any]], str]:
        given = ["--artifact", exported.path, "--json", *arguments, *exported.files]
        with pytest.raises(SystemExit):
            command.main([str(argument) for argument in given])
        captured = capsys.readouterr()
        return [json.loads(line) for line in captured.out.splitlines()], captured.err

    return run


def exits_of(answers: list[dict[str, Any]]) -> list[int]:
    return [answer["exit"] - 1 for answer in answers]


def recorded(logits: NDArray[np.float32], deployment: Deployment, cloud: bool = False) -> Decisions:
    chosen = Temperatures(TEMPERATURES, 1.0).chosen(deployment.temperature)
    outputs = [
        ExitProbs(exit, probabilities(own, t))
        for exit, (own, t) in enumerate(zip(logits, chosen, strict=True))
    ]
    return decide(deployment.policy, outputs, deployment.active, cloud)


def test_the_command_follows_the_file(edge: Any, deployed: Path, logits: Any) -> None:
    answers, said = edge("--deployment", deployed)
    found = recorded(logits, Deployment.load(deployed))
    assert exits_of(answers) == found.taken.tolist()
    assert [answer["label"] for answer in answers] == found.label.tolist()
    assert said.startswith(f"{deployed}: confidence, strict 10, p_tar 0.4, ")
    assert "in place of" not in said


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--strict", 1], "strict 10"),
        (["--p-tar", 0.9], "p_tar 0.4"),
        (["--active", "1,3"], "branches 1 2 3"),
        (["--first", 2], "branches 1 2 3"),
        (["--temperature", "none"], "temperature per_exit"),
        (["--policy", "margin", "--p-tar", 0.2], "policy confidence, p_tar 0.4, strict 10"),
        (["--policy", "patience", "--agree", 2], "policy confidence, p_tar 0.4, strict 10"),
        (["--policy", "window", "--low", 0.35], "policy confidence, p_tar 0.4, strict 10"),
        (["--thresholds", "0.9,0.8,0.3,0", "--strict", 1], "p_tar 0.4, strict 10"),
    ],
)
def test_a_flag_changes_exits_and_is_named(
    flags: list[object], changes: str, edge: Any, deployed: Path
) -> None:
    before, _ = edge("--deployment", deployed)
    after, said = edge("--deployment", deployed, *flags)
    assert exits_of(after) != exits_of(before)
    assert said.rstrip("\n").rpartition("; ")[2] == f"flags in place of the file's {changes}"


def test_flags_that_say_what_the_file_says_change_nothing(edge: Any, deployed: Path) -> None:
    _, said = edge("--deployment", deployed, "--strict", 10, "--p-tar", 0.4, "--first", 3)
    assert "in place of" not in said


def test_lists_and_other_values_are_named_as_they_are_given(
    edge: Any, deployed: Path, tmp_path: Path
) -> None:
    before = {"precision": "int8", "deadline_ms": 750.0, "experts": HeadChoice.named("auto")}
    policy = make_policy("margin", {"p_tar": [0.9, 0.8, 0.25, 0]})
    file = tmp_path / "each.json"
    replace(Deployment.load(deployed), policy=policy, **before).save(file)
    flags = ("--p-tar", 0.4, "--fallback", "most_confident", "--precision", "fp32")
    _, said = edge("--deployment", file, *flags, "--deadline-ms", 60000, "--experts", "plain")
    assert said.rstrip("\n").rpartition("; ")[2] == (
        "flags in place of the file's fallback last_exit, p_tar 0.9 0.8 0.25 0, experts auto, "
        "precision int8, deadline_ms 750"
    )


def test_a_fallback_changes_answers(edge: Any, deployed: Path) -> None:
    strict = ("--deployment", deployed, "--p-tar", 1)
    last, _ = edge(*strict, "--fallback", "last_exit")
    surest, said = edge(*strict, "--fallback", "most_confident")
    assert "fallback most_confident" in said
    assert [a["answered_by"] for a in last] == len(last) * [3]
    assert {a["answered_by"] for a in surest} > {3}


def test_a_precision_changes_confidences(edge: Any, deployed: Path) -> None:
    whole, _ = edge("--deployment", deployed)
    rounded, said = edge("--deployment", deployed, "--precision", "int8")
    assert "precision int8" in said
    assert [a["confidence"] for a in whole] != [a["confidence"] for a in rounded]


def test_without_a_file_the_defaults_are_said(edge: Any) -> None:
    _, said = edge()
    assert said == (
        "no --deployment, so by default: confidence, p_tar 0.8, fallback last_exit, "
        "branches 1 2 3, temperature per_exit, experts plain, precision fp32, "
        "no --cloud, so the last active branch answers\n"
    )


def test_a_deployment_of_another_artifact_is_refused(
    edge: Any, deployed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    replace(Deployment.load(deployed), artifact_id="b" * 64).save(other)
    answers, said = edge("--deployment", other)
    assert answers == []
    assert said.startswith("error: the deployment is for artifact bbbbbbbbbbbb and ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("flag", [["--rest", "device"], ["--rest", "nobody"]])
def test_a_rest_is_taken_from_a_flag(
    flag: list[str], edge: Any, deployed: Path, logits: Any
) -> None:
    answers, said = edge("--deployment", deployed, "--strict", 1, "--p-tar", 0.7, *flag)
    assert said.rstrip().endswith(
        f"rest {flag[1]}; flags in place of the file's p_tar 0.4, strict 10, rest cloud"
    )
    own = replace(
        Deployment.load(deployed), policy=make_policy("confidence", {"p_tar": 0.7}), rest=flag[1]
    )
    is_nobody = flag[1] == "nobody"
    expected = recorded(logits, own, cloud=not is_nobody)
    assert exits_of(answers) == expected.taken.tolist()
    assert (3 in exits_of(answers)) is not is_nobody
    assert {answer["place"] for answer in answers} == {"edge"}


def test_another_network_on_the_device_is_taken_from_a_flag(
    edge: Any, upstream: tuple[Path, EarlyExitNet]
) -> None:
    theirs = upstream[0]
    given = ("--rest", "device", "--upstream", theirs, "--p-tar", 0.7)
    answers, said = edge(*given, "--active", "1,4")
    assert f"rest device by artifact {read_manifest(theirs).id[:12]}" in said
    assert {tuple(answer["exits"]) for answer in answers} == {(1,), (1, 4), (1, 4, 5)}


def test_an_upstream_network_has_to_be_there_and_be_meant(
    edge: Any, deployed: Path, exported: Exported, upstream: tuple[Path, EarlyExitNet]
) -> None:
    own = replace(Deployment.load(deployed), upstream=Upstream("c" * 64, 1.0), payload="photograph")
    own.save(deployed)
    _, said = edge("--deployment", deployed, "--rest", "device")
    assert "passes images on to artifact cccccccccccc on this device; give --upstream" in said
    # A flag names another network, as flags may.
    answers, said = edge("--deployment", deployed, "--rest", "device", "--upstream", upstream[0])
    assert len(answers) == len(exported.files)
    assert "upstream artifact cccccccccccc" in said


def test_nothing_is_sent_where_the_rest_is_here(edge: Any) -> None:
    answers, said = edge("--rest", "device", "--cloud", "http://127.0.0.1:1")
    assert answers == []
    assert said == (
        "error: --cloud with rest=device, which sends nothing; leave --cloud out, or give "
        "--rest cloud\n"
    )
