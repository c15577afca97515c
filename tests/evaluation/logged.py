"""Field logs of a drawn edge: a guard's bursts and alarms, outages, audits at several rates."""

from pathlib import Path
from random import Random

from eenn.offload.adaptation.field_log import FieldEntry, FieldGuard, FieldLink, FieldLog

START_S = 1_790_000_000.0
FIRST, SECOND = "a" * 64, "b" * 64
HEADS = ("plain", "plain", "jpeg")


def drawn_entries(count: int, seed: int, artifact_id: str = FIRST) -> list[FieldEntry]:
    """Draw entries in the order of time, ten a second on average.

    The second tenth is a burst after an alarm of the share, the sixth an outage; outside the burst
    an image leaves with probability 0.7.
    """
    random, entries, time = Random(seed), list[FieldEntry](), START_S
    for number in range(count):
        time = round(time + random.expovariate(10), 3)
        tenth = 10 * number // count
        state = "burst" if tenth == 1 else random.choice(("watching", "suspicious"))
        rate = 0.0 if state == "burst" else {"watching": 0.1, "suspicious": 0.4}[state]
        guard = FieldGuard(
            "p_tar",
            None if state == "burst" else 0.8 if tenth == 0 else 0.9,
            state,
            "share" if number == count // 10 - 1 else "",
            rate,
            0.7 if random.random() < 0.9 else None,
        )
        left = state != "burst" and random.random() < 0.7
        audited = left and random.random() < rate
        failed = not left and tenth == 5
        cloud = not left and not failed
        results = ("dropped",) if tenth == 5 else ("agrees",) * 9 + ("differs", "dropped")
        exit = random.randrange(1, 4) if left else 3 if failed else 4
        entries.append(
            FieldEntry(
                time,
                artifact_id,
                exit,
                exit,
                "cloud" if cloud else "edge",
                tuple(range(1, exit + 1)),
                tuple(random.random() for _ in range(exit)),
                random.choice(HEADS),
                round(random.uniform(1, 30), 3),
                0.0 if left else round(random.uniform(5, 20), 3),
                random.choice(("refused", "deadline")) if failed else "",
                FieldLink(random.randrange(5000), 90, 8.5, None) if cloud or audited else None,
                random.choice(results) if audited else None,
                random.random() < 0.6 if cloud else None,
                guard,
            )
        )
    return entries


def write_log(path: Path, entries: list[FieldEntry]) -> Path:
    with FieldLog(path) as log:
        for entry in entries:
            log.append(entry)
    return path
