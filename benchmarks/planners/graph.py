"""The cut of a graph of layers, as DADS poses it: by minimum cuts, and by trying what is possible.

Hu et al., Dynamic adaptive DNN surgery for inference acceleration on the edge, INFOCOM 2019. Two
capacities are added to theirs: a layer's input never comes back from the cloud, and the image is on
the device. Their search for heavy load scales times in even steps; here the steps are ratios.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import product

import networkx

from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Spent, Way
from eenn.planning.table import Row, Table

MOST_LAYERS = 20
# On this link a byte takes a millisecond, so that a time of sending counts as bytes.
TIMED = Conditions(Link(8e-3, 0.0))
# Of a millisecond: networkx tells the sides of a cut apart by comparing capacities with flows.
WHOLE = 10**9
# Of the search: factors of times, the ratio of neighbours, and the share that a window has to gain.
SCALES = (0.0, *(4.0**power for power in range(-4, 5)))
RATIO, GAIN = 4.0, 1e-3


@dataclass(frozen=True)
class Layers:
    """Layers that depend on each other.

    Args:
        cloud_ms: infinite for a layer that only the device can run.
        send_ms: of a layer's output, the round trip included.
        links: from a layer to one that takes its output.
    """

    device_ms: dict[str, float]
    cloud_ms: dict[str, float]
    send_ms: dict[str, float]
    links: tuple[tuple[str, str], ...]

    def spent(self, on_device: frozenset[str]) -> Spent:
        """Sum up device, cloud and sending, on a link as of `TIMED`."""
        sent = {a for a, b in self.links if a in on_device and b not in on_device}
        device_ms = sum(self.device_ms[layer] for layer in on_device)
        away = self.cloud_ms.keys() - on_device
        if not away:
            return Way((device_ms,)).spent([1.0])
        cloud_ms = sum(self.cloud_ms[layer] for layer in away)
        sent_ms = sum(self.send_ms[layer] for layer in sent)
        return Way((device_ms,), (cloud_ms,), sent_ms).spent([1.0])

    def cuts(self) -> Table[frozenset[str]]:
        """Tabulate every set of layers that the device can run by itself.

        Of more than MOST_LAYERS layers the table has those sets that `searched` finds.
        """
        return self.every_cut() if len(self.device_ms) <= MOST_LAYERS else self.searched()

    def every_cut(self) -> Table[frozenset[str]]:
        """Tabulate all sets of layers that the device can run by itself."""
        needs: dict[str, set[str]] = {layer: set() for layer in self.device_ms}
        for a, b in self.links:
            needs[b].add(a)
        order = tuple(TopologicalSorter(needs).static_order())

        def sets(at: int, on_device: frozenset[str]) -> Iterator[frozenset[str]]:
            if at == len(order):
                yield on_device
                return
            layer = order[at]
            if needs[layer] <= on_device:
                yield from sets(at + 1, on_device | {layer})
            if math.isfinite(self.cloud_ms[layer]):
                yield from sets(at + 1, on_device)

        return Table.of(Row(own, len(own), self.spent(own)) for own in sets(0, frozenset()))

    def searched(self) -> Table[frozenset[str]]:
        """Tabulate the minimum cuts for many scales of the device's times and the cloud's.

        Unscaled times are among them, so the table has the fastest cut. No cut takes less time in
        all three parts together, so none has a slowest part of less than a third of that time, and
        the best slowest part of the table is at most three times the least one.
        """
        found: dict[tuple[float, float], Row[frozenset[str]]] = {}

        def slowest_ms(scales: tuple[float, float]) -> float:
            if scales not in found:
                own = self.minimum_cut(*scales)
                found[scales] = Row(own, len(own), self.spent(own))
            return float(found[scales].spent.slowest_ms(TIMED))

        best, before, ratio = min(product(SCALES, SCALES), key=slowest_ms), math.inf, RATIO
        while slowest_ms(best) < (1 - GAIN) * before:
            before, ratio = slowest_ms(best), math.sqrt(ratio)
            on_device, in_cloud = ((own / ratio, own, own * ratio) for own in best)
            best = min(product(on_device, in_cloud), key=slowest_ms)
        return Table.of({row.design: row for row in found.values()}.values())

    def minimum_cut(self, device_scale: float = 1.0, cloud_scale: float = 1.0) -> frozenset[str]:
        """Find the layers on the device for the least sum of all times, by a minimum cut.

        Args:
            device_scale, cloud_scale: factors of the times on the device and in the cloud.
        """
        network, takers = networkx.DiGraph(), {a for a, _ in self.links}
        for layer, device_ms in self.device_ms.items():
            network.add_edge(layer, "cloud", capacity=round(WHOLE * device_scale * device_ms))
            # An edge without a capacity is never cut.
            cloud_ms = self.cloud_ms[layer]
            bound = {}
            if math.isfinite(cloud_ms):
                bound["capacity"] = round(WHOLE * cloud_scale * cloud_ms)
            network.add_edge("device", layer, **bound)
            if layer in takers:
                capacity = round(WHOLE * self.send_ms[layer])
                network.add_edge(layer, ("sent", layer), capacity=capacity)
        for a, b in self.links:
            network.add_edge(("sent", a), b)
            network.add_edge(b, a)
        _, (on_device, _) = networkx.minimum_cut(network, "device", "cloud")
        return frozenset(layer for layer in self.device_ms if layer in on_device)
