"""Tables of exit rules: compared at equal mean cost, and beside earlyon's fit and wrapper."""

import json

from benchmarks.readme.results import Content, points, run_of, where
from eenn.reports.tables import table


def policies_macs() -> str:
    """Tabulate the gains of exit rules over one threshold at equal mean MACs."""
    run = run_of("policies")
    note = (
        f"Points of accuracy over one threshold on the confidence at exactly equal mean MACs, "
        f"which are per cent of the full network's {run['full_macs'] / 1e6:.1f} MMACs; paired 95 % "
        f"bootstrap intervals; - where no setting of a rule costs so little. {_split(run)}"
    )
    return f"{table(_compared(run, 5, 'macs'))}\n\n{note}"


def policies_latency() -> str:
    """Tabulate the gains of exit rules over one threshold at equal modelled latency."""
    run = run_of("policies")
    five, three = (_compared(run, branches, "latency_ms") for branches in (5, 3))
    rows = [one | other for one, other in zip(five, three, strict=True)]
    note = (
        f"Points of accuracy over one threshold on the confidence at exactly equal mean latency; "
        f"paired 95 % bootstrap intervals. {_modelled(run)} {_split(run)}"
    )
    return f"{table(rows)}\n\n{note}"


def policies_left_out() -> str:
    """List the rules that are not compared, with the reason."""
    rows = run_of("policies")["left_out"].items()
    return "\n".join(f"* {rule}: {reason}." for rule, reason in rows)


def peers() -> str:
    """Tabulate earlyon's fit and this project's for the same loss of accuracy."""
    run = run_of("policies")
    rows = [
        {
            "lose at most": f"{100 * row['goal']:g}",
            "fit": row["fit"],
            "accuracy %": f"{100 * row['accuracy']:.1f}",
            "lost": points(row, "drop"),
            "MACs %": f"{100 * row['macs'] / run['full_macs']:.1f}",
            "edge %": f"{100 * row['edge_probability']:.1f}",
            "modelled ms": f"{row['latency_ms']:.1f}",
            "thresholds": _thresholds(row),
        }
        for row in run["peers"]
    ]
    note = (
        "Points of accuracy below the last exit's, with paired 95 % bootstrap intervals. Five "
        "branches; thresholds in the order of the exits, - for an exit that is off. MACs are per "
        f"cent of the full network's. {_modelled(run)} {_split(run)}"
    )
    return f"{table(rows)}\n\n{note}"


def peer_time() -> str:
    """Tabulate the time of a pass of earlyon's wrapper over that of the edge runtime."""
    run = run_of("peer_time")
    rows = [
        {"image": taken} | {f"{name} / edge runtime": f"{own:.2f}" for name, own in ratio.items()}
        for taken, ratio in run["ratio"].items()
    ]
    return (
        f"{table(rows)}\n\nCPU time of a pass, one image and one thread, medians of "
        f"{run['rounds'] * run['repeats']} in turn; {run['branches']} branches, "
        f"{run['input_size']} px, earlyon {run['earlyon']}. {where(run)}"
    )


def _compared(run: Content, branches: int, cost: str) -> list[dict[str, str]]:
    """Make a row for the reference, every rule and the oracle, a column for every budget."""

    def column(budget: float) -> str:
        if cost == "macs":
            return f"{100 * budget:g} %"
        return f"{branches} branches, {budget:g} ms"

    rows: dict[str, dict[str, str]] = {}
    own = [row for row in run["points"] if (row["branches"], row["cost"]) == (branches, cost)]
    for row in own:
        if row["rule"] == run["reference"]:
            name, cell = f"{row['rule']}: accuracy %", f"{100 * row['accuracy']:.1f}"
        else:
            name, cell = row["rule"], points(row, "gain")
        rows.setdefault(name, {"rule": name})[column(row["budget"])] = cell
    (best,) = (row for row in run["oracle"] if (row["branches"], row["cost"]) == (branches, cost))
    price = f"{100 * best['mean_cost']:.0f} %" if cost == "macs" else f"{best['mean_cost']:.1f} ms"
    first, *others = dict.fromkeys(column(row["budget"]) for row in own)
    bound = {"rule": "oracle: accuracy %", first: f"{100 * best['accuracy']:.1f} at {price}"}
    return [*rows.values(), bound | dict.fromkeys(others, "")]


def _thresholds(row: Content) -> str:
    """Print the thresholds of a fitted policy."""
    policy = json.loads(row["policy"])
    p_tar = policy["p_tar"]
    if isinstance(p_tar, list):
        on = [branch in row["active"] for branch in range(1, len(p_tar))]
        return " ".join(f"{p:g}" if used else "-" for p, used in zip(p_tar[:-1], on, strict=True))
    strict = f", strict {policy['strict']:g}" if policy["strict"] != 1 else ""
    return f"{p_tar:g}{strict}"


def _modelled(run: Content) -> str:
    return (
        f"The latency is modelled, over the link `{run['link']}`: {run['whole_ms']:g} ms for the "
        f"whole network, in proportion to MACs, and {run['offloaded_ms']:g} ms more for an image "
        "that is offloaded."
    )


def _split(run: Content) -> str:
    return (
        f"Fitted on {run['validation_n']} validation images, reported on {run['test_n']} test "
        f"images. {where(run)}"
    )
