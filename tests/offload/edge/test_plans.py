"""A table of plans that a device follows: every row decides as on records, on a bare install."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eenn.artifact.deployment import Deployment
from eenn.errors import EennError
from eenn.exits.decide import decide, on_device
from eenn.exits.policies.base import ExitProbs
from eenn.exits.policies.registry import make_policy
from eenn.exits.rests import CLOUD, DEVICE, NOBODY, PHOTOGRAPH
from eenn.offload.cloud.command import RunningCloud, running
from eenn.offload.edge import command
from eenn.offload.edge.plans import Plans
from eenn.offload.export.command import main as export
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Power, Spent
from eenn.planning.table import Goal, Limit, NoPlan, Objective, Row, Table
from tests.offload.edge.edge_command import assert_decided, outputs_of, parsed, run_bare
from tests.offload.exported import Exported
from tests.offload.patience import PATIENCE_S

GOAL = Goal((Objective("latency_ms"),), (Limit("accuracy", least=0.5),))
AT = Conditions(Link(10.0, 20.0), deadline_ms=300.0, spread_ms=(0.0, 4.0))
# Branches up to which a network is cut, and cuts further back.
WAYS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((), {"rest": CLOUD, "payload": "fp32"}),
    ((), {"rest": CLOUD, "payload": "fp16", "cut": 5}),
    ((), {"rest": CLOUD, "payload": PHOTOGRAPH}),
    ((), {"rest": DEVICE}),
    ((0,), {"rest": CLOUD, "payload": "uint8"}),
    ((0,), {"rest": CLOUD, "payload": "uint8", "cut": 8}),
    ((1,), {"rest": CLOUD, "payload": PHOTOGRAPH}),
    ((0, 2), {"rest": CLOUD, "payload": "fp32", "cut": 15}),
    ((0, 1, 2), {"rest": CLOUD, "payload": "fp32"}),
    ((0, 2), {"rest": DEVICE}),
    ((1, 2), {"rest": NOBODY}),
]


@pytest.fixture(scope="module")
def plans(exported: Exported) -> Plans:
    """Three policies for every way, with costs by chance."""
    generator, rows = np.random.default_rng(0), []
    for active, way in WAYS:
        for p_tar in (0.5, 0.65, 0.8):
            deployment = Deployment(
                artifact_id=exported.graphs.manifest.id,
                policy=make_policy("confidence", {"p_tar": p_tar}), active=active,
                deadline_ms=1e3 * PATIENCE_S, **way,
            )  # fmt: skip
            # A device that only sends computes nothing, and all images are away.
            computing = bool(active) or deployment.rest != CLOUD
            leaving = tuple(generator.dirichlet(np.ones(4)).tolist()) if computing else (0, 0, 0, 1)
            away = leaving[-1] * (deployment.rest == CLOUD)
            costs = (computing * generator.uniform(100, 200), *(away * generator.uniform(1, 99, 3)))
            device, cloud, sent, codec = map(np.float64, costs)
            spent = Spent(device, cloud, np.float64(away), sent, codec)
            to_exits = tuple(np.sort(generator.uniform(0, 90, 4)).tolist())
            rows.append(Row(deployment, 3, spent, leaving, generator.uniform(), to_exits))
    return Plans(
        exported.graphs.manifest.id, "a device", "12 validation images", "2026-11-28", GOAL,
        Power(2.0, 1.0, 0.5), AT, Table.of(rows),
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(plans: Plans, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "plans.json"
    plans.save(path)
    return path


@pytest.fixture(scope="module")
def server(exported: Exported) -> Iterator[RunningCloud]:
    with running([exported.path]) as found:
        yield found


def run(capsys: pytest.CaptureFixture[str], *given: object) -> tuple[list[dict[str, Any]], str]:
    """Run the command; gives its answers, and what it said."""
    with pytest.raises(SystemExit) as ended:
        command.main([str(argument) for argument in given])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return parsed(said.out.splitlines()), said.err


def test_plans_are_read_as_they_were_written(plans: Plans, file: Path) -> None:
    own = Plans.load(file)
    assert own.table.designs == plans.table.designs
    assert (own.goal, own.at, own.power) == (plans.goal, plans.at, plans.power)
    for name in ("latency_ms", "accuracy", "p95_ms", "late_share", "cut"):
        assert own.table.metric(name, AT).tolist() == plans.table.metric(name, AT).tolist()
    assert own.table.leaving.tolist() == plans.table.leaving.tolist()


def test_every_row_decides_live_as_on_records(
    plans: Plans, file: Path, exported: Exported, server: RunningCloud,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    outputs = [ExitProbs(exit, probs) for exit, probs in enumerate(outputs_of(exported))]
    given = ("--artifact", exported.path, "--plans", file, "--cloud", server.url, "--json")
    for row, deployment in enumerate(plans.table, 1):
        answers, said = run(capsys, *given, "--plan", row, *exported.files)
        alone = deployment.rest == NOBODY
        expected = decide(deployment.policy, outputs, deployment.active, cloud=not alone)
        if deployment.rest != CLOUD:
            expected = on_device(expected)
        if deployment.payload == "uint8":
            # Rounded features may have another answer in the cloud.
            assert [answer["exit"] - 1 for answer in answers] == expected.taken.tolist()
        else:
            assert_decided(answers, expected, tolerance=0.05)
        assert f"plan {row} of {len(plans.table)}" in said


def test_the_best_row_under_the_conditions_is_followed(
    plans: Plans, file: Path, exported: Exported, server: RunningCloud,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = ("--artifact", exported.path, "--plans", file, "--cloud", server.url, "--json")
    at = Conditions(Link(0.05, 900.0), 3.0, 7.0, 300.0, (0.0, 4.0))
    flags = ("--link", "0.05,900", "--slowdown", 3, "--cloud-load", 7)
    _, said = run(capsys, *given, *flags, exported.files[0])
    assert f"plan {plans.choose(at) + 1} of" in said
    _, said = run(capsys, *given, exported.files[0])
    assert f"plan {plans.choose(AT) + 1} of" in said
    assert plans.choose(at) != plans.choose(AT)


def test_without_a_cloud_a_plan_that_needs_none_is_followed(
    plans: Plans, file: Path, exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    only = replace(plans, goal=Goal((Objective("device_ms"),)))
    row = only.choose(AT, with_cloud=False)
    assert plans.table.designs[row].rest != CLOUD
    by_hand = [
        (ms, number)
        for number, (ms, own) in enumerate(
            zip(plans.table.metric("device_ms", AT), plans.table, strict=True)
        )
        if own.rest != CLOUD
    ]
    assert row == min(by_hand)[1]
    _, said = run(capsys, "--artifact", exported.path, "--plans", file, "--json", exported.files[0])
    assert f"plan {plans.choose(AT, with_cloud=False) + 1} of" in said
    away = [row for row, own in enumerate(plans.table) if own.rest == CLOUD]
    with pytest.raises(NoPlan, match="plans need a cloud; give --cloud URL"):
        replace(plans, table=plans.table.at(away)).choose(AT, with_cloud=False)


def test_a_folder_has_what_every_row_opens_and_runs_on_a_bare_install(
    plans: Plans, file: Path, exported: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "device"
    export([str(exported.path), "--plans", str(file), "--to", str(folder)])
    for row in range(len(plans.table)):
        if plans.table.designs[row].rest == CLOUD:
            continue
        ended = run_bare("--artifact", folder, "--plan", row + 1, "--json", exported.files[0])
        assert ended.returncode == 0, ended.stderr
        assert f"{folder / 'plans.json'}, plan {row + 1} of" in ended.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda own: own.update(version=9), "allowed is a JSON object of version 1"),
        (lambda own: own.update(plans=[]), "it has no plan"),
        (lambda own: own.pop("goal"), "no plans: it has no goal"),
        (lambda own: own["plans"][0].pop("deployment"), "a plan has no deployment"),
        (lambda own: own["plans"][0]["deployment"].update(rest="moon"), "allowed are cloud"),
        (lambda own: own["plans"][0].update(sent_bytes=-1), "numbers from 0 to 1e+12"),
        (lambda own: own["plans"][0].update(device_ms=float("nan")), "numbers from 0 to 1e+12"),
        (lambda own: own["plans"][0].update(away=2), "from 0 to 1"),
        (lambda own: own["plans"][0].update(leaving=[1.0]), "one of each for every exit"),
        (lambda own: own["plans"][0]["deployment"].update(artifact_id="other"), "for artifact"),
        (lambda own: own["conditions"].update(bandwidth_mbps=0), "above 0"),
        (lambda own: own.update(plans=[[[]]]), "plans"),
        (lambda own: own["plans"][0].update(cut=10**30), "numbers from 0 to 1e+12"),
        (lambda own: own["plans"][0].update(cloud_ms=1e308), "numbers from 0 to 1e+12"),
        (lambda own: own["conditions"].update(spread_ms=[]), "one or more numbers"),
        (lambda own: own["conditions"].update(spread_ms=[float("nan")]), "one or more numbers"),
        (lambda own: own["conditions"].update(spread_ms=[1.0] * 2**18), "allowed are 16777216"),
        (lambda own: own["conditions"].update(deadline_ms=float("nan")), "above 0"),
        (lambda own: own["goal"]["objectives"][0].update(metric="speed"), "metric speed: allowed"),
        (lambda own: own["goal"]["limits"][0].update(metric="speed"), "metric speed: allowed"),
        (lambda own: own["goal"]["limits"][0].update(least=float("nan")), "allowed are numbers"),
        (lambda own: own["goal"]["objectives"][0].update(give_up=-5), "a share, 0 to 1"),
        (lambda own: own["power"].update(idle_w=float("nan")), "watts of a device"),
    ],
)
def test_a_broken_table_is_one_line(change: Any, said: str, file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_text())
    change(content)
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(content))
    with pytest.raises(EennError, match=r"broken\.json holds no plans: ") as refused:
        Plans.load(broken)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "null"])
def test_a_file_of_something_else_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text(content)
    with pytest.raises(EennError, match="holds no plans: "):
        Plans.load(tmp_path / "plans.json")
    with pytest.raises(EennError, match=r"give a plans\.json"):
        Plans.load(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--plan", "1"), "need --plans FILE"),
        (("--link", "12,50"), "need --plans FILE"),
        (("--plans", "FILE", "--deployment", "d.json"), "give one of them"),
        (("--plans", "FILE", "--plan", "1", "--link", "1,1"), "which choose a plan"),
        (("--plans", "FILE", "--plan", "99"), "allowed are 1 to 33"),
        (("--plans", "FILE", "--link", "0,5"), "a bandwidth above 0"),
        (("--plans", "FILE", "--link", "fast"), "such as 12,50"),
        (("--plans", "FILE", "--slowdown", "0"), "allowed is a number above 0"),
        (("--plans", "FILE", "--slowdown", "9" * 400), "allowed is a number above 0"),
    ],
)
def test_mistakes_are_one_line(
    given: tuple[str, ...], said: str, file: Path, exported: Exported,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    named = [str(file) if argument == "FILE" else argument for argument in given]
    with pytest.raises(SystemExit) as ended:
        command.main(["--artifact", str(exported.path), *named, str(exported.files[0])])
    assert ended.value.code
    shown = capsys.readouterr()
    message = ended.value.code if isinstance(ended.value.code, str) else shown.err
    assert said in message
