"""The code of docs/extending.md, run from the page and held against the contract of its kind."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eenn.data.distortions import DISTORTIONS
from eenn.exits.policies.registry import POLICIES
from eenn.models.backbones.registry import BACKBONES
from eenn.models.heads import HEADS
from eenn.models.own_code.trust import trusting
from eenn.offload.protocol.codecs import CODECS
from eenn.planning.planners.base import PLANNERS
from tests.data.distortion_contract import check_distortion
from tests.evaluation.fit_contract import check_fit
from tests.exits.policy_contract import GIVEN, check_policy
from tests.models.backbone_contract import check_backbone
from tests.models.head_contract import check_head
from tests.offload.protocol.codec_contract import check_codec
from tests.planning.planner_contract import check_planner

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
CODE = re.findall(r"```python\n# (in )?(\S+)\n(.*?)```", PAGE, re.DOTALL)
LINES = 25


@pytest.fixture(autouse=True)
def extended() -> Iterator[set[str]]:
    """The names of all entries that the page adds, until the test ends."""
    tables: list[dict[str, object]]
    tables = [POLICIES, DISTORTIONS, HEADS, CODECS, BACKBONES, PLANNERS]  # type: ignore[list-item]
    before = [dict(table) for table in tables]
    for is_part, path, code in CODE:
        module = path.removesuffix(".py").replace("/", ".")
        if not module.startswith("eenn."):
            continue
        # What is added to a file sees what the file has.
        own = vars(importlib.import_module(module)).copy() if is_part else {"__name__": module}
        exec(compile(code, path, "exec"), own)
    yield {name for table, old in zip(tables, before, strict=True) for name in table.keys() - old}
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def test_the_page_adds_one_entry_of_each_kind(extended: set[str]) -> None:
    assert extended == {"confirmed", "underexposure", "hidden", "uint4", "stack", "at_home"}
    assert PAGE.count("```python") == len(CODE) == 7
    assert max(code.count("\n") for _, _, code in CODE) <= LINES


def test_the_policy_keeps_the_contract() -> None:
    for p_tar in (0.0, 0.5, 0.7, 1.0):
        check_policy("confirmed", seed=3, settings={**GIVEN, "p_tar": p_tar})
    check_fit("confirmed", 0)


def test_the_distortion_keeps_the_contract() -> None:
    for at in (0.0, 0.3, 1.0):
        check_distortion("underexposure", at, (12, 9), 200, 7)


def test_the_head_keeps_the_contract() -> None:
    check_head("hidden")


def test_the_codec_keeps_the_contract() -> None:
    check_codec("uint4")


def test_the_planner_keeps_the_contract() -> None:
    for seed in range(4):
        check_planner("at_home", seed)


def test_the_backbone_keeps_the_contract() -> None:
    check_backbone("stack")


def test_the_backbone_outside_the_repository_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((path, code),) = ((path, code) for _, path, code in CODE if not path.startswith("eenn/"))
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"{path.removesuffix('.py').replace('/', '.')}:blocks"
    assert f"model.build={name}" in PAGE
    with trusting([name]):
        check_backbone(f"custom/{name}")
