"""Tables of named planners: who is fastest where, and how close their predictions are."""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.readme.results import Content, run_of, where
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.reports.tables import table

# Plans that differ less in their measured latency are equally fast.
ALIKE = 1.02
# A prediction that is off by less is close.
CLOSE = 0.15


def planners() -> str:
    """Tabulate how often each named planner is the fastest, and what it loses to the joint one."""
    run = run_of("planned")
    names = list(run["cells"][0]["planners"])
    rows = []
    for name in names:
        own = [cell for cell in run["cells"] if cell["planners"][name]["keeps_limits"]]
        lost = [_measured(cell, name) / _measured(cell, "joint") - 1 for cell in own]
        regrets = [cell["planners"][name]["regret"] for cell in own]
        wins = [cell for cell in own if _measured(cell, name) <= ALIKE * _fastest(cell, names)]
        rows.append(
            {
                "planner": name,
                "keeps the limit": f"{len(own)} of {len(run['cells'])}",
                "fastest in": str(len(wins)),
                "on links (slowdowns)": _by_link(wins),
                "joint is faster by, predicted %": _mean_and_worst(regrets),
                "measured %": _mean_and_worst(lost),
            }
        )
    routes = [cell["planners"][name]["rest"] for cell in run["cells"] for name in names]
    sending = sum(route.startswith(CLOUD) and PHOTOGRAPH not in route for route in routes)
    return (
        f"{table(rows)}\n\nOf these {len(routes)} choices {sending} send features. Fastest: within "
        f"{100 * (ALIKE - 1):.0f} % of the fastest measured of these planners that keep the limit. "
        "Faster by: the planner's latency over that of joint, mean and worst of these cells; where "
        f"joint is slower, below 0. {where(run)}"
    )


def predictions() -> str:
    """Count the live latencies close to the predicted ones, and list those that are not."""
    run = run_of("planned")
    every = [(cell, name, way) for cell in run["cells"] for name, way in cell["ways"].items()]
    off = {
        (cell["link"], cell["slowdown"], name): way["measured_ms"] / way["predicted_ms"] - 1
        for cell, name, way in every
    }
    of_planners = {
        (cell["link"], cell["slowdown"], own["way"])
        for cell in run["cells"]
        for own in cell["planners"].values()
    }
    rows = [
        {
            "link": link,
            "edge slower by": f"{slowdown:g}",
            "plan": name,
            "measured over predicted": f"{100 * off[link, slowdown, name]:+.0f} %",
            "of a planner": "yes" if (link, slowdown, name) in of_planners else "no",
        }
        for link, slowdown, name in off
        if abs(off[link, slowdown, name]) > CLOSE
    ]
    within = sum(abs(off[key]) <= CLOSE for key in of_planners)
    everywhere = sum(abs(value) <= CLOSE for value in off.values())
    said = (
        f"Of {len(of_planners)} plans that named planners chose on these links and edges, {within} "
        f"({within / len(of_planners):.0%}) were measured within {100 * CLOSE:.0f} % of what was "
        f"predicted, and {everywhere} ({everywhere / len(off):.0%}) of all {len(off)} that ran."
    )
    if not rows:
        return f"{said} {where(run)}"
    return f"{said} The others:\n\n{table(rows)}\n\n{where(run)}"


def followed() -> str:
    """Count the answers of a bare install that differ from records, and time a choice."""
    run = run_of("followed")
    answered = run["plans"] * run["photographs"]
    return (
        f"{run['plans']} plans, {run['photographs']} test photographs: of {answered:,} answers "
        f"{run['differing']} differ from the records in exit or label, and {run['rounded']} of the "
        f"cloud's because features were rounded. A choice takes {run['choice_ms']:.2f} ms, and "
        f"{run['choice_of_many_ms']:.2f} ms from {run['many']:,} plans. {where(run)}"
    )


def _measured(cell: Content, planner: str) -> float:
    ms: float = cell["ways"][cell["planners"][planner]["way"]]["measured_ms"]
    return ms


def _fastest(cell: Content, names: Sequence[str]) -> float:
    """Find the latency of the fastest planner that keeps the limit."""
    return min(_measured(cell, name) for name in names if cell["planners"][name]["keeps_limits"])


def _by_link(cells: Sequence[Content]) -> str:
    """List the slowdowns of cells by link."""
    links: dict[str, list[str]] = {}
    for cell in cells:
        links.setdefault(cell["link"], []).append(f"{cell['slowdown']:g}")
    return "; ".join(f"{link} ({', '.join(own)})" for link, own in links.items()) or "-"


def _mean_and_worst(shares: Sequence[float]) -> str:
    if not shares:
        return "-"
    return f"{100 * fmean(shares):.1f}, {100 * max(shares):.1f}"
