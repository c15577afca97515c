"""offload_bench.py as its users run it: real servers, real sockets, and what it leaves behind."""

import csv
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.wandb_runs import runs
from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import read_manifest
from eenn.exits.policies.registry import make_policy
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.exits.settings import Baseline
from eenn.offload.bench.contenders import EdgeContender, Outcome
from eenn.offload.cloud.command import running
from eenn.offload.edge.clouds import slowed_ms
from eenn.planning.costs import Link
from eenn.workflows.console import offload_bench
from tests.artifact.expert_artifact import run_with_experts
from tests.artifact.trained_run import PREPROCESSING, make_run
from tests.offload.patience import make_patient

CLOUD_ONLY = Baseline.CLOUD_ONLY.value
WHOLE_ON_EDGE = Baseline.WHOLE_ON_EDGE.value
EDGE_ONLY = Baseline.EDGE_ONLY.value
EARLY_ON_EDGE = Baseline.EARLY_ON_EDGE.value
LIMIT, BRANCHES = 12, 3
LAN = Link(bandwidth_mbps=1000, rtt_ms=0.5)  # conf/link/lan.yaml
COMPARED = (
    "joint",
    "neurosurgeon",
    "dads",
    "shortest_path",
    "edgent",
    "edgent_dynamic",
    "spinn",
    "flexdnn",
)
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "all", ant=60, bee=60, cat=60, dog=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder in which a network with branches was trained, and one without before it."""
    root = tmp_path_factory.mktemp("trained")
    make_run(root / "outputs" / "train" / "plain" / "1", images, branches=0)
    make_run(root / "outputs" / "train" / "noise" / "1", images, branches=BRANCHES)
    return root


def run_in(place: Path, *overrides: str, limit: int | None = LIMIT) -> Path:
    """Runs offload_bench.py in `place` and in this process; returns the directory it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        limited = [] if limit is None else [f"limit={limit}"]
        patch.setattr(sys, "argv", ["offload_bench.py", *limited, *overrides])
        patch.setenv("WANDB_DATA_DIR", str(place))
        patch.chdir(place)
        make_patient(patch)
        offload_bench()
    return max((place / "outputs" / "offload").glob("*/*"), key=lambda path: path.stat().st_mtime)


