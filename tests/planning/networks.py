"""Drawn networks, and devices that need exactly the time that their work says."""

import numpy as np

from eenn.exits.policies.base import Floats
from eenn.planning.device_profile import CPU, DeviceProfile, Packing
from eenn.planning.work import BLOCKS, EXITS, STAGES, NetworkWork, Work


def network(seed: int, blocks: int = 12) -> NetworkWork:
    """A network of drawn blocks, with an exit in the middle and one at the end."""
    generator = np.random.default_rng(seed)

    def work(layers: int) -> Work:
        macs = generator.integers(1_000, 10_000_000, 2).tolist()
        return Work(*macs, int(generator.integers(100, 1_000_000)), layers)

    drawn = tuple(work(int(generator.integers(1, 8))) for _ in range(blocks))
    heads = (work(3), work(1))
    return NetworkWork(f"artifact {seed}", 160, drawn, heads, (blocks // 2, blocks))


def profile(work: NetworkWork, rates: Floats) -> DeviceProfile:
    """The profile of a device with these rates, all parts of it."""
    ms = {part: float(work.features(part) @ rates) for part in work.parts()}
    blocks, stages, exits = (
        {key: own for (group, key), own in ms.items() if group == name}
        for name in (BLOCKS, STAGES, EXITS)
    )
    return DeviceProfile(
        artifact_id=work.artifact_id,
        device="reference",
        kind=CPU,
        precision="fp32",
        input_size=work.input_size,
        threads=1,
        date="2026-11-28",
        repeats=20,
        preprocess_ms=3.0,
        classifier_ms=0.5,
        blocks=blocks,
        stages=stages,
        exits=exits,
        requests={"3-uint8": Packing(1200.0, 0.4)},
    )
