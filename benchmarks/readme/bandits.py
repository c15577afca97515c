"""Tables of bandits on recorded images: over all conditions, and the course under one of them."""

from benchmarks.readme.results import Content, run_of, where
from eenn.reports.tables import table


def bandits() -> str:
    """Tabulate every rule over all links and slowdowns, for both exchange rates."""
    run = run_of("bandits")
    rows = [
        {
            "mu": f"{row['mu']:g}",
            "rule": row["rule"],
            "regret %, clean": _percent(row["regret"]),
            "noise": _percent(row["noisy_regret"]),
            "at most 5 %, clean": f"{row['within']} of {row['cells']}",
            "found again": f"{row['found']} of {row['changed']}",
            "kept": f"{row['kept']} of {row['unchanged']}",
        }
        for row in run["summary"]
    ]
    return (
        f"{table(rows)}\n\nRegret: median over links and slowdowns, of what the worst arm loses. "
        f"Found again: conditions whose best arm changes, and answers most of 100 images within "
        f"500 of the change; kept: those whose best arm stays. {_note(run)}"
    )


def bandits_shown() -> str:
    """Tabulate the course of every rule under one condition."""
    run = run_of("bandits")
    shown = run["shown"]
    rows = [
        {
            "rule": row["rule"],
            "images": row["part"],
            "best arm": row["best"],
            "reward": f"{row['reward']:.3f}",
            "regret %": _percent(row["regret"]),
            "worst seed": _percent(row["largest_regret"]),
            "accuracy %": _percent(row["accuracy"]),
            "mean ms": f"{row['latency_ms']:.1f}",
            "sent %": _percent(row["sent"]),
            "found after images": "never" if row["found"] is None else f"{row['found']:.0f}",
        }
        for row in shown["rows"]
    ]
    return (
        f"{table(rows)}\n\nLink {shown['link']}, device {shown['slowdown']:g} times slower, mu "
        f"{shown['mu']:g}; a branch accepts from {shown['alpha']:g} on, and arm {shown['fixed']} "
        f"is the static one. {_note(run)}"
    )


def _percent(share: float) -> str:
    # Added to 0, so that no small loss is printed as -0.0.
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _note(run: Content) -> str:
    profile = run["profile"]
    return (
        f"Means of {run['seeds']} seeds. Times: profile of {profile['date']}, "
        f"{profile['hardware']}, {profile['threads']} thread. {where(run)}"
    )
