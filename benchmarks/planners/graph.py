"""The cut of a graph of layers, as DADS poses it: by minimum cuts, and by trying what is possible.

Hu et al., Dynamic adaptive DNN surgery for inference acceleration on the edge, INFOCOM 2019. Two
capacities are added to theirs: a layer's input never comes back from the cloud, and the image is on
the device.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

import networkx

from eenn.errors import EennError
from eenn.planning.costs import Link
from eenn.planning.engine import Conditions, Spent, Way
from eenn.planning.table import Row, Table

MOST_LAYERS = 20
# On this link a byte takes a millisecond, so that a time of sending counts as bytes.
TIMED = Conditions(Link(8e-3, 0.0))
# Of a millisecond: networkx tells the sides of a cut apart by comparing capacities with flows.
WHOLE = 10**9


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

    def every_cut(self) -> Table[frozenset[str]]:
        """Tabulate every set of layers that the device can run by itself.

        Raises:
            EennError: there are too many layers to try all sets.
        """
        if len(self.device_ms) > MOST_LAYERS:
            raise EennError(f"{len(self.device_ms)} layers: allowed are at most {MOST_LAYERS}")
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

    def minimum_cut(self) -> frozenset[str]:
        """Find the layers on the device for the least sum of all times, by a minimum cut."""
        network, takers = networkx.DiGraph(), {a for a, _ in self.links}
        for layer, device_ms in self.device_ms.items():
            network.add_edge(layer, "cloud", capacity=round(WHOLE * device_ms))
            # An edge without a capacity is never cut.
            cloud_ms = self.cloud_ms[layer]
            bound = {"capacity": round(WHOLE * cloud_ms)} if math.isfinite(cloud_ms) else {}
            network.add_edge("device", layer, **bound)
            if layer in takers:
                capacity = round(WHOLE * self.send_ms[layer])
                network.add_edge(layer, ("sent", layer), capacity=capacity)
        for a, b in self.links:
            network.add_edge(("sent", a), b)
            network.add_edge(b, a)
        _, (on_device, _) = networkx.minimum_cut(network, "device", "cloud")
        return frozenset(layer for layer in self.device_ms if layer in on_device)
