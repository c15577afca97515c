"""The file of a guard's state: a restarted guard goes on, and damage is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eenn.artifact.guard_settings import GuardSettings
from eenn.errors import EennError
from eenn.offload.adaptation.guard import Guard
from eenn.offload.adaptation.state import GuardState
from eenn.offload.adaptation.state_file import MAX_BYTES, StateFile
from eenn.offload.adaptation.status import status
from tests.offload.adaptation.driven import CANDIDATES, Driver, Phase

SETTINGS = GuardSettings(risk=0.3, delta=0.5, audit=0.3)
VALUES = (0.9, 0.8, 0.7, 0.6, 0.5)
GUARDED = {"artifact_id": "a", "active": [1, 2]}
PHASES = st.builds(
    Phase,
    images=st.integers(0, 60),
    leaves=st.floats(0, 1),
    differs=st.floats(0, 1),
    fails=st.sampled_from([0.0, 0.3]),
    drops=st.sampled_from([0.0, 0.3]),
    lingers=st.sampled_from([0.0, 0.5]),
)
# Files of several examples may lie in the same folder.
IN_A_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def guard_of(state: GuardState | None, reference: float | None = 0.4) -> Guard:
    return Guard(SETTINGS, VALUES, 2, reference, state)


def driven(phases: list[Phase], seed: int, reference: float | None = 0.4) -> Guard:
    guard = guard_of(None, reference)
    for _ in Driver(guard, seed).run(*phases):
        pass
    return guard


def file_in(folder: Path, **changed: Any) -> StateFile:
    return StateFile(folder / "guard.json", GUARDED | changed, CANDIDATES)


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Any]:
    """The content of a file in the middle of a burst."""
    file_in(tmp_path).save(driven([Phase(4, 0.5, 0.2)], 0, None).snapshot())
    content: dict[str, Any] = json.loads((tmp_path / "guard.json").read_text())
    assert content["burst"]["images"] > 0
    return content


@IN_A_FOLDER
@given(st.lists(PHASES, min_size=1, max_size=3), st.integers(0, 9), st.sampled_from([None, 0.4]))
def test_a_guard_goes_on_from_the_file_as_if_it_had_not_ended(
    tmp_path: Path, phases: list[Phase], seed: int, reference: float | None
) -> None:
    before = driven(phases, seed, reference)
    file = file_in(tmp_path)
    file.save(before.snapshot())
    said = (tmp_path / "guard.json").read_bytes()
    after = guard_of(file.load())
    # Of the newest images and the cloud it knows nothing yet.
    unkept = ("state", "edge_share")
    left, right = (
        {name: value for name, value in status(own, "p_tar").items() if name not in unkept}
        for own in (before, after)
    )
    assert left == right
    assert after.suspects == before.suspects
    file_in(tmp_path).save(after.snapshot())
    assert (tmp_path / "guard.json").read_bytes() == said
    for _ in Driver(after, seed).run(Phase(30, 0.5, 0.5)):
        pass
    assert after.state.totals["images"] == before.state.totals["images"] + 30


def test_a_state_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    file_in(tmp_path).save(driven([Phase(9, 0.5, 0.2)], 0).snapshot())
    assert file_in(tmp_path).load() is not None
    assert file_in(tmp_path, active=[1]).load() is None
    assert file_in(tmp_path / "nowhere").load() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b" " * (MAX_BYTES + 1),
    ],
    ids=["empty", "cut", "list", "null", "bytes", "nested", "deep", "digits", "huge"],
)
def test_what_is_not_a_state_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "guard.json").write_bytes(content)
    with pytest.raises(EennError, match=r"is not the state of a guard.*remove it") as refused:
        file_in(tmp_path).load()
    assert str(refused.value).isprintable()


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "guard.json").mkdir()
    with pytest.raises(EennError, match=r"guard\.json"):
        file_in(tmp_path).load()


BAD: dict[str, list[Any]] = {
    "at": [-2, CANDIDATES, 1.5, "1", None, True],
    "reference": [-0.1, 1.1, float("nan"), "x"],
    "tolerance": [-1, float("inf"), 10**400, None],
    "risk_values": [[1.0], [-1.0] * 6, [float("nan")] * 6, 7],
    "share_values": [[1.0], ["x"] * 6],
    "risk": [{"events": 2, "audits": 1, "weight": 1.0}, None, []],
    "disagreement": [{"events": 10**400, "audits": 10**400, "weight": 1.0}],
    "burst": [
        {"leaves": [0], "differs": [0], "images": 0},
        {"leaves": [-1] * CANDIDATES, "differs": [0] * CANDIDATES, "images": 1},
        {"leaves": [2] * CANDIDATES, "differs": [0] * CANDIDATES, "images": 1},
        {"leaves": [0] * CANDIDATES, "differs": [0] * CANDIDATES, "images": 10**9},
        {"leaves": [0] * CANDIDATES, "differs": [0] * CANDIDATES, "images": -1},
        [1],
    ],
    "burst_size": [-1, 1.5, 10**400],
    "since": [-1, "x"],
    "gap": [-1, None],
    "totals": [{}, {"images": 1}, None],
}


@pytest.mark.parametrize(("name", "value"), [(key, own) for key in BAD for own in BAD[key]])
def test_a_number_out_of_range_is_refused(
    stored: dict[str, Any], tmp_path: Path, name: str, value: object
) -> None:
    (tmp_path / "guard.json").write_text(json.dumps(stored | {name: value}))
    with pytest.raises(EennError, match="is not the state of a guard"):
        file_in(tmp_path).load()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from([0, 1, 6, 2**53, 10**30, 1e308, 5e-324]),
    lambda own: st.lists(own, max_size=6) | st.dictionaries(st.text(max_size=3), own, max_size=3),
    max_leaves=6,
)  # fmt: skip


@IN_A_FOLDER
@given(st.data())
def test_whatever_stands_in_a_file_is_refused_or_can_be_gone_on_from(
    stored: dict[str, Any], tmp_path: Path, data: st.DataObject
) -> None:
    content = json.loads(json.dumps(stored))
    place, key = data.draw(st.sampled_from([*places(content)]))
    if data.draw(st.booleans()):
        place[key] = data.draw(JUNK)
    elif isinstance(place, dict):
        del place[key]
    (tmp_path / "guard.json").write_text(json.dumps(content))
    try:
        guard = guard_of(file_in(tmp_path).load())
    except EennError:
        return
    json.dumps(status(guard, "p_tar"), allow_nan=False)
    for _ in Driver(guard, 0).run(Phase(40, 0.5, 0.5)):
        pass
    json.dumps(status(guard, "p_tar"), allow_nan=False)
    file_in(tmp_path).save(guard.snapshot())
    assert file_in(tmp_path).load() is not None


def places(content: Any) -> Any:
    """Every place in nested lists and dictionaries: the container, and the key in it."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])
