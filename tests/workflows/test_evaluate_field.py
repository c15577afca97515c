"""evaluate.py field=... as users run it: reports without artifact or images, sweeps, mistakes."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from eenn.statistics.intervals import share
from tests.evaluation.logged import FIRST, SECOND, drawn_entries, write_log
from tests.workflows.evaluating import rows, run_in

COUNT = 600


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with logs of two devices, and nothing else."""
    write_log(tmp_path / "one.jsonl", drawn_entries(COUNT, seed=1))
    write_log(tmp_path / "two.jsonl", drawn_entries(COUNT, seed=2, artifact_id=SECOND))
    return tmp_path


def test_a_log_becomes_a_page_with_figures_and_tables(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (place / "one.jsonl").open("a") as file:
        file.write("damaged\n")
    directory = run_in(place, "field=one.jsonl", "logger=csv", drawn=True)
    lines = [json.loads(line) for line in (place / "one.jsonl").read_text().splitlines()[:-1]]
    left = sum(line["place"] == "edge" and not line["failure"] for line in lines)
    tables = {file.stem for file in (directory / "tables").iterdir()}
    assert tables == {"field", "time", "places", "exits", "heads", "alarms", "outages"}
    (total,) = rows(directory, "field")
    assert float(total["edge_probability"]) == pytest.approx(left / COUNT, abs=1e-6)
    assert [int(row["n"]) for row in rows(directory, "time")] == [20] * 30
    summary = json.loads((directory / "summary.json").read_text())
    (point,) = summary["points"]
    assert (point["n"], point["alarms"], point["bursts"], point["outages"]) == (COUNT, 1, 1, 1)
    assert point["edge_probability_low"] == pytest.approx(share(left, COUNT).low)
    assert (summary["damaged_lines"], summary["field"]) == (1, ["one.jsonl"])
    (figure,) = (directory / "figures").glob("*.png")
    with Image.open(figure) as image:
        assert len(image.getcolors(2**24) or ()) > 100
    page = (directory / "report.html").read_text()
    assert f"{100 * left / COUNT:.1f} % of {COUNT} images left on the edge" in page
    for heading in ("Totals", "Places", "Head sets", "Alarms", "Outages of the cloud"):
        assert f"<h2>{heading}</h2>" in page
    out = capfd.readouterr().out
    assert "damaged lines, left out: 1" in out
    assert "of the settings only name, field and logger are read" in out


def test_a_log_without_a_guard_says_that_nothing_is_known_of_agreement(place: Path) -> None:
    bare = [
        replace(one, guard=None, audit=None, agrees=None, failure="", heads="plain")
        for one in drawn_entries(30, seed=3)
    ]
    write_log(place / "bare.jsonl", bare)
    directory = run_in(place, "field=bare.jsonl", "logger=csv", drawn=True)
    tables = {file.stem for file in (directory / "tables").iterdir()}
    assert tables == {"field", "time", "places", "exits"}
    page = (directory / "report.html").read_text()
    assert "agreement and risk are unknown" in page
    assert "Alarms" not in page
    assert json.loads((directory / "summary.json").read_text())["points"][0]["risk"] is None


def test_several_artifacts_are_apart_and_the_newest_opens_the_page(place: Path) -> None:
    later = [replace(one, time=one.time + 1e6) for one in drawn_entries(COUNT, 4, SECOND)]
    write_log(place / "later.jsonl", later)
    directory = run_in(place, "field=[later.jsonl,one.jsonl]", "logger=csv")
    short = [FIRST[:12], SECOND[:12]]
    assert [row["artifact"] for row in rows(directory, "field")] == short
    figures = {file.stem for file in (directory / "figures").iterdir()}
    assert figures == {f"field_{name}" for name in short}
    opening = (directory / "report.html").read_text().split("</header>")[0]
    assert f"Artifact {short[1]}, " in opening
    assert f"Artifact {short[0]}, " not in opening


def test_a_sweep_compares_devices(place: Path) -> None:
    directory = run_in(place, "-m", "field=one.jsonl,two.jsonl", "logger=csv")
    with (directory / "comparison.csv").open() as file:
        compared = list(csv.DictReader(file))
    assert [row["field"] for row in compared] == ["one.jsonl", "two.jsonl"]
    for number, row in enumerate(compared):
        (own,) = rows(directory / str(number), "field")
        assert row["edge_probability"] == own["edge_probability"]
    page = (directory / "report.html").read_text()
    assert "agreement %" in page
    assert "risk %" in page


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["field=none.jsonl"], "none.jsonl: No such file"),
        (["field=[]"], "field: allowed are a file or a list of different ones"),
        (["field=[one.jsonl,one.jsonl]"], "field: allowed are a file or a list of different ones"),
        (["field=one.jsonl", "artifact=DIR"], "field with artifact=DIR"),
        (["field=one.jsonl", "first=1", "compare=margin"], "first=1 compare=margin"),
        (["field=one.jsonl", "fit.goal=risk", "fit.limit=0.1"], "field with fit.goal=risk"),
        (["field=notes.txt"], "notes.txt: no line is an entry of a field log"),
    ],
)
def test_mistakes_are_one_line(
    place: Path, capfd: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    (place / "notes.txt").write_text("no log\n")
    with pytest.raises(SystemExit):
        run_in(place, *given, "logger=csv")
    error = capfd.readouterr().err
    assert said in error
    assert "Traceback" not in error
