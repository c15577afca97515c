"""Texts of tables: names in words, and columns that are the same in all rows."""

import pytest

from eenn.reports.deployments import short_labels
from eenn.reports.tables import common_columns, distorted, words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("geometric_committee", "geometric committee"),
        ("confidence, accuracy_drop 0.01", "confidence, accuracy drop 0.01"),
        ("confidence, one_threshold.json", "confidence, one_threshold.json"),
        ("confidence, my_runs/first_try", "confidence, my_runs/first_try"),
    ],
)
def test_names_are_words_and_those_of_files_stay(name: str, said: str) -> None:
    assert words(name) == said


def test_at_level_0_nothing_is_distorted() -> None:
    assert distorted("gaussian_blur", 0) == "untouched"
    assert distorted("gaussian_blur", 1.5) == "gaussian blur level 1.5"


def test_what_all_rows_have_in_common_is_said_once() -> None:
    rows = [{"network": "5 branches", "p_tar": p, "sent": "-"} for p in ("0.5", "0.6")]
    said, left = common_columns(rows)
    assert said == "In all rows: network 5 branches."
    assert left == [{"p_tar": "0.5"}, {"p_tar": "0.6"}]


@pytest.mark.parametrize(
    "rows", [[], [{"a": "1", "b": "2"}], [{"a": "1"}, {"a": "1"}], [{"a": "1"}, {"b": "1"}]]
)
def test_no_row_loses_its_last_column(rows: list[dict[str, str]]) -> None:
    assert common_columns(rows) == ("", rows)


def test_deployments_are_named_by_what_tells_them_apart() -> None:
    assert short_labels(["runs/1/deployment.json"]) == {"runs/1/deployment.json": "deployment.json"}
    assert list(short_labels(["runs/1/a.json", "runs/1/b.json"]).values()) == ["a.json", "b.json"]
    assert list(short_labels(["x/1/d.json", "x/2/d.json"]).values()) == ["1/d.json", "2/d.json"]
    assert list(short_labels(["d.json", "x/d.json"]).values()) == ["d.json", "x/d.json"]
