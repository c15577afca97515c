"""Tables of predicted times of networks and devices that were never measured."""

from benchmarks.readme.results import Content, run_of, where
from eenn.reports.tables import table

WAYS = {"shape": "times", "work": "rates, by work"}


def latency_bounds() -> str:
    """Hold every figure against its bound, and name the rows that miss it."""
    run = run_of("latency")
    rows = [
        {
            "figure": row["figure"],
            "at most": f"{100 * row['bound']:g} %",
            "worst": f"{100 * row['worst']:.1f} %",
            "rows": row["rows"],
            "misses": len(row["misses"]),
        }
        for row in run["acceptance"]
    ]
    misses = [
        f"* {row['figure']}: {name}, {100 * value:.1f} %"
        for row in run["acceptance"]
        for name, value in row["misses"].items()
    ]
    return f"{table(rows)}\n\nAll misses:\n\n" + "\n".join(misses) + f"\n\n{where(run)}"


def latency_stages() -> str:
    """Tabulate the errors of stages that follow from rates of other networks."""
    run = run_of("latency")
    rows = [
        {
            "precision": row["precision"],
            "rates of": f"all but one {row['left_out']}",
            **_errors(row),
        }
        for row in run["left_out"]
    ]
    rows += [
        {"precision": row["precision"], "rates of": "one other network", **_errors(row)}
        for row in run["one_network"]
    ]
    return f"{table(rows)}\n\nMedians of {run['repeats']} runs; {run['clock']}. {where(run)}"


def latency_totals() -> str:
    """Tabulate the errors of stages that are scaled from another cell by few totals."""
    run = run_of("latency")
    rows = [
        {
            "differs in": row["differs"],
            "scaled": WAYS[row["way"]],
            "totals": row["totals"],
            "factors": "by kind" if row["by_kind"] else "one",
            **_errors(row),
        }
        for row in run["totals"]
    ]
    stages = " and ".join(run["known_stages"])
    return (
        f"{table(rows)}\n\nThe first total is the whole network, the others are stages {stages}, "
        f"which are left out of the errors. {where(run)}"
    )


def latency_plans() -> str:
    """Tabulate the losses of plans that were chosen by predicted times."""
    run = run_of("latency")
    rows = [
        {
            "differs in": row["differs"],
            "scaled": WAYS[row["way"]],
            "device slower by": f"{row['slowdown']:g}",
            "mean loss %": f"{100 * row['mean']:.2f}",
            "worst %": f"{100 * row['worst']:.1f}",
            "above the bound": f"{row['too_bad']} of {row['plans']}",
        }
        for row in run["regrets"]
    ]
    mbps, rtts = run["bandwidths_mbps"], ", ".join(f"{rtt:g}" for rtt in run["rtts_ms"])
    return (
        f"{table(rows)}\n\n{len(mbps)} bandwidths from {mbps[0]:g} to {mbps[-1]:g} Mbps, round "
        f"trips of {rtts} ms. {where(run)}"
    )


def latency_sums() -> str:
    """Tabulate sums of stages beside the time of the whole network in one graph."""
    run = run_of("latency")
    rows = [
        {
            "px": row["input_size"],
            "width": f"{row['width']:g}",
            "precision": row["precision"],
            "whole, ms": f"{row['whole_ms']:.3f}",
            "six stages": f"{100 * row['sum']:+.1f} %",
            "less calls": f"{100 * row['sum_less_calls']:+.1f} %",
        }
        for row in run["sums"]
    ]
    return f"{table(rows)}\n\n{where(run)}"


def latency_devices() -> str:
    """Tabulate the errors of FBNet's blocks on two devices."""
    run = run_of("latency")
    rows = [
        {"device": row["device"], "from": "rates of other shapes", "totals": "-", "factors": "-"}
        | _errors(row)
        for row in run["fbnet"]
    ]
    rows += [
        {
            "device": row["device"],
            "from": f"times on {row['reference']}",
            "totals": row["totals"],
            "factors": "by kind" if row["by_kind"] else "one",
            **_errors(row),
        }
        for row in run["fbnet_other_device"]
    ]
    return (
        f"{table(rows)}\n\nFrom a CPU's times to a GPU, with one total, the median is "
        f"{100 * run['error_on_other_kind']:.0f} %: EfficientNet-B0 on cloud machines, from the "
        "public measurements of PORTEND's authors; there is no GPU in this benchmark."
    )


def _errors(row: Content) -> dict[str, str]:
    return {
        "median %": f"{100 * row['median']:.1f}",
        "90th percentile %": f"{100 * row['p90']:.1f}",
    }
