"""The order of an offloading benchmark: the contenders take turns, block by block.

A turn is a block of photographs, so that disturbances of the machine affect all contenders alike.
"""

from collections.abc import Callable, Iterator, Sequence

from eenn.data.datasets import Photo
from eenn.data.distortions import Distortion
from eenn.offload.bench.contenders import Contender, Outcome, Request
from eenn.offload.bench.kept import KeptMeasurements, MeasurementKey

BLOCK, WARM_UP = 25, 3  # photographs


def measure(
    contenders: Sequence[Contender],
    photos: Sequence[Photo],
    distortion: Distortion,
    kept: KeptMeasurements,
    check_cloud: Callable[[], None],
    first: int = 0,
) -> Iterator[list[tuple[Contender, Request]]]:
    """Answer every photograph by every contender at one distortion; yield the rows block by block.

    Kept measurements of an interrupted run are not made again.

    Args:
        check_cloud: called when the cloud did not answer, before the outcome is kept; raises if the
            cloud cannot be asked at all.
        first: number of the first contender among the kept measurements.
    """
    level = float(distortion.level)

    def place(contender: Contender, photo: Photo) -> MeasurementKey:
        return MeasurementKey(first + contenders.index(contender), level, photo.sample_id)

    def answer(contender: Contender, photo: Photo) -> Outcome:
        outcome = contender.answer(photo, distortion)
        if outcome.failure:
            check_cloud()
        return outcome

    def request(contender: Contender, photo: Photo) -> Request:
        outcome = kept.outcome(place(contender, photo), lambda: answer(contender, photo))
        return Request(
            contender.setting, contender.most_active, level, photo.sample_id, photo.label, outcome
        )

    for contender in contenders:
        if not all(kept.has(place(contender, photo)) for photo in photos):
            for photo in photos[:WARM_UP]:
                contender.answer(photo, distortion)
    for block in range(0, len(photos), BLOCK):
        turn = block // BLOCK % len(contenders)
        yield [
            (contender, request(contender, photo))
            for contender in (*contenders[turn:], *contenders[:turn])
            for photo in photos[block : block + BLOCK]
        ]
        kept.sync()