def error_of(place: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run_in(place, *overrides)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """A run against a server of its own, in full precision."""
    return run_in(
        place,
        "link=lan",
        "payload=fp32",
        "p_tar=[0.4,0.7]",
        "conventional=outputs/train/plain/1",
        "upstream=outputs/train/plain/1",
        "plan.min_accuracy=0.0001",  # every rest and payload has a plan
        f"plan.compare=[{','.join(COMPARED)}]",
        "plan.watts=[2.5,1.2,0.5]",
        "logger=wandb",
    )


@pytest.fixture(scope="module")
def requests(done: Path) -> Rows:
    with (done / "requests.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def summary(done: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((done / "summary.json").read_text())
    return content


def of(rows: Rows, policy: str) -> Rows:
    return [row for row in rows if row["policy"] == policy]


def test_every_way_answers_every_photograph_once(requests: Rows) -> None:
    ways = [(row["policy"], row["p_tar"], row["active"]) for row in requests]
    expected = {(CLOUD_ONLY, "nan", ""), (WHOLE_ON_EDGE, "nan", "")}
    for policy in (EDGE_ONLY, EARLY_ON_EDGE):
        expected |= {(policy, p_tar, "1 2 3") for p_tar in ("0.4", "0.7")}
    for active in ("1", "1 2", "1 2 3"):
        expected |= {("confidence", p_tar, active) for p_tar in ("0.4", "0.7")}
    assert set(ways) == expected
    photographs = {row["image"] for row in requests}
    assert len(photographs) == LIMIT
    assert len(set(zip(ways, (row["image"] for row in requests), strict=True))) == len(requests)
    assert len(requests) == LIMIT * len(expected)


def test_live_exits_and_answers_are_those_of_the_records(summary: dict[str, Any]) -> None:
    early = [row for row in summary["points"] if row["policy"] == "confidence"]
    assert [row["differing"] for row in early] == [0] * 6
    shares = {row["edge_probability"] for row in early}
    assert len(shares) > 2  # some images leave, some are offloaded


@pytest.mark.clock
def test_what_is_sent_is_counted_and_what_stays_sends_nothing(requests: Rows) -> None:
    for row in requests:
        stays = row["on_edge"] == "True"
        assert (int(row["sent_bytes"]) == 0) is stays
        assert (float(row["cloud_ms"]) == 0) is stays
        parts = float(row["edge_ms"]) + float(row["cloud_ms"])
        assert float(row["latency_ms"]) == pytest.approx(parts)
        if not stays:
            # The emulated link lies between, and nothing comes earlier than it lets through.
            on_link_ms = LAN.latency_ms(int(row["sent_bytes"]))
            assert float(row["cloud_ms"]) > float(row["server_ms"]) + on_link_ms - 0.001
            assert float(row["server_ms"]) > 0
    # Features in fp32 behind the first branch: 4 bytes each, and a header.
    offloaded = [row for row in requests if row["active"] == "1" and row["on_edge"] == "False"]
    assert {row["failure"] for row in offloaded} == {""}
    assert len({row["sent_bytes"] for row in offloaded}) == 1
    assert {row["on_edge"] for row in of(requests, WHOLE_ON_EDGE)} == {"True"}
    assert {row["on_edge"] for row in of(requests, EARLY_ON_EDGE)} == {"True"}
    assert {row["on_edge"] for row in of(requests, CLOUD_ONLY)} == {"False"}


def test_the_baselines_are_the_networks_that_they_are_named_after(
    place: Path, images: Path, requests: Rows
) -> None:
    """The whole network is the trained one's last exit; cloud only is the conventional network."""
    from eenn.artifact import store

    torch = pytest.importorskip("torch")
    for policy, run in ((WHOLE_ON_EDGE, "noise"), (CLOUD_ONLY, "plain")):
        network = store.load(place / "outputs" / "train" / run / "1" / "artifact").network.eval()
        for row in of(requests, policy):
            image = PREPROCESSING(PREPROCESSING.read(images / row["image"]))
            with torch.inference_mode():
                logits = network(torch.from_numpy(image[None]))[-1]
            assert int(row["label"]) == int(logits.argmax())


def test_points_are_means_of_the_requests(requests: Rows, summary: dict[str, Any]) -> None:
    alone = np.mean([float(row["latency_ms"]) for row in of(requests, CLOUD_ONLY)])
    for point in summary["points"]:
        p_tar = "nan" if point["p_tar"] is None else str(point["p_tar"])
        own = [
            row
            for row in requests
            if (row["policy"], row["p_tar"], row["active"])
            == (point["policy"], p_tar, point["active"])
        ]
        assert len(own) == LIMIT
        took = np.array([float(row["latency_ms"]) for row in own])
        assert point["answer_ms"] == pytest.approx(took.mean())
        assert point["p95_ms"] == pytest.approx(np.quantile(took, 0.95))
        assert point["reduction"] == pytest.approx(1 - took.mean() / alone)
        right = np.mean([row["label"] == row["truth"] for row in own])
        assert point["accuracy"] == pytest.approx(right)


def test_the_report_and_the_plan_are_there(done: Path, summary: dict[str, Any]) -> None:
    page = (done / "report.html").read_text()
    for heading in (
        "Ways to answer",
        "Time to the answer",
        "Slower edges",
        "Best plan",
        "Best plan of each kind",
        "Photographs or features",
        "git commit",
    ):
        assert heading in page
    opening = page[page.index('id="headline"') : page.index("Origin and settings")]
    assert f"--deployment {done / 'deployment.json'}" in opening
    early = [row for row in summary["points"] if row["policy"] == "confidence"]
    assert any(f"<b>{row['answer_ms']:.1f} ms</b>" in opening for row in early)
    for name in ("answer_ms", "accuracy", "sent_bytes", "slowdown"):
        assert (done / "figures" / f"{name}.png").stat().st_size > 1000
    assert not (done / "measured.jsonl").exists()
    assert summary["best_plan"]["latency_ms"] > 0
    assert summary["measured_link"].keys() == {"bandwidth_mbps", "rtt_ms"}


def test_plans_of_named_planners_are_predicted_and_run_live(
    done: Path, summary: dict[str, Any]
) -> None:
    rows = {row["planner"]: row for row in summary["compared"]}
    assert tuple(rows) == COMPARED
    for name in ("latency_ms", "accuracy", "sent_bytes", "active"):
        assert rows["joint"][name] == summary["best_plan"][name]
    for name, row in rows.items():
        assert row["keeps_limits"]
        assert row["regret"] == pytest.approx(row["latency_ms"] / rows["joint"]["latency_ms"] - 1)
        assert row["regret"] >= 0
        assert row["measured_ms"] > 0
        assert row["degraded"] == 0
        assert (row["lacks"] != "") is (name in ("edgent", "edgent_dynamic", "spinn"))
        if row["rest"] != "cloud":
            assert row["sent_bytes"] == row["measured_bytes"] == 0
        if not row["sent_bytes"]:
            assert row["energy_mj"] == pytest.approx(2.5 * row["latency_ms"])
        else:
            assert 0 < row["energy_mj"] < 2.5 * row["latency_ms"]
    assert rows["neurosurgeon"]["active"] == rows["dads"]["active"] == ""
    page = (done / "report.html").read_text()
    assert "Named planners" in page
    assert "modelled mJ" in page
    assert "branches in the cloud" in page
    assert "measured p95" in page


def test_wandb_is_told_of_the_cheapest_point_that_keeps_the_accuracy(
    place: Path, done: Path, requests: Rows, summary: dict[str, Any]
) -> None:
    (run,) = runs(done)
    points = summary["points"]
    (whole,) = (p["accuracy"] for p in points if p["policy"] == WHOLE_ON_EDGE)
    policies = [p for p in points if p["policy"] == "confidence"]
    near = [p for p in policies if p["accuracy"] >= whole - 0.01 - 1e-9]
    cheap = min(near, key=lambda p: p["answer_ms"]) if near else None
    best = cheap or max(policies, key=lambda p: p["accuracy"])
    assert (run.config["p_tar"], run.config["active"]) == (best["p_tar"], best["active"])
    for end in ("", "_low", "_high"):
        assert run.summary[f"latency_ms{end}"] == pytest.approx(best[f"answer_ms{end}"])
        assert run.summary[f"accuracy{end}"] == pytest.approx(best[f"accuracy{end}"])
    # Each image pays for the segments up to its exit, and the heads that it met on its way.
    artifact = read_manifest(place / "outputs" / "train" / "noise" / "1" / "artifact")
    exits, active = artifact.exits, [int(branch) for branch in best["active"].split()]
    spent = [
        exits[taken - 1].macs
        + sum(exits[k - 1].head_macs for k in {*active, len(exits)} if k <= taken)
        for row in of(requests, "confidence")
        if (float(row["p_tar"]), row["active"]) == (best["p_tar"], best["active"])
        for taken in [int(row["exit"])]
    ]
    assert run.summary["mmacs"] == pytest.approx(np.mean(spent) / 1e6)
    assert (run.name, run.kind, run.exit_code) == ("offload", "offload", 0)
    # Asked are the artifact and, as conventional and upstream network, one more.
    plain = read_manifest(place / "outputs" / "train" / "plain" / "1" / "artifact")
    assert run.config["model_id"] == f"{artifact.id}, {plain.id}"


def test_the_best_plans_are_deployments_that_promise_what_was_planned(
    place: Path, done: Path, summary: dict[str, Any]
) -> None:
    manifest = read_manifest(place / "outputs" / "train" / "noise" / "1" / "artifact")
    kinds = [f"cloud-{payload}" for payload in ("fp32", "fp16", "uint8", PHOTOGRAPH)]
    kinds += ["device", "nobody", "cloud-photograph-upstream", "device-upstream"]
    assert {path.stem for path in (done / "plans").iterdir()} == set(kinds)
    best = Deployment.load(done / "deployment.json")
    assert best.promise is not None
    assert best.promise.means["latency_ms"][0] == pytest.approx(summary["best_plan"]["latency_ms"])
    assert best.promise.means["accuracy"][0] == pytest.approx(summary["best_plan"]["accuracy"])
    for path in (done / "plans").iterdir():
        deployment = Deployment.load(path)
        deployment.check(manifest)
        assert path.stem.startswith(deployment.rest)
        assert (deployment.upstream is not None) is path.stem.endswith("-upstream")
        assert deployment.rest != CLOUD or deployment.payload in path.stem
        promise = deployment.promise
        assert promise is not None
        assert best.promise.means["latency_ms"][0] <= promise.means["latency_ms"][0]
        assert summary["plans"][f"plans/{path.name}"]["n"] == promise.n
        for value, low, high in promise.means.values():
            assert low <= value + 1e-9
            assert value <= high + 1e-9
        sends = deployment.rest == CLOUD and promise.means["edge_probability"][0] < 1
        assert (promise.means["sent_bytes"][0] > 0) is sends


def test_a_cascade_is_measured_as_its_deployment_says(
    place: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last exit decides on the device, and another network answers from the photograph."""
    planned = Deployment.load(done / "plans" / "cloud-photograph-upstream.json")
    policy = make_policy("confidence", {"p_tar": 0.8, "strict": 2.0})
    cascade = replace(planned, policy=policy, active=(1, BRANCHES), deadline_ms=60_000)
    file = tmp_path / "cascade.json"
    cascade.save(file)
    given = (f"deployment={file}", "artifact=outputs/train/noise/1", "logger=csv", "link=lan")
    assert "give upstream=DIR, where that lies" in error_of(place, capsys, *given)
    directory = run_in(place, *given, "upstream=outputs/train/plain/1")
    points = json.loads((directory / "summary.json").read_text())["points"]
    (point,) = (row for row in points if row["policy"] == policy.label)
    assert (point["active"], point["p_tar"], point["differing"]) == ("2 4", 0.8, 0)
    assert 0 < point["edge_probability"] < 1
    with (directory / "requests.csv").open() as stream:
        own = of(list(csv.DictReader(stream)), policy.label)
    assert {row["exit"] for row in own} <= {"2", "4", "5"}
    # The files are sent as they are.
    sent = [int(row["sent_bytes"]) for row in own if row["on_edge"] == "False"]
    assert len(set(sent)) > 1


def test_a_live_cloud_is_asked_with_its_token(place: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    run_in(place, "p_tar=0.5", "first=3", "logger=csv")  # exports, if no other test did
    artifact = place / "outputs" / "train" / "noise" / "1" / "artifact"
    with running([artifact], token_file=token) as server:
        directory = run_in(
            place,
            f"cloud.url={server.url}",
            f"cloud.token_file={token}",
            "p_tar=0.5",
            "first=3",
            "logger=csv",
        )
    points = json.loads((directory / "summary.json").read_text())["points"]
    assert {row["degraded"] for row in points} == {0}


def test_distorted_photographs_are_sent_as_crops(place: Path) -> None:
    directory = run_in(
        place, "distortion.level=[0,1.5]", "upload=crop", "p_tar=0.5", "first=3", "logger=csv"
    )
    points = json.loads((directory / "summary.json").read_text())["points"]
    assert {row["level"] for row in points} == {0, 1.5}
    assert (directory / "figures" / "level_answer_ms.png").exists()


def test_experts_answer_as_the_records_say(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = run_with_experts(tmp_path, images)
    given = ("distortion.level=[0,2]", "upload=crop", "payload=fp32", "logger=csv", "link=lan")
    directory = run_in(root, "experts=auto", "p_tar=0.4", *given)
    summary = json.loads((directory / "summary.json").read_text())
    early = [row for row in summary["points"] if row["policy"] == "confidence"]
    assert len(early) == 2 * BRANCHES
    assert {row["differing"] for row in early} == {0}
    assert all(row["predicted_ms"] > 0 for row in early)
    assert any(row["part"] == "distortion classifier" for row in summary["parts"])
    with (directory / "requests.csv").open() as file:
        seen = {(row["policy"], row["heads"]) for row in csv.DictReader(file)}
    assert len([heads for policy, heads in seen if policy == "confidence"]) > 1
    assert [heads for policy, heads in seen if policy == CLOUD_ONLY] == ["plain"]
    assert "experts=soft" in error_of(root, capsys, "experts=soft")


def test_an_interrupted_run_goes_on_without_measuring_anything_twice(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("p_tar=0.5", "first=3", "logger=csv", "link=lan", "plan.compare=[dads,spinn]")
    answer, kept = EdgeContender.answer, 30

    def interrupted(self: EdgeContender, *arguments: Any) -> Outcome:
        nonlocal kept
        kept -= 1
        if not kept:
            raise KeyboardInterrupt
        return answer(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EdgeContender, "answer", interrupted)
        with pytest.raises(SystemExit) as stop:
            run_in(place, *given)
    assert stop.value.code == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("interrupted: ")
    assert "it goes on with `python offload_bench.py resume=" in line
    directory = place / line.split("resume=")[1].rstrip("`")
    before = (directory / "measured.jsonl").read_text().splitlines()[1:]
    assert len(before) > 10
    assert f"leave out limit={LIMIT}" in error_of(place, capsys, "resume=latest")

    assert run_in(place, "resume=latest", limit=None) == directory
    with (directory / "requests.csv").open() as file:
        requests = list(csv.DictReader(file))
    found = {(row["image"], float(row["edge_ms"])) for row in requests}
    for measured in map(json.loads, before):
        assert (measured["place"]["image"], measured["outcome"]["edge_ms"]) in found
    assert len(requests) == 5 * LIMIT
    summary = json.loads((directory / "summary.json").read_text())
    points = summary["points"]
    assert [row["planner"] for row in summary["compared"]] == ["dads", "spinn"]
    assert [row["differing"] for row in points if row["policy"] == "confidence"] == [0]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["payload=fp8"], "payload=fp8: allowed are fp32, fp16, uint8, photograph"),
        (["upstream=latest", "artifact=latest"], "this is the artifact itself"),
        (
            ["payload=photograph", "upload=crop", "distortion.level=1"],
            "which sends the undistorted file; allowed are features",
        ),
        (["upload=png"], "upload=png: allowed are file, crop"),
        (["distortion.level=1"], "upload=crop"),
        (["edge.slowdown=0.5"], "edge.slowdown=0.5: allowed is 1 or more"),
        (["conventional=latest"], "allowed is an artifact of `python train.py branches=0`"),
        (["cloud.token_file=pyproject.toml"], "pyproject.toml: No such file"),
        (["cloud.url=http://127.0.0.1:9"], "127.0.0.1:9"),
        (["limit=0"], "limit=0: allowed is 1 or more"),
        (["p_tar=[2]"], "p_tar"),
        (["plan.compare=[joint,magic]"], "planner magic: allowed are"),
        (["plan.compare=[joint,joint]"], "plan.compare=joint, joint: name each planner once"),
        (["plan.max_late=0.1"], "plan.max_late=0.1 without plan.deadline_ms"),
        (["plan.watts=[2.5]"], "plan.watts=2.5: allowed are three numbers"),
        (["plan.frames_per_s=0"], "plan.frames_per_s=0: allowed is a number above 0"),
    ],
)
def test_mistakes_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], says: str
) -> None:
    assert says in error_of(place, capsys, *overrides)


@pytest.mark.clock
def test_a_slower_device_takes_as_many_times_as_long() -> None:
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < 0.005:
        pass
    assert slowed_ms(start, 4) >= 4e3 * elapsed
