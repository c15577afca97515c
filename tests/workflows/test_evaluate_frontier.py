"""evaluate.py artifacts=[...] as its users run it: the frontier, deployments over it, mistakes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from eenn.artifact.deployment import Deployment
from eenn.evaluation.designs import CASCADE, COSTS, PLAIN_CASCADE, SINGLE_EXIT
from eenn.evaluation.evaluated import Evaluation
from eenn.evaluation.frontier import Frontier
from eenn.evaluation.grid import Service
from eenn.evaluation.names import named_artifacts
from eenn.exits.head_sets import PLAIN_HEADS
from eenn.exits.policies.threshold import Confidence
from eenn.exits.rests import CLOUD, DEVICE
from eenn.exits.settings import ActiveBranches, Swept
from eenn.planning.costs import Link
from eenn.records.evaluated_artifact import EvaluatedArtifact
from eenn.records.opening import open_artifacts
from eenn.records.records import ExitRecords
from tests.artifact.trained_run import make_run
from tests.workflows.evaluating import rows, run_in

EVALUATION = Evaluation(
    split="test",
    policies=[Swept("confidence", {"fallback_to": "last_exit"}, [0.8])],
    p_tars=[0.8],
    active=ActiveBranches(),
    distortion="gaussian_blur",
    levels=[0],
    temperature="per_exit",
    experts=PLAIN_HEADS,
    link=Link(94, 12.8),
    service=Service(20, 32),
    goal=None,
)
RUNS = "outputs/train/noise"
BOTH = f"artifacts=[{RUNS}/small,{RUNS}/large]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    """A folder with networks of one split: one branch, and, more accurate, three."""
    root = tmp_path_factory.mktemp("trained")
    images = write_images(root / "images", ant=60, bee=60, cat=60, dog=60)
    for name, branches, seed in (("small", 1, 0), ("large", 3, 0), ("other", 3, 1)):
        make_run(root / RUNS / name, images, branches, seed)
    return root


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> Path:
    return run_in(trained, BOTH, "logger=csv", drawn=True)


def test_a_frontier_leaves_tables_figures_and_a_page(evaluated: Path) -> None:
    assert {file.stem for file in (evaluated / "tables").iterdir()} == {"budgets", "designs"}
    figures = {file.stem for file in (evaluated / "figures").iterdir()}
    quantities = ("latency_ms", "sent_bytes", "edge_probability")
    assert figures == {"headline", *(f"frontier_{name}" for name in quantities)}
    page = (evaluated / "report.html").read_text()
    assert page.count("<img") == len(figures)
    assert "python evaluate.py &#x27;artifacts=[" in page
    summary = json.loads((evaluated / "summary.json").read_text())
    kinds = {row["kind"] for row in summary["budgets"] if row["cost"] == "macs"}
    assert len(summary["verdicts"]) == len(kinds - {"single exit"})
    assert {row["cost"] for row in summary["budgets"]} >= {"macs", "latency_ms", "offloaded"}


def test_the_best_kind_of_a_budget_is_the_most_accurate(evaluated: Path) -> None:
    found = [row for row in rows(evaluated, "budgets") if row["cost"] == "macs"]
    assert {row["kind"] for row in found} >= {"single exit", "early exits"}
    for budget in {row["budget"] for row in found}:
        own = [row for row in found if row["budget"] == budget]
        highest = max(float(row["validation_accuracy"]) for row in own)
        (best,) = (row for row in own if row["best"] == "True")
        assert float(best["validation_accuracy"]) == highest


def test_a_design_is_what_a_loop_over_images_finds(trained: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        small, large = open_artifacts([f"{RUNS}/small", f"{RUNS}/large"])
        frontier = Frontier(named_artifacts([small, large]), EVALUATION, [DEVICE, CLOUD], [1, 10])
        records = (
            small.records("test", "gaussian_blur", 0),
            large.records("test", "gaussian_blur", 0),
        )
        for cost in COSTS:
            for row in frontier.compared(cost):
                own = row.reported.design
                assert own.costs[cost] <= row.budget
                assert own.accuracy >= max(
                    other.accuracy
                    for other in frontier.designs
                    if other.kind == own.kind
                    and other.counts_for(cost)
                    and other.costs[cost] <= row.budget
                )
        for design in frontier.designs:
            if design.kind == SINGLE_EXIT:
                own = records[design.family.evaluated.artifact is large]
                exit = design.setting.active[0] if design.setting.active else -1
                right = float((own.logits[exit].argmax(-1) == own.truth).mean())
                assert frontier.report(design).point.accuracy.value == pytest.approx(right)
        designs = [one for one in frontier.designs if one.kind in (CASCADE, PLAIN_CASCADE)]
        for design in (*designs[:4], *designs[-4:]):
            point = frontier.report(design).point
            assert isinstance(design.policy, Confidence)
            right, macs, sent = _loop(design.policy, design.setting.active, records, (small, large))
            assert point.accuracy.value == pytest.approx(right)
            assert point.macs.value == pytest.approx(macs)
            passed = sent if design.family.rest == CLOUD else 0
            assert 1 - point.edge_probability.value == pytest.approx(passed)


def _loop(
    policy: Confidence,
    active: Sequence[int],
    records: Sequence[ExitRecords],
    artifacts: Sequence[EvaluatedArtifact],
) -> tuple[float, float, float]:
    """Answer image by image; returns accuracy, mean MACs and the share that is passed on."""
    own, theirs = (artifact.manifest for artifact in artifacts)
    whole = theirs.exits[-1].macs + theirs.exits[-1].head_macs
    right, macs, passed = 0, 0.0, 0
    for sample, label in enumerate(records[0].truth):
        for exit in active:
            z = records[0].logits[exit, sample] / own.temperatures.per_exit[exit]
            probs = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            macs += own.exits[exit].head_macs
            inner = 1 - (1 - policy.p_tar) / policy.strict  # type: ignore[operator]
            if probs.max() >= (policy.p_tar if exit == active[-1] else inner):
                right += int(probs.argmax()) == label
                macs += own.exits[exit].macs
                break
        else:
            right += int(records[1].logits[-1, sample].argmax()) == label
            macs += own.exits[active[-1]].macs + whole
            passed += 1
    count = len(records[0].truth)
    return right / count, macs / count, passed / count


@pytest.mark.parametrize(
    "given",
    [
        ["fit.goal=accuracy_drop", "fit.limit=0.9"],
        ["fit.goal=edge_probability", "fit.limit=0.5", "rest=cloud"],
    ],
)
def test_a_fitted_deployment_gives_what_the_frontier_found(trained: Path, given: list[str]) -> None:
    directory = run_in(trained, BOTH, *given, "logger=csv")
    deployment = Deployment.load(directory / "deployment.json")
    ids = {
        json.loads((trained / RUNS / name / "artifact" / "manifest.json").read_text())["id"]: name
        for name in ("small", "large")
    }
    own, upstream = ids[deployment.artifact_id], deployment.upstream
    then = [f"upstream={RUNS}/{ids[upstream.artifact_id]}"] if upstream else []
    again = run_in(
        trained,
        f"artifact={RUNS}/{own}",
        f"deployment={directory / 'deployment.json'}",
        *then,
        "logger=csv",
    )
    point = next(row for row in rows(again, "points") if row["deployment"])
    page = (directory / "report.html").read_text()
    right, macs = 100 * float(point["accuracy"]), 1e-6 * float(point["macs"])
    assert f"{right:.1f} % right at {macs:.1f} MMACs" in page
    assert ("rest=cloud" in given) <= (deployment.rest == CLOUD)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([f"artifacts=[{RUNS}/small]"], "allowed are two or more, each once"),
        ([f"artifacts=[{RUNS}/small,{RUNS}/small]"], "1 different ones given"),
        ([BOTH, f"artifact={RUNS}/small"], f"artifacts with artifact={RUNS}/small"),
        ([BOTH, "first=1"], "artifacts with first=1"),
        ([BOTH, "distortion.level=[0,1]"], "allowed is one level"),
        ([BOTH, "rest=nobody"], "rest=nobody: allowed are device, cloud or null"),
        ([f"artifact={RUNS}/small", "rest=cloud"], "rest=cloud without artifacts"),
        ([BOTH, "fit.goal=risk", "fit.limit=0.1"], "fit.goal=risk fit.against=labels over several"),
        ([BOTH, "fit.goal=macs", "fit.limit=1"], "no candidate costs 1 or less"),
        ([BOTH, "split=val"], "thresholds are fitted there; use split=test"),
        ([f"artifacts=[{RUNS}/small,{RUNS}/other]"], "its images are split in another way"),
    ],
)
def test_mistakes_are_one_line(
    trained: Path, capfd: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        run_in(trained, *given, "logger=csv")
    assert said in capfd.readouterr().err
