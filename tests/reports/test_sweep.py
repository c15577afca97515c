"""The comparison of a sweep, against directories made by hand."""

import csv
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from eenn.reports.sweep import compare, rows_of
from eenn.reports.sweep_jobs import SweepJob
from tests.reports.swept import evaluated, point, trained, write_job, write_sweep

pytest_plugins = ["tests.reports.browser"]

WIDEST = 140


def read(file: Path) -> list[dict[str, str]]:
    with file.open() as opened:
        return list(csv.DictReader(opened))


def header(shown: str) -> list[str]:
    line = next(line for line in shown.splitlines() if line.startswith("|"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Sequence[str]]:
    """A sweep of eight evaluations over two settings; one failed, one was cut short, one not begun.

    With it what is printed, and the lines about jobs without a result.
    """
    sweep = tmp_path_factory.mktemp("sweep")
    values = itertools.product((0.7, 0.8), (1, 2, 3, 4))
    jobs = [{"p_tar": str(p_tar), "first": str(first)} for p_tar, first in values]
    write_sweep(sweep, "evaluate", jobs)
    for number, job in enumerate(jobs[:7]):
        active = " ".join(map(str, range(1, 1 + int(job["first"]))))
        result = evaluated(float(job["p_tar"]), active) if number < 5 else None
        error = "images=nowhere: give <another>" if number == 5 else ""
        write_job(sweep / str(number), job, result, error)
    return (sweep, *compare(sweep))


def test_a_table_has_a_column_for_what_varies_and_each_job_once(
    evaluations: tuple[Path, str, Sequence[str]],
) -> None:
    _, shown, _ = evaluations
    columns = header(shown)
    assert columns[:3] == ["job", "p_tar", "first"]
    # The same in all jobs, and so above the table.
    assert not {"network", "n", "seed", "level"} & set(columns)
    assert "network 3 branches" in shown.split("|")[0]
    assert len(columns) == len(set(columns))
    assert max(map(len, shown.splitlines())) <= WIDEST
    table = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("|")]
    assert table[2:] == [*"01234567", "all"]


def test_jobs_without_a_result_are_named_with_what_to_do(
    evaluations: tuple[Path, str, Sequence[str]],
) -> None:
    sweep, _, unfinished = evaluations
    failed, missing = unfinished
    assert "job 5 (p_tar=0.8 first=2) failed: images=nowhere: give <another>" in failed
    assert missing.startswith("jobs 6, 7: ")
    assert all(f"`python evaluate.py resume={sweep}`" in line for line in unfinished)
    states = [row["state"] for row in read(sweep / "comparison.csv")]
    assert states == [*5 * ["finished"], "failed", *2 * ["missing"], "finished"]


