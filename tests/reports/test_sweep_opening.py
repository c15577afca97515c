"""The opening of a sweep's page, against the rule worked out by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eenn.reports.sweep_curves import sweep_figures
from eenn.reports.sweep_jobs import SweepJob
from eenn.reports.sweep_opening import sweep_answer
from tests.reports.swept import point


def job(number: int, accuracy: float, edge: float, **varied: str) -> SweepJob:
    own = point("confidence", accuracy, edge, level=float(varied.get("level", 0)))
    return SweepJob(number, varied, "finished", points=[own])


@given(
    st.lists(
        st.tuples(st.integers(500, 1000), st.integers(0, 100)), min_size=2, max_size=8, unique=True
    )
)
def test_no_job_is_cheaper_that_loses_at_most_one_point(found: list[tuple[int, int]]) -> None:
    jobs = [
        job(n, right / 1000, edge / 100, p_tar=f"0.{n}") for n, (right, edge) in enumerate(found)
    ]
    answer = sweep_answer(jobs)
    assert answer is not None
    best = max(right for right, _ in found)
    edges = {n: edge for n, (right, edge) in enumerate(found) if right >= best - 10}
    chosen = int(answer.title.split("0.")[1].split(":")[0])
    assert edges[chosen] == max(edges.values())
    assert f": {found[chosen][0] / 10:.1f} % right" in answer.title


def test_a_whole_network_is_what_the_jobs_are_held_against() -> None:
    whole = point("last exit only", 0.95, 0.0)
    jobs = [
        SweepJob(n, {"p_tar": str(p_tar)}, "finished", points=[own.points[0]], references=[whole])
        for n, p_tar in enumerate((0.7, 0.8))
        for own in [job(n, 0.8 + n / 10, 0.5)]
    ]
    answer = sweep_answer(jobs)
    assert answer is not None
    assert answer.title == "p_tar=0.8: 90.0 % right, 40 % fewer MACs than last exit only"
    assert answer.text.startswith("None of 2 ways keeps within one point of last exit only")


def test_jobs_of_several_seeds_are_their_mean() -> None:
    values = {("2", "0"): 0.9, ("2", "1"): 0.8, ("3", "0"): 0.88, ("3", "1"): 0.88}
    jobs = [
        job(n, accuracy, 0.5, branches=branches, seed=seed)
        for n, ((branches, seed), accuracy) in enumerate(values.items())
    ]
    answer = sweep_answer(jobs)
    assert answer is not None
    assert answer.title == "branches=3: 88.0 % right"
    shown = answer.numbers[0]
    assert (shown.value, shown.beside) == ("88.0 %", "88.0 to 88.0")


def test_where_all_jobs_have_measured_their_time_it_is_the_cost() -> None:
    times = {"0.7": (0.9, 7.0), "0.8": (0.9, 5.0), "0.9": (0.8, 3.0)}
    jobs = [
        SweepJob(
            n, {"p_tar": p_tar}, "finished", points=[point("confidence", right, 0.5, answer_ms=ms)]
        )
        for n, (p_tar, (right, ms)) in enumerate(times.items())
    ]
    answer = sweep_answer(jobs)
    assert answer is not None
    assert answer.title == "p_tar=0.8: 90.0 % right, 29 % less time than p_tar=0.7"
    assert "least time" in answer.text
    drawn = sweep_figures(jobs)
    assert [one.heading for one in drawn][-1] == "Accuracy over time"


def test_distorted_images_count_where_there_are_no_others() -> None:
    jobs = [
        job(n, 0.9 - n / 10, n / 4, level=str(n), first=first) for n in (0, 1) for first in "12"
    ]
    answer = sweep_answer(jobs)
    assert answer is not None
    assert answer.title.startswith("level=0 first=1: 90.0 % right")


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [job(0, 0.9, 0.5, p_tar="0.8")],
        [job(n, 0.9, 0.5, images=name) for n, name in enumerate("ab")],
        [job(n, 0.9, 0.5, link=name, p_tar="0.8") for n, name in enumerate(("lan", "lte"))],
        [job(n, 0.9, 0.5, **{"edge.slowdown": name}) for n, name in enumerate("15")],
        [job(n, 0.9, 0.5, **{"images.root": name}) for n, name in enumerate("ab")],
        [job(n, float("nan"), 0.5, p_tar=name) for n, name in enumerate("ab")],
        [SweepJob(n, {"p_tar": name}, "failed") for n, name in enumerate("ab")],
    ],
)
def test_there_is_no_answer_where_nothing_can_be_compared(jobs: Sequence[SweepJob]) -> None:
    assert sweep_answer(jobs) is None
