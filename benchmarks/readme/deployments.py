"""Tables of deployments: strictness, cascades, live comparisons, the planner's choices."""

from benchmarks.readme.results import Content, answered_by, interval, run_of, where
from eenn.exits.settings import Baseline
from eenn.offload.protocol.codecs import PAYLOADS
from eenn.reports.tables import table


def strict() -> str:
    """Tabulate accuracy and edge share of strict inner exits, from records."""
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
    """Tabulate a cascade: a small network that passes photographs on to a larger one."""
    run = run_of("cascade")
    rows = [
        {"answered by": row["policy"], "active": row["active"] or "-", **_kept(row)}
        for row in run["points"]
    ]
    return f"{table(rows)}\n\n{_split(run)}"


def deployments() -> str:
    """Tabulate deployments that took turns over one link."""
    run = run_of("deployments")
    named = {answered_by(row): row for row in run["points"] if row["policy"].endswith(".json")}
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


def answers() -> str:
    """Make the headline table: early exits live, against the whole network here and there."""
    run = run_of("deployments")
    named = {
        Baseline.CLOUD_ONLY.value: "every photograph to the cloud",
        Baseline.WHOLE_ON_EDGE.value: "the whole network on the device",
        "strict_uint8": "early exits; the rest in the cloud, from features",
        "strict_conventional": "early exits; the rest by another network in the cloud",
    }
    found = {answered_by(row): row for row in run["points"]}
    rows = [
        {
            "answers": shown,
            "accuracy %": interval(row, "accuracy", 100),
            "mean ms": interval(row, "answer_ms", 1),
            "stay on the device %": f"{100 * row['edge_probability']:.0f}",
            "kB sent per image": f"{row['sent_bytes'] / 1e3:.1f}",
        }
        for name, shown in named.items()
        for row in [found[name]]
    ]
    return f"{table(rows)}\n\n{run['points'][0]['n']} test photographs. {where(run)}"


def payloads() -> str:
    """Tabulate the cost of an image behind every split point, as features and as a photograph."""
    run = run_of("deployments")
    return f"{table(run['payloads'])}\n\nLink as measured: {run['link as measured']}. {where(run)}"


def planned() -> str:
    """Tabulate the planner's choices, measured against the best plan of every other kind."""
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