def test_numbers_are_numbers_with_their_intervals(
    evaluations: tuple[Path, str, Sequence[str]],
) -> None:
    sweep, _, _ = evaluations
    content = json.loads((sweep / "comparison.json").read_text())
    assert content["varied"] == ["p_tar", "first"]
    for number, job in enumerate(content["jobs"]):
        assert job["job"] == number
        assert job["varied"] == {"p_tar": (0.7, 0.8)[number // 4], "first": number % 4 + 1}
    file = sweep / "0" / "summary.json"
    (own, whole) = json.loads(file.read_text())["points"]
    assert content["jobs"][0]["points"] == [own]
    (reference,) = content["references"]
    assert reference == {"jobs": [0, 1, 2, 3, 4], **whole}
    first = read(sweep / "comparison.csv")[0]
    for name in ("accuracy", "accuracy_low", "accuracy_high", "macs", "sent_bytes"):
        assert float(first[name]) == pytest.approx(own[name], rel=1e-5)


def test_a_page_leads_to_each_finished_job(
    evaluations: tuple[Path, str, Sequence[str]], open_page: Callable[[Path], Page]
) -> None:
    sweep, _, _ = evaluations
    page = open_page(sweep / "report.html")
    links = page.locator("td a")
    assert links.evaluate_all("all => all.map(a => a.getAttribute('href'))") == [
        f"{job}/report.html" for job in range(5)
    ]
    assert "give <another>" in page.locator("main").inner_text()
    headings = page.locator("h2").all_inner_texts()
    assert "Edge probability over p_tar by first" in headings
    headline = page.locator("#headline")
    assert headline.locator("h2").inner_text().startswith("p_tar=0.8 first=1: 88.0 % right")
    assert "Accuracy over MMACs" in headline.locator("figcaption").inner_text()
    assert {file.stem for file in (sweep / "figures").glob("*.png")} == {
        "accuracy", "edge_probability", "macs",
    }  # fmt: skip


def test_trainings_are_compared_exit_by_exit(tmp_path: Path) -> None:
    jobs = [{"branches": "0"}, {"branches": "2"}]
    write_sweep(tmp_path, "train", jobs)
    write_job(tmp_path / "0", jobs[0], trained([0.5]))
    write_job(tmp_path / "1", jobs[1], trained([0.25, 0.75, 0.5]))
    shown, unfinished = compare(tmp_path)
    assert not unfinished
    # An accuracy stays in its column where it is equal by chance.
    expected = ["job", "branches", "exit 1 %", "exit 2 %", "accuracy %", "MMACs"]
    assert header(shown) == expected
    rows = read(tmp_path / "comparison.csv")
    assert [row["exit2_accuracy"] for row in rows] == ["", "0.75"]
    # Every exit's head is computed on the way to the last.
    assert [float(row["macs"]) for row in rows] == [11e6, 33e6]
    assert {file.stem for file in (tmp_path / "figures").glob("*.png")} == {"accuracy", "macs"}


def test_a_baseline_that_one_setting_changes_is_a_row_for_each_of_its_values() -> None:
    def job(number: int, p_tar: str, level: str) -> SweepJob:
        own = point("confidence", 0.5, 0.5 + number / 10, level=float(level), p_tar=float(p_tar))
        whole = point("last exit only", 1 - float(level) / 10, 0.0, level=float(level))
        varied = {"p_tar": p_tar, "distortion.level": level}
        return SweepJob(number, varied, "finished", points=[own], references=[whole])

    pairs = itertools.product(("0.7", "0.8"), ("0", "1"))
    rows, _ = rows_of([job(number, *pair) for number, pair in enumerate(pairs)])
    shared = [(r["job"], r["p_tar"], r["distortion.level"], r["accuracy %"][:5]) for r in rows[4:]]
    assert shared == [("2 jobs", "", "0", "100.0"), ("2 jobs", "", "1", "90.0 ")]
    assert all("level" not in row for row in rows)


def test_a_setting_that_is_a_path_is_told_by_what_differs() -> None:
    paths = ["/data/a run/artifact", "/data/another/artifact", "/data/another/artifact"]
    points = [point("confidence", 0.5, k / 4) for k in range(3)]
    jobs = [
        SweepJob(k, {"artifact": path}, "finished", points=[own])
        for k, (path, own) in enumerate(zip(paths, points, strict=True))
    ]
    rows, _ = rows_of(jobs)
    assert [row["artifact"] for row in rows] == ["a run", "another", "another"]


def test_a_training_of_experts_keeps_its_own_columns(tmp_path: Path) -> None:
    jobs = [{"recipe.lr": "0.1"}, {"recipe.lr": "0.01"}]
    write_sweep(tmp_path, "train_experts", jobs)
    for number, job in enumerate(jobs):
        result = {"table": [{"expert": "jpeg", "exit 1": f"1.0 -> {number}.0"}]}
        write_job(tmp_path / str(number), job, result)
    (tmp_path / "2").mkdir()
    shown, (line,) = compare(tmp_path)
    assert header(shown) == ["job", "recipe.lr", "state", "exit 1"]
    assert f"`python train.py --config-name train_experts resume={tmp_path}`" in line


settings = st.dictionaries(
    st.sampled_from(["p_tar", "seed", "name", "first"]),
    st.sampled_from(["0.5", "0", "text", "[1,2]", "a/b", "null"]),
    min_size=1,
)


@given(
    st.lists(st.tuples(settings, st.sampled_from(["finished", "failed", "missing"])), min_size=1)
)
def test_every_job_is_in_the_table_whatever_varies(jobs: list[tuple[dict[str, str], str]]) -> None:
    keys = jobs[0][0].keys()

    def job(number: int, varied: dict[str, str], state: str) -> SweepJob:
        points: list[Any] = [point("confidence", 0.5, 0.5)] if state == "finished" else []
        own = {key: varied.get(key, "0") for key in keys}
        return SweepJob(number, own, state, points=points)

    made = [job(number, *one) for number, one in enumerate(jobs)]
    rows, alike = rows_of(made)
    assert [row["job"] for row in rows] == [str(number) for number in range(len(jobs))]
    assert len({tuple(row) for row in rows}) == 1
    assert not alike.keys() & rows[0].keys()
    for row, one in zip(rows, made, strict=True):
        assert row.get("state", "") == ("" if one.state == "finished" else one.state)
