"""Blocks of FBNet's space on a Raspberry Pi 4 and a Pixel 3, predicted from other blocks."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from itertools import permutations
from pathlib import Path

import numpy as np

from benchmarks.latency.held_out import Errors, Row
from eenn.errors import EennError
from eenn.exits.policies.base import Floats
from eenn.planning.device_file import DeviceFile, Totals
from eenn.planning.device_prediction import TOTALS_FOR_KINDS, scaled
from eenn.planning.device_profile import CPU, DeviceProfile
from eenn.planning.rates import Rates
from eenn.planning.work import NetworkWork, Work

Block = Mapping[str, str]
FIGURES = ("c_in", "c_out", "side_in", "side_out", "kernel", "expand", "groups")
DRAWS, TOTALS = 100, (1, 3, 10)


def blocks_of(file: Path) -> dict[str, list[Block]]:
    """Read the blocks of a file by device, those whose own time is known.

    Raises:
        EennError: the file cannot be read, or is something else.
    """
    found: dict[str, list[Block]] = {}
    try:
        with file.open() as lines:
            for row in csv.DictReader(lines):
                # Of others, only the difference from the layer in their place is known.
                if row["c_in"] == row["c_out"] and row["stride"] == "1":
                    found.setdefault(row["device"], []).append(row)
    except (OSError, KeyError, ValueError) as error:
        raise EennError(f"{file}: {error!r}; give a CSV file of FBNet's blocks") from error
    return found


def work_of_block(row: Block) -> Work:
    """Count the work of an inverted residual block: pointwise, depthwise, pointwise."""
    c_in, c_out, side_in, side_out, kernel, expand, groups = (int(row[own]) for own in FIGURES)
    inner = c_in * expand
    first, depthwise, last = inner * c_in // groups, inner * kernel**2, inner * c_out // groups
    full_macs = first * side_in**2 + last * side_out**2
    return Work(full_macs, depthwise * side_out**2, first + depthwise + last, 3)


def ms_of(rows: Sequence[Block]) -> Floats:
    """Read the milliseconds of blocks."""
    return np.array([float(row["ms_above_skip"]) for row in rows])


def shapes_left_out(rows: Sequence[Block]) -> Errors:
    """Predict the blocks of every shape by rates that were fitted to the other shapes."""
    shapes = np.array(["x".join((row["c_in"], row["side_in"])) for row in rows])
    features = np.array([[*astuple(work_of_block(row)), 1.0] for row in rows])
    ms, errors = ms_of(rows), []
    for shape in np.unique(shapes):
        out = shapes == shape
        guess = Rates.fitted(features[~out], ms[~out]).predict(features[out])
        errors += np.abs(guess / ms[out] - 1).tolist()
    return Errors.of(errors)


def profile_of(device: str, rows: Sequence[Block]) -> DeviceProfile:
    """Describe blocks as a profile: each as a stage of a network that has them all."""
    ms = {f"{n}-{n + 1}": ms for n, ms in enumerate(ms_of(rows).tolist())}
    return DeviceProfile(
        artifact_id="fbnet", device=device, kind=CPU, precision="fp32", input_size=32, threads=1,
        date="", repeats=1, preprocess_ms=0.0, stages=ms,
    )  # fmt: skip


def from_other_device(
    reference: DeviceProfile, own: DeviceProfile, work: NetworkWork, totals: int, by_kind: bool
) -> Errors:
    """Predict the blocks of a device by those of another and some drawn ones."""
    errors: list[float] = []
    for draw in range(DRAWS):
        drawn = np.random.default_rng(draw).choice(list(own.stages), totals, replace=False)
        known = {key: own.stages[key] for key in drawn.tolist()}
        device = DeviceFile(device=own.device, kind=CPU, totals=Totals(known))
        guess = scaled(reference, device, work if by_kind else None).stages
        errors += (abs(guess[key] / ms - 1) for key, ms in own.stages.items() if key not in known)
    return Errors.of(errors)


def fbnet(file: Path) -> dict[str, Sequence[Row]]:
    """Compute all errors on the blocks of a file.

    Raises:
        EennError: see `blocks_of`.
    """
    blocks = blocks_of(file)
    work = {
        device: NetworkWork("fbnet", 32, tuple(map(work_of_block, rows)), (), ())
        for device, rows in blocks.items()
    }
    profiles = {device: profile_of(device, rows) for device, rows in blocks.items()}
    alone: list[Row] = [
        {"device": own, **asdict(shapes_left_out(rows))} for own, rows in blocks.items()
    ]
    scaled_rows: list[Row] = [
        {
            "device": own,
            "reference": other,
            "totals": totals,
            "by_kind": by_kind,
            **asdict(
                from_other_device(profiles[other], profiles[own], work[other], totals, by_kind)
            ),
        }
        for other, own in permutations(blocks, 2)
        for totals in TOTALS
        for by_kind in (False, True)
        if totals >= TOTALS_FOR_KINDS or not by_kind
    ]
    return {"fbnet": alone, "fbnet_other_device": scaled_rows}
