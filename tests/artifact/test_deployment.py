"""The deployment file: what is written comes back, and nothing else is taken for one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.artifact.deployment import (
    MAX_BYTES,
    ON_FAILURE,
    PAYLOADS,
    Deployment,
    Promise,
    Upstream,
)
from eenn.artifact.guard_settings import GuardSettings
from eenn.artifact.manifest import Manifest
from eenn.errors import EennError
from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.base import FALLBACKS
from eenn.exits.policies.registry import POLICIES
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.models.architecture import Exit
from tests.exits.any_policy import any_policy

shares = st.floats(0, 1)


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Any policy with any settings, for a network of three branches."""
    name = draw(st.sampled_from(sorted(POLICIES)))
    settings = {
        "p_tar": draw(shares),
        "strict": draw(st.floats(1, 1e9)),
        "low": draw(shares),
        "agree": draw(st.integers(1, 9)),
        "weights": draw(st.tuples(shares, shares, shares)),
        "as_printed": draw(st.booleans()),
        "fallback_to": draw(st.sampled_from(FALLBACKS)),
    }
    if "strict" in POLICIES[name].grids and draw(st.booleans()):
        settings |= {"p_tar": draw(st.tuples(*4 * [shares])), "strict": 1.0}
    means = {"accuracy": (0.9, 0.88, 0.92), "latency_ms": (3.1, 2.9, 3.3)}
    n = draw(st.integers(1, 10**6))
    upstream = draw(st.sampled_from((None, Upstream("b" * 64, 1.25))))
    active = tuple(branch for branch in range(3) if draw(st.booleans()))
    rests = ["cloud", "device", *["nobody"] * bool(active)]
    promise = Promise("validation images", n, "risk 0.03", means, 94, 12.8)
    rest = draw(st.sampled_from(rests))
    return Deployment(
        artifact_id="a" * 64,
        policy=any_policy(name, settings),
        active=active,
        temperature=draw(st.sampled_from(("per_exit", "shared", "none"))),
        experts=HeadChoice.named(draw(st.sampled_from(("plain", "auto", "gaussian_blur")))),
        precision=draw(st.sampled_from(("fp32", "int8"))),
        rest=rest,
        payload=PHOTOGRAPH if upstream else draw(st.sampled_from(PAYLOADS)),
        upstream=upstream,
        deadline_ms=draw(st.floats(0, 1e9, exclude_min=True)),
        on_failure=draw(st.sampled_from(ON_FAILURE)),
        promise=draw(st.sampled_from((None, promise))),
        guard=draw(st.sampled_from((None, GuardSettings(0.05, 0.2, 0)))) if rest == CLOUD else None,
    )


