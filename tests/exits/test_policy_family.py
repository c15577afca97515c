"""One family of policies: a new one is a class, and every program of the project knows it."""

import ast
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eenn.errors import EennError
from eenn.exits.policies.base import (
    Policy,
    Validation,
)
from eenn.exits.policies.registry import POLICIES, make_policy, policy_from_json
from tests.exits.policy_contract import GIVEN, check_policy, outputs

pytest_plugins = ["tests.exits.toy_policy"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(seed=st.integers(0, 20), value=st.floats(0, 1))
def test_a_policy_keeps_the_contract(name: str, seed: int, value: float) -> None:
    check_policy(name, seed, {**GIVEN, "p_tar": value, "agree": 1 + int(2 * value)})


def test_thresholds_per_exit_come_back_from_text_as_well() -> None:
    policy = make_policy("confidence", {"p_tar": [0.9, 0.8, 0.7]})
    assert policy_from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a policy"),
        ("[1]", "not a policy"),
        ('"margin"', "not a policy"),
        ('{"p_tar": 0.5}', "not a policy"),
        ('{"name": "luck"}', "policy luck: allowed are"),
        ('{"name": "margin"}', "policy margin needs a value for p_tar"),
        ('{"name": "margin", "p_tar": 0.5, "ptar": 1}', "policy margin has no setting ptar"),
        ('{"name": "margin", "p_tar": 2}', "p_tar=2: allowed is 0 to 1"),
        ('{"name": "margin", "p_tar": "0.5"}', "p_tar=0.5: allowed is 0 to 1"),
    ],
)
def test_other_texts_are_refused(text: str, said: str) -> None:
    with pytest.raises(EennError, match=said):
        policy_from_json(text)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_file_of_a_policy_says_the_defaults_of_its_class(name: str) -> None:
    settings = yaml.safe_load((ROOT / "conf" / "policy" / f"{name}.yaml").read_text())
    assert settings.pop("name") == name
    policy = POLICIES[name]
    knob = policy.knob
    defaults = {f.name: f.default for f in fields(policy)}
    if knob is not None:
        defaults[knob.name] = knob.default
    assert {key: defaults[key] for key in settings} == settings


def test_nothing_names_a_policy_outside_its_file() -> None:
    """Their names in code would be special cases; `confidence` is also a quantity of every row."""
    names, classes = set(POLICIES), {policy.__name__ for policy in POLICIES.values()}
    room = ROOT / "eenn" / "exits" / "policies"
    for file in [*(ROOT / "eenn").rglob("*.py"), *ROOT.glob("*.py")]:
        text = file.read_text()
        # What has nothing to do with exits may have windows and patience of its own.
        if file.parent == room or "eenn.exits" not in text:
            continue
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                assert node.value not in names - {"confidence"}, (file, node.lineno)
            if isinstance(node, ast.ImportFrom):
                assert not {alias.name for alias in node.names} & classes, (file, node.lineno)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("make_policy", "find_policy", "Swept", "swept")
            ):
                assert "confidence" not in [
                    ast.literal_eval(a) for a in node.args if isinstance(a, ast.Constant)
                ]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                assert not classes & set(ast.unparse(node.args[1]).split(" | ")), file
    for page in (ROOT / "eenn").rglob("*.js"):
        assert not any(f'"{name}"' in page.read_text() for name in names)


def test_a_device_without_records_says_what_a_policy_is_fitted_to(toy: type[Policy]) -> None:
    with pytest.raises(EennError, match="fitted to validation records, which are not at hand"):
        make_policy("toy", {"share": 0.5})
    with pytest.raises(EennError, match="fitted to the exits' accuracies"):
        make_policy("committee", {"p_tar": 0.5})


def test_the_text_of_a_fitted_policy_holds_what_was_fitted(toy: type[Policy]) -> None:
    data = outputs(1)
    policy = make_policy("toy", {"share": 0.25}, Validation(read=lambda: data))
    least = float(np.quantile(data.exits[0].confidence, 0.75))
    assert json.loads(policy.to_json())["least"] == pytest.approx(least)
    assert policy_from_json(policy.to_json()) == policy
