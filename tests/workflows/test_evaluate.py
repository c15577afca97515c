"""evaluate.py as its users run it: what it leaves behind, passes it saves, sweeps and mistakes."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page

import eenn.records.profiling
import eenn.records.recording
from benchmarks.wandb_runs import runs
from eenn.artifact import store
from eenn.data.datasets import FolderImages
from eenn.data.splits import Split
from tests.artifact.trained_run import PREPROCESSING, make_run
from tests.workflows.evaluating import rows, run_in

pytest_plugins = ["tests.reports.browser"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "all", ant=60, bee=60, cat=60, dog=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder in which a network with three branches was trained."""
    root = tmp_path_factory.mktemp("trained")
    make_run(root / "outputs" / "train" / "noise" / "1", images, branches=3)
    return root


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of all passes of a network that are made from here on."""
    made: list[str] = []
    real = eenn.records.recording.record

    def counted(*arguments: Any) -> Any:
        made.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(eenn.records.recording, "record", counted)
    return made


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> Path:
    """The run directory of the default evaluation, tracked by W&B."""
    return run_in(trained, drawn=True)


def test_the_default_evaluation_leaves_tables_figures_and_a_page(evaluated: Path) -> None:
    assert {file.stem for file in (evaluated / "tables").iterdir()} == {
        "points", "exits", "quality", "tradeoff", "agreement", "drift", "classes",
    }  # fmt: skip
    figures = {file.name for file in (evaluated / "figures").iterdir()}
    assert {"edge_probability.png", "edge_probability.pdf", "tradeoff_3_branches.png"} <= figures
    page = (evaluated / "report.html").read_text()
    assert page.count("<img") == len(figures) / 2
    summary = json.loads((evaluated / "summary.json").read_text())
    assert {"data", "seed", "hardware", "git_commit", "date", "torch"} <= set(summary)
    assert summary["data"] == "noise"
    quality = rows(evaluated, "quality")
    assert [row["exit"] for row in quality] == [str(row["exit"]) for row in summary["exit_metrics"]]


def test_a_point_is_what_a_loop_over_single_images_finds(
    evaluated: Path, trained: Path, images: Path
) -> None:
    saved = store.load(trained / "outputs" / "train" / "noise" / "1" / "artifact")
    manifest, source = saved.manifest, FolderImages(images)
    label_of = dict(zip(source.sample_ids, source.labels, strict=True))
    index = {sample_id: i for i, sample_id in enumerate(source.sample_ids)}
    p_tar, active, macs = 0.8, (0, 1), []
    right = early = 0
    test = Split.load(manifest.split_file).test
    for sample_id in test:
        x = torch.from_numpy(PREPROCESSING(source.read(index[sample_id], 36)))[None]
        seen: list[tuple[float, int]] = []
        cost = manifest.exits[0].macs
        for k, (logits, _) in enumerate(saved.network.steps(x)):
            if k:
                cost += manifest.exits[k].macs - manifest.exits[k - 1].macs
            if k not in (*active, 3):
                continue
            cost += manifest.exits[k].head_macs
            probs = torch.softmax(
                logits[0].detach().double() / manifest.temperatures.per_exit[k], -1
            )
            seen.append((float(probs.max()), int(probs.argmax())))
            if seen[-1][0] >= p_tar:
                early += k < 3
                right += seen[-1][1] == label_of[sample_id]
                break
        else:
            right += seen[-1][1] == label_of[sample_id]
        macs.append(cost)
    (row,) = (
        row
        for row in rows(evaluated, "points")
        if (row["policy"], row["p_tar"], row["active"]) == ("confidence", "0.8", "1 2")
    )
    assert 0 < early < len(test)
    assert int(row["n"]) == len(test)
    assert float(row["accuracy"]) == pytest.approx(right / len(test), rel=1e-5)
    assert float(row["edge_probability"]) == pytest.approx(early / len(test), rel=1e-5)
    assert float(row["macs"]) == pytest.approx(np.mean(macs), rel=1e-5)
    assert float(row["accuracy_low"]) < float(row["accuracy"]) < float(row["accuracy_high"])


def test_it_is_tracked_by_wandb_without_an_account(evaluated: Path) -> None:
    (run,) = runs(evaluated)
    logged = {key.split("/")[0] for key in run.history}
    assert {"points", "exits", "quality", "edge_probability", "tradeoff_3_branches"} <= logged
    assert (run.name, run.group, run.kind, run.tags) == ("grid", "", "evaluate", ())
    # The one point of a whole grid that keeps within one point of the last exit at least MACs.
    points = rows(evaluated, "points")
    (last,) = (float(row["accuracy"]) for row in points if row["policy"] == "last exit only")
    near = [
        row
        for row in points
        if row["policy"] == "confidence" and float(row["accuracy"]) >= last - 0.01 - 1e-9
    ]
    best = min(near, key=lambda row: float(row["macs"]))
    assert (run.config["p_tar"], run.config["active"]) == (float(best["p_tar"]), best["active"])
    assert run.summary["accuracy"] == pytest.approx(float(best["accuracy"]), rel=1e-5)
    # No W&B run trained the model, so its id is all there is.
    assert run.config["model_id"]
    assert run.config["model_artifact"] is None


def test_jobs_share_records_and_a_second_sweep_makes_no_pass(
    trained: Path, passes: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sweep = ("-m", "p_tar=0.5,0.9", "distortion.level=0,0.7", "logger=csv")
    directory = run_in(trained, *sweep)
    # The split that is evaluated and, for drift, the validation split.
    levels = [title.split()[-1] for title in passes]
    assert levels in (["0", "0", "0.7"], ["0.7"])
    jobs = sorted(job.name for job in directory.iterdir() if job.name.isdigit())
    assert jobs == list("0123")
    table = capsys.readouterr().out
    assert re.search(r"job \|\s+p_tar \|\s+distortion\.level \|", table)

    passes.clear()
    for room, name in ((eenn.records.recording, "record"), (eenn.records.profiling, "profile")):
        monkeypatch.setattr(room, name, lambda *_: pytest.fail("a pass of the network"))
    again = run_in(trained, *sweep)
    for job in range(4):
        assert rows(again / str(job), "points") == rows(directory / str(job), "points")


def test_another_artifact_split_or_level_gets_records_of_its_own(
    tmp_path: Path, images: Path, passes: list[str]
) -> None:
    few = ("p_tar=0.8", "logger=csv")
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=1)
    # The first run records the validation split as well.
    for expected, overrides in (
        (2, ()),
        (3, ("split=train",)),
        (4, ("distortion.level=0.5",)),
        (5, ("distortion.level=0.50001",)),
        (5, ("split=val",)),
    ):
        run_in(tmp_path, *few, *overrides)
        assert len(passes) == expected
    # The same run, trained again: latest is another artifact now.
    make_run(tmp_path / "outputs" / "train" / "noise" / "2", images, branches=1, seed=1)
    run_in(tmp_path, *few)
    assert len(passes) == 7


def test_an_interrupted_evaluation_goes_on_at_the_level_where_it_stopped(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=1)
    settings = ("p_tar=0.8", "distortion.level=[0,0.5,1]")
    real, made = eenn.records.recording.record, list[str]()

    def interrupted(*arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(eenn.records.recording, "record", interrupted)
    with pytest.raises(SystemExit):
        run_in(tmp_path, *settings)
    monkeypatch.setattr(eenn.records.recording, "record", lambda *a: made.append(a[-1]) or real(*a))
    run_in(tmp_path, *settings)
    levels = [title.split()[-1] for title in made if "test" in title]
    assert levels == ["0", "0.5", "1"]
    # W&B says 255 of what was interrupted.
    assert sorted(run.exit_code or 0 for run in runs(tmp_path)) == [0, 255]


def test_a_damaged_record_is_named_rebuilt_and_never_trusted(
    tmp_path: Path, images: Path, passes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=1)
    before = rows(run_in(tmp_path, "p_tar=0.8", "logger=csv"), "points")
    (file,) = tmp_path.glob("outputs/records/*/test-*.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    after = rows(run_in(tmp_path, "p_tar=0.8", "logger=csv"), "points")
    assert str(file.relative_to(tmp_path)) in capsys.readouterr().out
    assert [title.split(", ")[1] for title in passes] == ["test", "val", "test"]
    assert after == before


def test_a_fitted_threshold_is_reported_on_the_test_split(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_in(
        trained, "fit.goal=macs", "fit.limit=5e5", "p_tar=0.8", "first=3", "logger=csv"
    )
    (fitted,) = json.loads((directory / "summary.json").read_text())["thresholds"]
    (row,) = (row for row in rows(directory, "points") if "macs" in row["policy"])
    assert float(row["p_tar"]) == pytest.approx(fitted["p_tar"])
    assert row["n"] == rows(directory, "points")[0]["n"]


def test_a_search_says_which_branches_go_and_what_that_saves(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = ("fit.goal=accuracy_drop", "fit.limit=0.3", "fit.active=search")
    directory = run_in(trained, *goal, "p_tar=0.8", "distortion.level=[0,1]", "logger=csv")
    untouched, blurred = rows(directory, "savings")
    summary = json.loads((directory / "summary.json").read_text())
    deployed = json.loads((directory / "deployment.json").read_text())["active"]
    off = [branch for branch in (1, 2, 3) if branch not in deployed]
    assert off
    assert untouched["off"] == blurred["off"] == " ".join(map(str, off))
    (fitted,) = summary["thresholds"]
    assert fitted["active"] == untouched["active"] == " ".join(map(str, deployed))
    # The difference is that of two runs, with and without the search.
    plain = run_in(trained, *goal[:2], "first=3", "p_tar=0.8", "logger=csv")
    (all_active,) = (row for row in rows(plain, "points") if "drop" in row["policy"])
    (chosen,) = (
        row for row in rows(directory, "points") if "drop" in row["policy"] and row["level"] == "0"
    )
    for name in ("accuracy", "macs", "latency_ms", "edge_probability"):
        changed = float(chosen[name]) - float(all_active[name])
        assert float(untouched[name]) == pytest.approx(changed, rel=1e-4, abs=1e-5)
    printed, page = capsys.readouterr().out, (directory / "report.html").read_text()
    assert summary["savings"][0]["off"] == untouched["off"]
    for shown in (printed, page):
        assert f"switches off branch{'es' * (len(off) > 1)} {untouched['off']}, and keeps" in shown
    assert "Branches switched off" in page


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (("macs", "1"), "MACs, of which tables show millions: no candidate costs 1 or less"),
        (("risk", "0.0001"), "cannot show a risk of at most 0.0001"),
    ],
)
def test_a_fit_that_cannot_be_keeps_the_report(
    goal: tuple[str, str], said: str, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = (f"fit.goal={goal[0]}", f"fit.limit={goal[1]}", "p_tar=0.8", "first=3", "logger=csv")
    directory = run_in(trained, *given)
    summary = json.loads((directory / "summary.json").read_text())
    (line,) = summary["not_fitted"]
    assert said in line
    assert summary["thresholds"] == []
    assert len(summary["points"]) > 1
    assert "not fitted" in (directory / "report.html").read_text()


def test_thresholds_may_differ_between_exits(trained: Path) -> None:
    alike, apart = (
        rows(run_in(trained, f"thresholds=[{thresholds}]", "first=3", "logger=csv"), "exits")
        for thresholds in ("0.8,0.8,0.8,0.8", "1,0.8,0,0.8")
    )
    usual = rows(run_in(trained, "p_tar=0.8", "first=3", "logger=csv"), "exits")
    left, left_alike, left_apart = (
        [int(row["exit_n"]) for row in table[:4]] for table in (usual, alike, apart)
    )
    assert left_alike == left
    assert left_apart[0] <= left[0]
    assert left_apart[3] == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("thresholds=[0.8,0.9]",), "one for every exit"),
        (("p_tar=high",), "allowed is a number or a list of numbers"),
        (("artifact=nowhere",), "nowhere holds no artifact"),
        (("split=everything",), "allowed are train, val, test"),
        (("p_tar=1.2",), "p_tar=1.2: allowed is 0 to 1"),
        (("first=4",), "first=4: allowed are 0 to 3"),
        (("active=[2,1]",), "ascending choice"),
        (("temperature=warm",), "allowed are per_exit, shared, none"),
        (("policy=luck",), "confidence"),
        (("compare=[luck]",), "allowed are committee, confidence"),
        (("compare=confidence",), "evaluated already"),
        (("fit.goal=macs",), "limit=null: allowed is a number"),
        (("fit.goal=macs", "fit.limit=5e5", "split=val"), "use split=test"),
        (("distortion.level=[]",), "different numbers"),
        (("distortion.level=[0,0,1]",), "different numbers"),
        (("distortion.level=far",), "level=far: allowed is a number"),
        (("link.rtt_ms=fast",), "rtt_ms=fast: allowed is a number"),
        (("batch_size=1.5",), "batch_size=1.5: allowed is a whole number"),
        (("active=some",), "allowed is a list of whole numbers or null"),
        (("policy=patience", "policy.agree=x"), "a whole number of exits"),
        (("artifact=[]",), "allowed are one or more"),
        (("artifact=[latest,latest]",), "allowed are one or more different"),
        (("policy.fallback_to=cloud",), "allowed are last_exit, most_confident"),
        (("distortion.level=-1",), "allowed is 0 (none) or more"),
        (("distortion.kind=fog", "distortion.level=1"), "gaussian_blur"),
        (("link.bandwidth_mbps=0",), "bandwidth above 0"),
        (("batch_size=0",), "batch_size=0: allowed is 1 or more"),
        (("fit.goal=luck", "fit.limit=1"), "allowed are accuracy_drop, edge_probability, macs"),
        (("images=nowhere",), "one folder per class"),
        (("images=outputs/train",), "images=outputs/train holds no readable image; it must hold"),
        (("p_target=0.8",), "p_tar"),
    ],
)
def test_a_mistake_is_one_clear_line(
    overrides: tuple[str, ...], said: str, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_in(trained, *overrides, "logger=csv")
    assert ended.value.code == 1
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line, line


def test_an_artifact_that_was_moved_asks_where_its_images_are(
    trained: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    (trained / "outputs" / "train" / "noise" / "1" / "artifact").rename(moved)
    try:
        with pytest.raises(SystemExit):
            run_in(tmp_path, f"artifact={moved}", "logger=csv")
        assert "give images=PATH" in capfd.readouterr().err
        directory = run_in(tmp_path, f"artifact={moved}", f"images={images}", "logger=csv")
        assert rows(directory, "points")
    finally:
        moved.rename(trained / "outputs" / "train" / "noise" / "1" / "artifact")


def test_both_experiments_run_on_several_networks(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("two", "two_again", "none")]
    for path, branches, seed in zip(paths, (2, 2, 0), (0, 1, 0), strict=True):
        make_run(path, images, branches, seed)
    given = f"artifact=[{trained / 'outputs/train/noise/1'},{','.join(map(str, paths))}]"
    curves = run_in(tmp_path, "experiment=edge_analysis", given, "logger=csv")
    blur = run_in(
        tmp_path, "experiment=blur_committee", given, "distortion.level=[0,1]", "logger=csv"
    )
    networks = {(row["network"], row["seed"]) for row in rows(curves, "points")}
    assert networks == {
        ("3 branches", "0"),
        ("2 branches", "0"),
        ("2 branches", "1"),
        ("conventional network", "0"),
    }
    assert (curves / "figures" / "edge_probability.png").exists()
    assert (blur / "figures" / "level_accuracy.png").exists()
    assert {row["policy"] for row in rows(blur, "points")} >= {"confidence", "committee"}
    assert {row["level"] for row in rows(blur, "points")} == {"0", "1"}


def test_networks_that_differ_in_more_than_their_seed_are_told_apart(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    make_run(tmp_path / "pooled", images, 3, head="pool2")
    given = f"artifact=[{trained / 'outputs/train/noise/1'},{tmp_path / 'pooled'}]"
    directory = run_in(tmp_path, given, "p_tar=0.8", "logger=csv")
    names = {row["network"] for row in rows(directory, "points")}
    assert len(names) == 2
    assert all(any(head in name for name in names) for head in ("linear", "pool2"))


def test_the_temperature_is_a_choice(trained: Path) -> None:
    def confidence(choice: str) -> float:
        directory = run_in(trained, "p_tar=1", "first=1", f"temperature={choice}", "logger=csv")
        return float(rows(directory, "points")[0]["confidence"])

    assert confidence("none") == confidence("shared") != confidence("per_exit")


def test_a_changed_weight_is_noticed_though_the_records_are_there(
    tmp_path: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "outputs" / "train" / "noise" / "1", images, branches=1)
    run_in(tmp_path, "p_tar=0.8", "logger=csv")
    (file,) = tmp_path.glob("outputs/train/noise/1/artifact/weights.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(SystemExit):
        run_in(tmp_path, "p_tar=0.8", "logger=csv")
    assert "was changed after it was written" in capfd.readouterr().err


@pytest.mark.slow
def test_the_page_works_in_a_browser(evaluated: Path, open_page: Callable[[Path], Page]) -> None:
    page = open_page(evaluated / "report.html")
    widths = page.eval_on_selector_all("img", "all => all.map(image => image.naturalWidth)")
    assert widths
    assert all(width > 0 for width in widths)
    settings = page.locator("section", has=page.get_by_role("heading", name="Settings", exact=True))
    settings.locator("summary").click()
    settings.get_by_role("columnheader", name="accuracy %", exact=True).get_by_role(
        "button"
    ).click()
    cells = settings.locator("tbody tr").all_inner_texts()
    assert len(cells) == len(rows(evaluated, "points"))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_answer_is_above_the_fold_and_only_tables_scroll(
    evaluated: Path, open_page: Callable[[Path], Page], width: int, height: int
) -> None:
    page = open_page(evaluated / "report.html")
    page.set_viewport_size({"width": width, "height": height})
    for part in ("h2", "ul", "pre"):
        box = page.locator(f"#headline {part}").bounding_box()
        assert box is not None
        assert box["y"] > 0
        assert box["y"] + box["height"] <= height, part
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    # Inline elements have no width of their own.
    overflowing = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter(each => !each.parentElement.closest(".table"))
            .filter(each => each.getBoundingClientRect().right > innerWidth + 1
                || (each.clientWidth && !each.matches(".table")
                    && each.scrollWidth > each.clientWidth + 1))
            .map(each => each.outerHTML.slice(0, 80))"""
    )
    assert overflowing == []