@given(deployment=deployments())
def test_a_deployment_comes_back_from_its_file(
    deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "deployment.json"
    deployment.save(path)
    assert Deployment.load(path) == deployment
    # As users count them.
    assert json.loads(path.read_text())["active"] == [branch + 1 for branch in deployment.active]


UPSTREAM = {"artifact_id": "b" * 64, "temperature": 1.25}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "artifact_id": "a" * 64,
        "policy": {"name": "confidence", "p_tar": 0.5, "strict": 10},
        "active": [1, 2],
        "temperature": "per_exit",
        "experts": "plain",
        "precision": "fp32",
        "payload": "fp32",
        "deadline_ms": 500,
        "promise": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 100_000, "nested too deep"),
        (b'{"version": "\xff"}', "codec can't decode"),
        (" " * (MAX_BYTES + 1), "more than"),
        (content(version=2), "version is 2; allowed is 1"),
        (content(version=True), "version is True; allowed is int"),
        (content(strict=10), "strict: allowed are policy, version"),
        (content(policy={"name": "luck"}), "policy luck: allowed are"),
        (content(policy={"name": "confidence", "p_tarr": 1}), "has no setting p_tarr"),
        (content(policy={"name": "confidence", "p_tar": float("nan")}), "p_tar=nan: allowed is"),
        (content(policy=None), "not a policy"),
        (content(active=[1, "2"]), "is '2'; allowed is int"),
        (content(active=3), "active is 3"),
        (content(temperature="warm"), "temperature=warm: allowed are per_exit, shared, none"),
        (content(payload="fp8"), "payload=fp8: allowed are fp32, fp16, uint8, photograph"),
        (content(rest="moon"), "rest=moon: allowed are cloud, device, nobody"),
        (content(rest="nobody", active=[]), "no exit answers"),
        (content(on_failure="cry"), "on_failure=cry: allowed are answer, continue"),
        (content(upstream={"artifact_id": "b"}), "upstream has no temperature"),
        (content(upstream=UPSTREAM), "payload=fp32 with an upstream network"),
        (content(upstream={**UPSTREAM, "temperature": 0}), "upstream.temperature=0: allowed"),
        (content(deadline_ms=0), "deadline_ms=0: allowed is a number above 0"),
        (content(deadline_ms=float("nan")), "deadline_ms=nan: allowed is"),
        (
            content(deadline_ms="soon"),
            "deployment: deadline_ms is 'soon';",
        ),
        (content(experts=["plain"]), "experts is"),
        (content(promise={"n": 3}), "promise has no"),
        (content(guard={"risk": 0}), "risk=0: allowed is 0.001 to 0.5"),
        (content(guard={"risks": 0.1}), "guard has risks: allowed are risk, delta, audit"),
        (content(guard=True), "guard is True"),
        (
            content(
                promise={
                    "images": "i",
                    "n": 1,
                    "goal": "g",
                    "bandwidth_mbps": 1,
                    "rtt_ms": 1,
                    "means": {"edge_probability": [1.7, 0, 1]},
                }
            ),
            "edge_probability=1.7: allowed is a share",
        ),
        (content(guard={}, rest="device"), "guard with rest=device"),
        (
            {key: value for key, value in content().items() if key != "active"},
            ": it has no active;",
        ),
    ],
)
def test_what_is_no_deployment_is_one_line(text: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    data = json.dumps(text) if isinstance(text, dict) else text
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(EennError) as refused:
        Deployment.load(file)
    assert str(refused.value).startswith(f"{file} is not a deployment: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EennError, match=r"missing\.json: No such file.*give a deployment\.json"):
        Deployment.load(tmp_path / "missing.json")
    with pytest.raises(EennError, match="Is a directory"):
        Deployment.load(tmp_path)


def written(tmp_path: Path, **changes: Any) -> Deployment:
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps(content(**changes)))
    return Deployment.load(file)


def test_a_deployment_is_for_one_artifact_and_its_branches(tmp_path: Path) -> None:
    rows = [asdict(Exit(after, 8, 4, 4, 1000, 10, 512)) for after in (3, 6, 9)]
    manifest = Manifest(tmp_path, {"id": "a" * 64, "exits": rows})
    written(tmp_path).check(manifest)
    with pytest.raises(EennError, match=r"is for artifact b{12} and .* is a{12};"):
        written(tmp_path, artifact_id="b" * 64).check(manifest)
    for active in ([3], [2, 1], [0], [1, 1]):
        with pytest.raises(EennError, match="allowed is an ascending choice of 1, 2"):
            written(tmp_path, active=active).check(manifest)
    # With an upstream network the artifact's last exit may be active.
    cascade: dict[str, Any] = {"active": [1, 3], "upstream": UPSTREAM, "payload": "photograph"}
    written(tmp_path, **cascade).check(manifest)
    with pytest.raises(EennError, match="allowed is an ascending choice of 1, 2, 3"):
        written(tmp_path, **(cascade | {"active": [4]})).check(manifest)
    many = {"name": "confidence", "p_tar": [0.5, 0.5]}
    with pytest.raises(EennError, match="p_tar has 2 thresholds and the network 3 exits"):
        written(tmp_path, policy=many).check(manifest)
