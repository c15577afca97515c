"""docs/configuration.md against what Hydra composes: keys, defaults, and the values of files."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.readme.results import ROOT
from eenn.exits.policies.registry import POLICIES
from eenn.workflows.hydra_job import CONF

PAGE = (ROOT / "docs" / "configuration.md").read_text()
# The groups of each program.
PROGRAMS = {
    "train": ("data", "model", "recipe", "trainer", "logger"),
    "train_experts": ("trainer", "logger"),
    "evaluate": ("policy", "link", "logger"),
    "offload_bench": ("policy", "link", "logger"),
}


def choices(program: str) -> Iterator[tuple[str, dict[str, str]]]:
    """As few compositions as have every file of every group of a program."""
    groups = {
        group: sorted(file.stem for file in (CONF / group).glob("*.yaml"))
        for group in PROGRAMS[program]
    }
    for job in range(max(map(len, groups.values()))):
        yield program, {group: files[job % len(files)] for group, files in groups.items()}


CHOICES = [*choices("train"), *choices("evaluate")]
Rows = list[dict[str, str]]


def tables(block: str) -> list[Rows]:
    """The tables of a generated block, their rows by column."""
    (text,) = re.findall(rf"<!-- generated: {block} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    found = []
    for one in text.split("\n\n"):
        names, _, *rows = ([cell.strip() for cell in line.split(" | ")] for line in one.split("\n"))
        found.append([dict(zip(_bare(names), _bare(cells), strict=True)) for cells in rows])
    return found


def _bare(cells: list[str]) -> list[str]:
    return [cell.strip("| `") for cell in cells]


def composed(program: str, *overrides: str) -> dict[str, Any]:
    """What a command line comes to, by dotted keys, references to other keys as they stand."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return dict(flat(OmegaConf.to_container(compose(program, list(overrides)))))


def flat(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node and at != "recipe.levels.":
        for name, value in node.items():
            yield from flat(value, f"{at}{name}.")
    else:
        yield at[:-1], node


def value(text: str) -> Any:
    """A value as Hydra reads it, for which 3e-3 is a number."""
    text = re.sub(r"^= (.+)$", r"${\1}", text)
    return OmegaConf.to_container(OmegaConf.create(f"it: {text}"))["it"]  # type: ignore[index,call-overload]


def in_group(key: str, program: str) -> bool:
    """The key belongs to a group's file, not to the program's own."""
    groups = {group for group in PROGRAMS[program] if group != "recipe"}
    if program == "train":
        return key == "name" or key.split(".")[0] in {
            *groups,
            "augmentation",
            "regularisation",
            "optimiser",
        }
    return key.split(".")[0] in groups


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_page_has_the_keys_of_a_program_with_their_defaults(program: str) -> None:
    (rows,) = tables(f"keys_of_{program}")
    page = {row["key"]: value(row["default"]) for row in rows if row["default"]}
    own = {key: given for key, given in composed(program).items() if not in_group(key, program)}
    if program == "train":
        assert page.pop("name") == "???"  # the data file has it
    assert page == own


@pytest.mark.parametrize(("program", "chosen"), CHOICES)
def test_the_page_has_the_keys_of_groups_with_the_values_of_every_file(
    program: str, chosen: dict[str, str]
) -> None:
    whole = composed(program, *(f"{group}={file}" for group, file in chosen.items()))
    of_page: dict[str, Any] = {}
    for group, file in chosen.items():
        keys, *by_file = tables(f"keys_of_{group}")
        if by_file:
            (row,) = (row for row in by_file[0] if row[f"{group}="] == file)
            own = {f"{group}.{key}": value(text) for key, text in row.items() if text}
            name = own.pop(f"{group}.{group}=")
            of_page |= own | ({"policy.name": name} if group == "policy" else {})
        else:
            of_page |= {row["key"]: value(row[file]) for row in keys if row[file]}
    own = {key: given for key, given in whole.items() if in_group(key, program)}
    assert of_page == own


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_key_on_the_page_has_a_meaning_and_what_is_allowed(program: str) -> None:
    for block in (program, *PROGRAMS[program]):
        for row in tables(f"keys_of_{block}")[0]:
            assert len(row["meaning"]) > 3, row
            is_only_above_others = "default" in row and not row["default"]
            assert row["allowed"] or is_only_above_others, row


def test_the_page_lists_all_policies_and_experiments() -> None:
    assert {row["policy="] for row in tables("policies")[0]} == set(POLICIES)
    files = {file.stem for file in (CONF / "experiment").glob("*.yaml")}
    assert {row["experiment="] for row in tables("experiments")[0]} == files
    assert all(" " in row["what it is"] for row in tables("experiments")[0])


def test_keys_on_the_page_are_keys_of_the_files() -> None:
    """Against YAML as its own library reads it, comments and all else left out."""
    for program in PROGRAMS:
        content = yaml.safe_load((CONF / f"{program}.yaml").read_text())
        own = {key for key in content if key not in ("defaults", "hydra")}
        (rows,) = tables(f"keys_of_{program}")
        assert {row["key"].split(".")[0] for row in rows} == own
