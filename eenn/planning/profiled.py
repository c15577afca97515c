"""Times of the parts of a device and its cloud from the profiles of both, for a link in between."""

from itertools import product

import numpy as np

from eenn.errors import EennError
from eenn.exits.rests import PHOTOGRAPH
from eenn.offload.protocol.codecs import CODECS
from eenn.planning.costs import Link
from eenn.planning.device_profile import DeviceProfile
from eenn.planning.times import RequestCost, Times
from eenn.planning.work import EXITS, STAGES, numbers_of


def profiled_times(
    device: DeviceProfile,
    cloud: DeviceProfile,
    link: Link,
    borders: tuple[int, ...],
    photograph_bytes: float,
) -> Times:
    """Put the times of a device, of its cloud and of a link together.

    Args:
        cloud: of the machine that runs the rest.
        borders: cuts of the image and behind each exit.
        photograph_bytes: mean size of a photograph's file.

    Raises:
        EennError: the profiles are of different networks, or lack a part.
    """
    if device.artifact_id != cloud.artifact_id:
        raise EennError(
            f"the device's profile is of artifact {device.artifact_id:.12}, the cloud's of "
            f"{cloud.artifact_id:.12}; measure both with the same artifact"
        )
    last, starts = len(borders) - 1, borders[:-1]
    exits = {_pair(EXITS, key): ms for key, ms in device.exits.items()}
    stages = {_pair(STAGES, key): ms for key, ms in device.stages.items()}
    missing = [f"{start}-{last}" for start in starts if (start, last) not in exits]
    missing += [
        f"{borders[a]}-{b}"
        for b in range(1, last)
        for a in range(b)
        if (borders[a], b) not in exits
    ]
    if missing:
        raise EennError(
            f"the device's profile has no exits {', '.join(missing)}; measure again with "
            "`eenn-edge --profile`"
        )
    requests = _requests(device, cloud, last, photograph_bytes)
    further = set(product(starts, {cut for cut, _ in requests}))
    return Times(
        preprocess_ms=device.preprocess_ms,
        classifier_ms=device.classifier_ms,
        stage_ms={step: ms for step, ms in exits.items() if step[1] < last},
        rest_ms={start: ms for (start, exit), ms in exits.items() if exit == last},
        requests=requests,
        link=link,
        further_ms={cuts: ms for cuts, ms in stages.items() if cuts in further},
        borders=borders,
    )


def _requests(
    device: DeviceProfile, cloud: DeviceProfile, last: int, photograph_bytes: float
) -> dict[tuple[int, str], RequestCost]:
    """Collect the costs of requests by cut and payload, photographs among them."""
    requests: dict[tuple[int, str], RequestCost] = {}
    for key, packing in device.requests.items():
        place, _, payload = key.partition("-")
        if not (place.isdecimal() and payload in CODECS):
            raise EennError(
                f"{key:.80} in a profile: allowed are keys such as 3-uint8; measure again"
            )
        cloud_ms = _rest_ms(cloud, int(place), last)
        requests[int(place), payload] = RequestCost(packing.sent_bytes, cloud_ms, packing.codec_ms)
    image = next((payload for cut, payload in requests if cut == 0), None)
    if image is not None:
        # A file is packed as it is, like the smallest features, and a request has the same around
        # any content.
        pixels_bytes = 3 * device.input_size**2 * np.dtype(CODECS[image].sent_as).itemsize
        around = requests[0, image].sent_bytes - pixels_bytes
        cloud_ms = cloud.preprocess_ms + _rest_ms(cloud, 0, last)
        least_ms = min(request.codec_ms for request in requests.values())
        requests[0, PHOTOGRAPH] = RequestCost(photograph_bytes + around, cloud_ms, least_ms)
    return requests


def _rest_ms(cloud: DeviceProfile, cut: int, last: int) -> float:
    """Find the milliseconds from a cut to the last exit's decision.

    Raises:
        EennError: the profile does not have them.
    """
    ms = cloud.exits.get(f"{cut}-{last}")
    if ms is None:
        raise EennError(
            f"the cloud's profile has no exit {cut}-{last}; measure again with `eenn-edge "
            "--profile`"
        )
    return ms


def _pair(group: str, key: str) -> tuple[int, int]:
    """Read a key such as `3-15`.

    Raises:
        EennError: the key is something else.
    """
    numbers = numbers_of((group, key))
    if numbers is None:
        raise EennError(f"{key:.80} in a profile: allowed are keys such as 3-15; measure again")
    first, second = numbers
    return first, second
