"""Measured profiles of MobileNetV2 in every size, width and precision of the benchmark."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch

from eenn.artifact import store
from eenn.artifact.manifest import Manifest
from eenn.data.splits import Split
from eenn.exits.head_sets import PLAIN
from eenn.models.architecture import Architecture
from eenn.models.building import build
from eenn.offload.export.work import work_of
from eenn.offload.export.write import export
from eenn.offload.graphs.index import PRECISIONS, Graphs
from eenn.offload.graphs.pieces import (
    Pieces,
    block_name,
    borders,
    head_name,
    input_name,
    output_name,
)
from eenn.planning.device_profile import CPU, DeviceProfile
from eenn.planning.work import BLOCKS, EXITS, STAGES, NetworkWork, Part
from eenn.preprocess import Preprocessing
from eenn.provenance import processor
from eenn.statistics.calibration import Temperatures

SIZES, WIDTHS = (96, 128, 160, 224), (0.5, 1.0)
CLASSES, POSITIONS = 101, (2, 5, 10, 13, 16)
EXIT_COUNT = len(POSITIONS) + 1
WHOLE = EXITS, f"0-{EXIT_COUNT}"
PASSES, ROUNDS = 8, 8
SEED = 0
Chain = tuple[Part, ...]


@dataclass(frozen=True)
class Shape:
    """The shape of a network, and the precision of its graphs."""

    input_size: int
    width: float
    precision: str

    def __str__(self) -> str:
        return f"{self.input_size} px, width {self.width:g}, {self.precision}"


@dataclass(frozen=True)
class Cell:
    """A measured network.

    Args:
        payload_bytes: of a request from every cut but the last: pixels, then features in uint8.
    """

    shape: Shape
    profile: DeviceProfile
    work: NetworkWork
    payload_bytes: tuple[int, ...]

    @property
    def between_exits(self) -> list[str]:
        """List the keys of all stages from the input or an exit to a later one."""
        cuts = (0, *self.work.after)
        return [f"{a}-{b}" for n, a in enumerate(cuts) for b in cuts[n + 1 :]]


def measured(folder: Path) -> list[Cell]:
    """Export the networks to a folder, and measure them, each several times in turn."""
    shapes = [Shape(*own) for own in product(SIZES, WIDTHS, PRECISIONS)]
    graphs = {own: _exported(folder, *own) for own in product(SIZES, WIDTHS)}
    samples: dict[Shape, dict[Part, list[float]]] = {}
    for shape in PASSES * shapes:
        found = samples.setdefault(shape, {})
        for part, ms in _samples(graphs[shape.input_size, shape.width], shape.precision):
            found.setdefault(part, []).append(ms)
    return [
        _cell(shape, graphs[shape.input_size, shape.width], own) for shape, own in samples.items()
    ]


def chains(manifest: Manifest) -> list[Chain]:
    """List the ways to run the whole network in which every part is measured.

    A part is not measured alone: features and weights would lie in the caches from its last run, as
    they do not where other parts run in between.
    """
    cuts = borders(manifest)
    blocks = tuple((BLOCKS, str(block + 1)) for block in range(cuts[-1]))
    heads = tuple((EXITS, f"{start}-{exit}") for exit, start in enumerate(cuts[:-1], 1))
    found = [(*blocks, _last(cuts[-1])), heads, (WHOLE,), _stages(*cuts[:-1])]
    found += [_stages(0, cut) for cut in range(1, cuts[-1] + 1)]
    found += [_stages(0, start, stop) for n, start in enumerate(cuts[1:], 2) for stop in cuts[n:]]
    return found


def _stages(*cuts: int) -> Chain:
    """List stages between cuts, and the rest of the network."""
    return (*((STAGES, f"{a}-{b}") for a, b in pairwise(cuts)), _last(cuts[-1]))


def _last(cut: int) -> Part:
    return EXITS, f"{cut}-{EXIT_COUNT}"


def _pieces(manifest: Manifest, part: Part) -> Pieces:
    """List the pieces of the graph that runs a part."""
    group, key = part
    first, last = (int(key) - 1, int(key)) if group == BLOCKS else map(int, key.split("-"))
    heads: Pieces = ()
    if group == EXITS:
        heads, last = (head_name(last, PLAIN),), borders(manifest)[last]
    is_end = bool(heads) and last == borders(manifest)[-1]
    output = () if is_end else (output_name(last),)
    return (input_name(first), *(block_name(own) for own in range(first, last)), *heads, *output)


def _samples(graphs: Graphs, precision: str) -> Iterator[tuple[Part, float]]:
    """Run every chain of parts some rounds; yield milliseconds of CPU time of every part."""
    size = graphs.manifest.preprocessing.input_size
    image = np.random.default_rng(SEED).random((1, 3, size, size), np.float32)
    every = chains(graphs.manifest)
    sessions = {
        part: graphs.session(_pieces(graphs.manifest, part), precision, 1)
        for chain in every
        for part in chain
    }
    for _, chain in product(range(ROUNDS), every):
        for is_warm in (False, True):
            features = image
            for part in chain:
                start = time.thread_time()
                features = sessions[part].run(None, {"features": features})[-1]
                took_ms = 1e3 * (time.thread_time() - start)
                if is_warm:
                    yield part, took_ms


def _cell(shape: Shape, graphs: Graphs, samples: dict[Part, list[float]]) -> Cell:
    manifest, ms = graphs.manifest, {part: statistics.median(own) for part, own in samples.items()}
    blocks, stages, exits = (
        {key: own for (group, key), own in ms.items() if group == name}
        for name in (BLOCKS, STAGES, EXITS)
    )
    profile = DeviceProfile(
        artifact_id=manifest.id,
        device=processor(),
        kind=CPU,
        precision=shape.precision,
        input_size=shape.input_size,
        threads=1,
        date=datetime.now().date().isoformat(),
        repeats=PASSES * ROUNDS,
        preprocess_ms=0.0,
        blocks=blocks,
        stages=stages,
        exits=exits,
    )
    values = (block.payload_bytes // 4 for block in manifest.blocks[:-1])
    return Cell(shape, profile, work_of(graphs), (3 * shape.input_size**2, *values))


def _exported(folder: Path, input_size: int, width: float) -> Graphs:
    """Export an untrained network."""
    torch.manual_seed(SEED)
    architecture = Architecture(CLASSES, POSITIONS, width_mult=width, input_size=input_size)
    path, exits = folder / f"{input_size}-{width:g}", EXIT_COUNT
    store.save(
        path,
        build(architecture).eval(),
        architecture=architecture,
        classes=tuple(f"class {label}" for label in range(CLASSES)),
        preprocessing=Preprocessing(input_size, input_size * 8 // 7),
        temperatures=Temperatures((1.0,) * exits, 1.0),
        fitted="not at all",
        validation_accuracy=(0.0,) * exits,
        split=Split(SEED, (), (), ()),
    )
    generator = np.random.default_rng(SEED)
    images = generator.normal(size=(4, 3, input_size, input_size)).astype(np.float32)
    return export(path, [images], images[:1])
