"""Tables of deployments: strictness, cascades, live comparisons, the planner's choices."""

from pathlib import PurePath

from benchmarks.readme.results import Content, interval, run_of, where
from eenn.offload.protocol.codecs import PAYLOADS
from eenn.reports.tables import table


def strict() -> str:
    """Accuracy and edge share of strict inner exits, from records."""
    run = run_of("strict")
    rows = [
        {
            "active": row["active"],
            "p_tar": f"{row['p_tar']:g}",
            "strict": f"{row['strict']:g}",
            **_kept(row),
        }
        for row in run["points"]
        if row["p_tar"] is not None
    ]
    return f"{table(rows)}\n\n{_split(run)}"


def cascade() -> str:
    """A small network that passes photographs on to a larger one, from records."""
    run = run_of("cascade")
    rows = [
        {"answered by": row["policy"], "active": row["active"] or "-", **_kept(row)}
        for row in run["points"]
    ]
    return f"{table(rows)}\n\n{_split(run)}"


def deployments() -> str:
    """Deployments live over one link, taking turns."""
    run = run_of("deployments")
    named = {_name(row): row for row in run["points"] if row["policy"].endswith(".json")}
    rows = []
    for name, row in named.items():
        away = 1 - row["edge_probability"]
        rows.append(
            {
                "deployment": name,
                "mean ms": interval(row, "answer_ms", 1),
                "predicted ms": f"{row['predicted_ms']:.1f}",
                "accuracy %": interval(row, "accuracy", 100),
                "edge %": interval(row, "edge_probability", 100),
                "kB per offloaded": f"{row['sent_bytes'] / away / 1e3:.1f}",
                "ms per offloaded": f"{row['cloud_ms'] / away:.1f}",
                "not as recorded": f"{row['differing']:.0f}",
            }
        )
    strict, fewest_macs = named["strict"], named["one_threshold"]
    ratio = strict["answer_ms"] / fewest_macs["answer_ms"]
    faster = _twice_as_fast_ms(strict) / _twice_as_fast_ms(fewest_macs)
    photographs = next(iter(named.values()))["n"]
    return (
        f"{table(rows)}\n\nstrict takes {ratio:.2f} of the mean latency of one_threshold; with the "
        f"same waits for the cloud and an edge twice as fast that comes to {faster:.2f} "
        f"(computed). {photographs} test photographs, link {run['link']}. {where(run)}"
    )


def _twice_as_fast_ms(row: Content) -> float:
    """Give the mean latency if the edge took half the time, and the cloud and the link the same."""
    ms: float = (row["answer_ms"] + row["cloud_ms"]) / 2
    return ms


def payloads() -> str:
    """What an image costs behind every split point, as features and as its photograph."""
    run = run_of("deployments")
    return f"{table(run['payloads'])}\n\nLink as measured: {run['link as measured']}. {where(run)}"


def planned() -> str:
    """The planner's choice on every link and edge against the best of every other kind, live."""
    run = run_of("planned")
    rows = [
        {
            "link": cell["link"],
            "edge slower by": f"{cell['slowdown']:g}",
            "chosen": cell["chosen"],
            "predicted ms": f"{cell['ways'][cell['chosen']]['predicted_ms']:.1f}",
            "measured ms": f"{cell['ways'][cell['chosen']]['measured_ms']:.1f}",
            "fastest": cell["fastest"],
            "ratio": f"{cell['ratio']:.2f}",
            "photograph to features": f"{_by_photograph(cell, 'measured_ms'):.2f}",
            "predicted": f"{_by_photograph(cell, 'predicted_ms'):.2f}",
        }
        for cell in run["cells"]
    ]
    counts = sorted({cell["photographs"] for cell in run["cells"]})
    return (
        f"{table(rows)}\n\n{run['within']} of {len(rows)} take at most {run['at_most']:g} times as "
        f"long as the fastest; {counts[0]} to {counts[-1]} validation photographs, fewer on slower "
        "edges. Photograph to features: the latency of the best plan that sends photographs over "
        f"that of the best that sends features, as measured and as predicted. {where(run)}"
    )


def _by_photograph(cell: Content, name: str) -> float:
    """Give the latency of sending photographs over that of sending features."""
    ways = cell["ways"]
    features = min(
        (ways[f"cloud-{payload}"] for payload in PAYLOADS if f"cloud-{payload}" in ways),
        key=lambda way: way["predicted_ms"],
    )
    ratio: float = ways["cloud-photograph"][name] / features[name]
    return ratio


def _kept(row: Content) -> dict[str, str]:
    return {
        "accuracy %": interval(row, "accuracy", 100),
        "edge %": interval(row, "edge_probability", 100),
        "edge MMACs": f"{row['edge_macs'] / 1e6:.1f}",
        "MMACs": f"{row['macs'] / 1e6:.1f}",
    }


def _split(run: Content) -> str:
    return f"{run['points'][0]['n']} {run['split']} images. {where(run)}"


def _name(row: Content) -> str:
    return PurePath(row["policy"].rsplit(", ", 1)[1]).stem
