"""Active branches and knobs as users write them, and names that distinguish settings."""

import pytest

from eenn.errors import EennError
from eenn.exits.policies.patience import Patience
from eenn.exits.policies.threshold import Confidence
from eenn.exits.settings import ActiveBranches, Baseline, Setting, Swept, swept


def test_active_sets_are_what_users_write_counted_from_zero() -> None:
    assert ActiveBranches().sets(3) == [(0,), (0, 1), (0, 1, 2)]
    assert ActiveBranches(first=2).sets(3) == [(0, 1)]
    assert ActiveBranches(first=0).sets(3) == [()]
    assert ActiveBranches(active=[1, 3]).sets(3) == [(0, 2)]
    assert ActiveBranches(active_sets=[[1], [2, 3]]).sets(3) == [(0,), (1, 2)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"first": 4}, "first=4: allowed are 0 to 3 branches"),
        ({"active": [4]}, "allowed is an ascending choice of 1, 2, 3"),
        ({"active": [2, 1]}, "ascending choice"),
        ({"active_sets": [[0]]}, "ascending choice"),
        ({"active": [1], "first": 1}, "active and first: allowed is one of them"),
    ],
)
def test_other_branches_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(EennError, match=said):
        ActiveBranches(**given).sets(3)


def test_a_knob_takes_its_values_from_the_policys_settings_then_from_the_grid_of_its_name() -> None:
    grids = {"p_tar": [0.5, 0.9]}
    assert swept("margin", {"fallback_to": "last_exit"}, grids) == [
        Swept("margin", {"fallback_to": "last_exit"}, [0.5, 0.9])
    ]
    assert [one.values for one in swept("patience", {"agree": 3}, grids)] == [[3]]
    (both,) = swept("patience", {"agree": [1, 2]}, grids)
    assert both.policies() == [Patience(agree=1), Patience(agree=2)]
    assert [one.values for one in swept("patience", {}, grids)] == [[2]]


def test_settings_are_equal_exactly_if_they_answer_alike_and_print_their_knob() -> None:
    one = Setting(Confidence(p_tar=0.8), (0, 2))
    assert one == Setting(Confidence(p_tar=0.8), (0, 2))
    assert one != Setting(Confidence(p_tar=0.8), (0, 2), Baseline.EDGE_ONLY)
    assert (one.name, one.value_text, one.branches, one.number) == ("confidence", "0.8", "1 3", 0.8)
    per_exit = Setting(Confidence(p_tar=(0.9, 0.8)), (0,))
    assert (per_exit.value_text, per_exit.number) == (
        "0.9 0.8",
        pytest.approx(float("nan"), nan_ok=True),
    )
    assert Setting(Patience(agree=2), (0,)).value_text == "agree 2"
    assert Setting(None, (), Baseline.LAST_EXIT_ONLY).name == "last exit only"
    assert Setting(Confidence(p_tar=0.8), (0,), goal="macs 5e+07").name == "confidence, macs 5e+07"
