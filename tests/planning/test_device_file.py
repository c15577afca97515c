"""Files of devices that are not at hand, and odd ones: each is one line that says what to do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eenn.errors import EennError
from eenn.planning.device_file import DeviceFile, Totals
from eenn.planning.device_profile import MAX_BYTES, DeviceProfile
from tests.planning.networks import network, profile

WRITTEN = {
    "version": 1,
    "device": "Raspberry Pi 4",
    "kind": "cpu",
    "totals": {"stages": {"0-19": 410}, "exits": {"0-6": 420.5}},
}


def written(path: Path, **changes: Any) -> Path:
    file = path / "pi.json"
    file.write_text(json.dumps({**WRITTEN, **changes}))
    return file


def test_a_file_says_what_is_known_of_a_device(tmp_path: Path) -> None:
    found = DeviceFile.load(written(tmp_path))
    assert found == DeviceFile(
        device="Raspberry Pi 4", kind="cpu", totals=Totals({"0-19": 410}, {"0-6": 420.5})
    )
    assert found.totals.parts == {("stages", "0-19"): 410, ("exits", "0-6"): 420.5}
    totals = {**WRITTEN["totals"], "preprocess_ms": 12.0}
    more = DeviceFile.load(written(tmp_path, totals=totals, precision="int8", threads=4))
    assert (more.precision, more.threads, more.totals.preprocess_ms) == ("int8", 4, 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "object of version 1"),
        ({"kind": "tpu"}, "kind=tpu: allowed are cpu, gpu"),
        ({"kind": 3}, "kind is 3"),
        ({"device": None}, "device is None"),
        ({"threads": "four"}, "threads is 'four'"),
        ({"threads": 0}, "threads=0: allowed is 1 or more"),
        ({"thread": 4}, "thread: allowed are version, device, kind, totals, precision, threads"),
        ({"totals": {}}, "give at least one"),
        ({"totals": {"preprocess_ms": 3.0}}, "give at least one"),
        ({"totals": {"stages": [410]}}, r"stages is \[410\]"),
        ({"totals": {"stages": {"whole": 410}}}, "'whole' is not a key"),
        ({"totals": {"exits": {"0-6; rm": 410}}}, "exits: '0-6; rm' is not a key"),
        ({"totals": {"exits": {"0-6": 0}}}, "allowed are 1e-06 to 1e"),
        ({"totals": {"exits": {"0-6": -1}}}, "allowed are 1e-06 to 1e"),
        ({"totals": {"exits": {"0-6": float("nan")}}}, "allowed are 1e-06 to 1e"),
        ({"totals": {"exits": {"0-6": 10**400}}}, "allowed are 1e-06 to 1e"),
        ({"totals": {"exits": {"0-6": 3}, "preprocess_ms": -1}}, "allowed are 1e-06 to 1e"),
    ],
)
def test_an_odd_file_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = written(tmp_path, **changes)
    with pytest.raises(EennError, match=said) as caught:
        DeviceFile.load(file)
    assert str(caught.value).startswith(f"{file} is not the file of a device: ")
    assert 'write {"version": 1, ' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b" " * (MAX_BYTES + 1)])
def test_a_broken_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "pi.json"
    file.write_bytes(content)
    with pytest.raises(EennError, match="is not the file of a device") as caught:
        DeviceFile.load(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EennError, match=r"No such file or directory; write \{"):
        DeviceFile.load(tmp_path / "pi.json")


def test_a_profile_keeps_its_times_within_bounds(tmp_path: Path) -> None:
    work = network(1)
    whole = profile(work, np.ones(5) * 1e-7)
    whole.save(tmp_path / "profile.json")
    assert DeviceProfile.load(tmp_path / "profile.json") == whole
    for change in ({"preprocess_ms": -1.0}, {"classifier_ms": 1e10}, {"blocks": {"1": 10**400}}):
        with pytest.raises(EennError, match="allowed are 0 to 1e"):
            replace(whole, **change)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_size": 0}, "input_size: allowed are 1 to 65536 pixels"),
        ({"input_size": 10**400}, "input_size: allowed are 1 to 65536 pixels"),
        ({"threads": -4}, "threads=-4: allowed is 1 or more"),
        ({"requests": {"0-fp32": {"sent_bytes": 1e308, "codec_ms": 1}}}, "0 to 1e\\+12 bytes"),
        ({"speed": 3}, "speed: allowed are version, artifact_id, "),
    ],
)
def test_an_odd_profile_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    profile(network(1), np.ones(5)).save(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(EennError, match=said) as caught:
        DeviceProfile.load(file)
    assert str(caught.value).startswith(f"{file} is not the profile of a device: ")
    assert "\n" not in str(caught.value)
