"""Measurement of a device by itself: every part of its network, one image at a time.

Stages run in chains, as in the benchmark of edge and cloud (`eenn.offload.bench.measuring`), and
requests go to a stand-in for the cloud.
"""

import io
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from itertools import chain, cycle, pairwise
from statistics import fmean, median

import numpy as np
from PIL import Image

from eenn.artifact.manifest import ArtifactMissing
from eenn.errors import EennError
from eenn.exits.head_sets import HeadChoice
from eenn.offload.client.http_cloud import HttpCloud
from eenn.offload.edge.batch import File, Result
from eenn.offload.edge.chains import Chains, Way
from eenn.offload.edge.clouds import Rest, slowed_ms
from eenn.offload.edge.stand_in import standing_in
from eenn.offload.graphs.index import Graphs
from eenn.offload.graphs.parts import Headless
from eenn.offload.graphs.pieces import borders
from eenn.offload.protocol.codecs import PAYLOADS
from eenn.planning.device_profile import CPU, DeviceProfile, Packing
from eenn.provenance import processor

# Rounds over all parts, and measurements of a part in a row, after one that finds caches cold.
ROUNDS, ROW = 5, 4
DRAWN_SIZE = (640, 480)  # in pixels, of the photograph that is drawn where none is given
PREPROCESS, CLASSIFIER, BLOCKS, STAGES, EXITS = (
    "preprocess",
    "classifier",
    "blocks",
    "stages",
    "exits",
)
SENT, CODEC = "sent_bytes", "codec_ms"

# Kind and name of a part, and milliseconds or bytes of one run of it.
Sample = tuple[tuple[str, str], float]
# Runs some parts once.
Course = Callable[[], Iterator[Sample]]


def measure(
    graphs: Graphs, photos: Sequence[str], precision: str, experts: HeadChoice, threads: int
) -> DeviceProfile:
    """Measure every part of a network on this device.

    Args:
        photos: image files; where there are none, a photograph is drawn.
        precision: of all stages.
        experts: see `EdgeRuntime`.
        threads: of every graph.

    Raises:
        EennError: graphs are missing, or the network does not have the experts.
        UnreadableImage: a file is not an image that can be read.
    """
    manifest = graphs.manifest
    files: Mapping[str, File] = {photo: photo for photo in photos} or {"": _drawn_photograph()}
    try:
        device = _Device(graphs, files, precision, experts, threads)
    except ArtifactMissing as error:
        if not manifest.is_for_device:
            raise
        raise EennError(
            f"{manifest.path} lacks parts of the network, as a copy for one deployment does; to "
            "measure all of them give the whole exported artifact, of which manifest.json and "
            "onnx/ are enough"
        ) from error
    with standing_in(len(manifest.classes)) as url, ExitStack() as opened:
        clouds = {
            payload: opened.enter_context(HttpCloud(url, graphs.id, precision=payload))
            for payload in PAYLOADS
        }
        medians = _medians(device.courses(clouds))
    return DeviceProfile(
        artifact_id=manifest.id,
        device=processor(),
        kind=CPU,
        precision=precision,
        input_size=manifest.preprocessing.input_size,
        threads=threads,
        date=datetime.now().date().isoformat(),
        repeats=ROUNDS * ROW,
        preprocess_ms=fmean(medians[PREPROCESS].values()),
        classifier_ms=fmean(medians[CLASSIFIER].values()),
        blocks=medians[BLOCKS],
        stages=medians[STAGES],
        exits=medians[EXITS],
        requests={
            name: Packing(sent_bytes, medians[CODEC][name])
            for name, sent_bytes in medians[SENT].items()
        },
    )


def summary(profile: DeviceProfile, photos: int) -> Iterator[str]:
    """Word the most important times of a profile, a line each.

    Args:
        photos: number of photographs that were given.
    """
    threads = "1 thread" if profile.threads == 1 else f"{profile.threads} threads"
    yield (
        f"{profile.device}, {threads}, {profile.precision}, {profile.input_size} px: medians of "
        f"{profile.repeats} runs"
    )
    drawn = f"one drawn photograph of {DRAWN_SIZE[0]}x{DRAWN_SIZE[1]} px, as no image is given"
    yield _line(
        "preprocessing", profile.preprocess_ms, f"images given: {photos}" if photos else drawn
    )
    if profile.classifier_ms:
        yield _line("distortion classifier", profile.classifier_ms)
    exits = sum(name.startswith("0-") for name in profile.exits)
    for exit in range(1, exits):
        yield _line(f"to exit {exit}", profile.exits[f"0-{exit}"])
    yield _line("whole network", profile.exits[f"0-{exits}"])


