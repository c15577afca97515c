"""Runs of rules over a stream, for several seeds, and the outcome of each part."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.guard.recorded import Field, Part, Stream
from eenn.offload.bench.stream import Streamed, simulate

SEEDS = 8

# A rule meets the parts of a stream with a seed of its own draws.
Rule = Callable[[Field, Sequence[Part], int], Streamed]


class Outcome(NamedTuple):
    """The outcome of a part of a stream for one seed.

    Args:
        risk, edge, sent: shares of the part's images.
        alarm: images of the part until its first alarm, and the alarm's kind; None without one.
    """

    risk: float
    edge: float
    sent: float
    alarm: tuple[int, str] | None


@dataclass(frozen=True)
class PartRow:
    """The outcomes of a part over the seeds.

    Args:
        risk, edge, sent: means over the seeds; `largest_risk` is that of the worst seed.
        detected: seeds with an alarm in the part, of SEEDS; `by_audits` of them by audits.
        median_images, p90_images: images until the first alarm; infinite without one.
    """

    rule: str
    part: str
    images: int
    risk: float
    largest_risk: float
    edge: float
    sent: float
    detected: int
    by_audits: int
    median_images: float
    p90_images: float


def rows_of(name: str, rule: Rule, field: Field, stream: Stream) -> list[PartRow]:
    """Let a rule meet a stream once for every seed; return a row for each part of the stream."""
    found: list[list[Outcome]] = []
    for seed in range(SEEDS):
        parts = stream(field, np.random.default_rng(seed))
        streamed = rule(field, parts, seed)
        found.append([_outcome(streamed, *ends) for ends in _ends(parts)])
    return [
        _merged(name, part, own) for part, own in zip(parts, zip(*found, strict=True), strict=True)
    ]


def guarded(field: Field, parts: Sequence[Part], seed: int) -> Streamed:
    """Let the guard meet the stream."""
    return simulate(field.guard(seed), [(part.images, part.order) for part in parts])


def static(field: Field, parts: Sequence[Part], _seed: int) -> Streamed:
    """Keep the fitted threshold, without audits."""
    return fixed(parts, [field.start] * len(parts))


def clairvoyant(field: Field, parts: Sequence[Part], _seed: int) -> Streamed:
    """Choose the boldest threshold that keeps the promise on the images of each part."""
    return fixed(parts, [part.images.clairvoyant(field.risk) for part in parts])


def fixed(parts: Sequence[Part], positions: Sequence[int | None]) -> Streamed:
    """Let every part of a stream have a threshold of its own, without audits.

    Args:
        positions: of the thresholds; None offloads everything.
    """
    kept, differs = list[np.ndarray](), list[np.ndarray]()
    for part, at in zip(parts, positions, strict=True):
        nothing = np.zeros(len(part.order), bool)
        kept.append(nothing if at is None else part.images.leaves[part.order, at])
        differs.append(nothing if at is None else part.images.differs[part.order, at])
    total = sum(map(len, kept))
    return Streamed(np.concatenate(kept), np.concatenate(differs), np.zeros(total, bool), ())


def _ends(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of the first image of every part, and of the one after its last."""
    begin = 0
    for part in parts:
        yield begin, begin + len(part.order)
        begin += len(part.order)


def _outcome(streamed: Streamed, begin: int, end: int) -> Outcome:
    own = slice(begin, end)
    kept = streamed.kept[own]
    alarms = [(at + 1 - begin, kind) for at, kind in streamed.alarms if begin <= at < end]
    return Outcome(
        risk=float(streamed.differs[own].mean()),
        edge=float(kept.mean()),
        sent=float((~kept | streamed.audited[own]).mean()),
        alarm=alarms[0] if alarms else None,
    )


def _merged(name: str, part: Part, outcomes: Sequence[Outcome]) -> PartRow:
    alarms = [own.alarm for own in outcomes if own.alarm is not None]
    after = [at for at, _ in alarms] + [np.inf] * (len(outcomes) - len(alarms))
    return PartRow(
        rule=name,
        part=part.name,
        images=len(part.order),
        risk=float(np.mean([own.risk for own in outcomes])),
        largest_risk=max(own.risk for own in outcomes),
        edge=float(np.mean([own.edge for own in outcomes])),
        sent=float(np.mean([own.sent for own in outcomes])),
        detected=len(alarms),
        by_audits=sum(kind == "risk" for _, kind in alarms),
        median_images=float(np.median(after)),
        p90_images=float(np.quantile(after, 0.9, method="higher")),
    )
