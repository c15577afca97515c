"""The order of an offloading benchmark: the ways to answer take turns, and none goes twice.

A turn is a block of photographs, so that whatever else the machine does meets all ways alike.
"""

from collections.abc import Callable, Iterator, Sequence

from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.offload.bench.contenders import Contender, Outcome, Request
from eenn.offload.bench.kept import KeptMeasurements, MeasurementKey

BLOCK, WARM_UP = 25, 3  # photographs


def measure(
    ways: Sequence[Contender],
    photos: Sequence[Photo],
    distortion: Distortion,
    kept: KeptMeasurements,
    check_cloud: Callable[[], None],
) -> Iterator[list[tuple[Contender, Request]]]:
    """Answer every photograph in every way at one distortion; yields the rows block by block.

    What is kept of an interrupted run is not measured again.

    Args:
        check_cloud: called where the cloud did not answer, before that is kept; raises where the
            cloud cannot be asked at all.
    """
    level = float(distortion.level)

    def place(way: Contender, photo: Photo) -> MeasurementKey:
        return MeasurementKey(ways.index(way), level, photo.sample_id)

    def answer(way: Contender, photo: Photo) -> Outcome:
        outcome = way.answer(photo, distortion)
        if outcome.failure:
            check_cloud()
        return outcome

    def request(way: Contender, photo: Photo) -> Request:
        outcome = kept.outcome(place(way, photo), lambda: answer(way, photo))
        return Request(way.setting, way.most_active, level, photo.sample_id, photo.label, outcome)

    for way in ways:
        if not all(kept.has(place(way, photo)) for photo in photos):
            for photo in photos[:WARM_UP]:
                way.answer(photo, distortion)
    for block in range(0, len(photos), BLOCK):
        turn = block // BLOCK % len(ways)
        yield [
            (way, request(way, photo))
            for way in (*ways[turn:], *ways[:turn])
            for photo in photos[block : block + BLOCK]
        ]
        kept.sync()