def _line(name: str, ms: float, note: str = "") -> str:
    return f"{name:<22}{ms:8.2f} ms  {note}".rstrip()


class _Device:
    """The parts of a network on this device, opened, and courses that run them.

    Args:
        photos: files by name; courses take turns with them.
    """

    def __init__(
        self,
        graphs: Graphs,
        photos: Mapping[str, File],
        precision: str,
        experts: HeadChoice,
        threads: int,
    ) -> None:
        self._photos, self._preprocessing = cycle(photos.items()), graphs.manifest.preprocessing
        self._chains = Chains(graphs, precision, experts, threads)
        self._at = borders(graphs.manifest)
        *_, blocks = self._at
        self._rows = [
            {
                (kind, name.format(*cuts)): Headless(graphs, *cuts, precision, threads)
                for cuts in pairwise(row)
            }
            for kind, name, row in (
                (BLOCKS, "{1}", range(blocks + 1)),
                (STAGES, "{0}-{1}", self._at),
                (STAGES, "{0}-{1}", (0, blocks)),
            )
        ]

    def courses(self, clouds: Mapping[str, HttpCloud]) -> list[Course]:
        """List the courses over all parts.

        Args:
            clouds: clients of the stand-in, by the format that each sends features in.
        """
        ends = {way: cut for cut, way in self._chains.ways_to.items()}
        return [
            *(partial(self._chain, way, ends.get(way)) for way in self._chains.ways),
            *(partial(self._row, row) for row in self._rows),
            *(
                partial(self._request, way, f"{cut}-{payload}", cloud)
                for cut, way in sorted(self._chains.ways_to.items())
                for payload, cloud in clouds.items()
            ),
        ]

    def _chain(self, way: Way, cut: int | None) -> Iterator[Sample]:
        """Run a way for the sake of its last stage, and of the rest behind a cut.

        Args:
            cut: where the way ends; None where the rest behind is measured by another way.
        """
        at, last = self._at, max(way.ends, default=0)
        rest = self._chains.skipped if cut is None else self._chains.device
        result = yield from self._run(way, rest)
        if way.cut is not None:
            yield (STAGES, f"{at[last]}-{way.cut}"), result.stages_ms[-1]
        elif way.ends:
            *_, before, _ = (0, *way.ends)
            yield (EXITS, f"{at[before]}-{last}"), result.stages_ms[-1]
        if cut is not None:
            yield (EXITS, f"{cut}-{len(at) - 1}"), result.cloud_ms

    def _row(self, row: Mapping[tuple[str, str], Headless]) -> Iterator[Sample]:
        _, photo = next(self._photos)
        features = self._preprocessing(self._preprocessing.read(photo))[None]
        for part, blocks in row.items():
            start = time.perf_counter()
            features = blocks.features(features)
            yield part, slowed_ms(start)

    def _request(self, way: Way, name: str, cloud: HttpCloud) -> Iterator[Sample]:
        result = yield from self._run(way, Rest(cloud))
        if result.failure:
            raise EennError(
                f"a request from this device to itself failed: {result.failure}; measure again "
                "while the device does nothing else"
            )
        yield (SENT, name), cloud.last.sent_bytes
        yield (CODEC, name), result.cloud_ms - cloud.last.wait_ms

    def _run(self, way: Way, rest: Rest) -> Generator[Sample, None, Result]:
        name, file = next(self._photos)
        result = self._chains.run(way, file, rest)
        yield (PREPROCESS, name), result.preprocess_ms
        yield (CLASSIFIER, name), result.classifier_ms
        return result


def _medians(courses: list[Course]) -> dict[str, dict[str, float]]:
    """Run courses in turns; return the medians by kind and name of the part."""
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for course in ROUNDS * courses:
        list(course())
        for part, value in chain.from_iterable(course() for _ in range(ROW)):
            samples[part].append(value)
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    for (kind, name), values in samples.items():
        medians[kind][name] = median(values)
    return medians


def _drawn_photograph() -> io.BytesIO:
    """Draw a photograph with as much detail as one of a camera; return a JPEG file."""
    generator, (width, height) = np.random.default_rng(0), DRAWN_SIZE
    shapes = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(shapes.resize(DRAWN_SIZE, Image.Resampling.BICUBIC))
    pixels = smooth + generator.normal(0, 6, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "jpeg", quality=90)
    return file