@pytest.mark.slow
def test_the_first_column_stays_while_a_table_scrolls(
    evaluated: Path, open_page: Callable[[Path], Page]
) -> None:
    page = open_page(evaluated / "report.html")
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    box = page.locator("section", has=page.get_by_role("heading", name="Settings", exact=True))
    table, cell = box.locator(".table"), box.locator("tbody td").first
    before = cell.evaluate("cell => cell.getBoundingClientRect().left")
    assert table.evaluate("table => { table.scrollLeft = 200; return table.scrollLeft; }") == 200
    assert cell.evaluate("cell => cell.getBoundingClientRect().left") == before


def test_the_page_opens_with_the_cheapest_setting_that_keeps_within_one_point(
    evaluated: Path,
) -> None:
    points = rows(evaluated, "points")
    (last,) = (row for row in points if row["policy"] == "last exit only")
    least = float(last["accuracy"]) - 0.01 - 1e-6
    policies = [row for row in points if row["policy"] == "confidence"]
    near = [row for row in policies if float(row["accuracy"]) >= least]
    best = (
        min(near, key=lambda row: float(row["macs"]))
        if near
        else max(policies, key=lambda row: float(row["accuracy"]))
    )
    page = (evaluated / "report.html").read_text()
    shown = page[page.index('id="headline"') : page.index("Origin and settings")]
    assert f"<b>{100 * float(best['accuracy']):.1f} %</b>" in shown
    assert f"<b>{float(best['macs']) / 1e6:.1f}</b>" in shown
    assert f"p_tar {float(best['p_tar']):g}" in shown
    active = ",".join(best["active"].split())
    assert f"active=[{active}]" in shown
    assert "artifact=outputs/train/noise/1/artifact" in shown


def test_a_fit_opens_with_what_was_fitted_and_how_a_device_runs_it(trained: Path) -> None:
    given = ("fit.goal=macs", "fit.limit=5e5", "p_tar=0.8", "first=3", "logger=csv")
    directory = run_in(trained, *given)
    (row,) = (row for row in rows(directory, "points") if "macs" in row["policy"])
    page = (directory / "report.html").read_text()
    shown = page[page.index('id="headline"') : page.index("Origin and settings")]
    assert f"<b>{float(row['macs']) / 1e6:.1f}</b>" in shown
    assert f"--deployment {directory / 'deployment.json'}" in shown
