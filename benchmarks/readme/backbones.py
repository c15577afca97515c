"""Tables of backbones: trained by one recipe, and one on the edge with another in the cloud."""

from benchmarks.readme.results import Content, answered_by, interval, points, run_of, where
from eenn.exits.settings import Baseline
from eenn.reports.tables import table


def backbones() -> str:
    """Tabulate the exits of every backbone, its difference from the first, and int8."""
    run = run_of("backbones")
    rows = [_row(row, row is run["rows"][0]) for row in run["rows"]]
    first = run["rows"][0]
    return (
        f"{table(rows)}\n\nAccuracy % of every exit; the difference is that of the last exits in "
        "points, paired, with its 95 % bootstrap interval. int8: answers of early exits at p_tar "
        f"{first['int8']['p_tar']:g} that stay as in fp32, and the change in accuracy in "
        f"points, on the validation split. {first['input_size']} px; test split, {first['n']} "
        f"images. {where(run)}"
    )


def every_backbone() -> str:
    """Tabulate sizes and differences of every backbone's graphs, and what int8 changes."""
    run = run_of("every_backbone")
    rows = [
        {
            "backbone": f"`{row['backbone']}`",
            "blocks": str(row["blocks"]),
            "MMACs": f"{row['macs'] / 1e6:.1f}",
            "weights MB": f"{row['weight_bytes'] / 1e6:.1f}",
            "graphs, both precisions, MB": f"{row['graph_bytes'] / 1e6:.1f}",
            "fp32, difference": f"{row['largest_difference']:.0e}",
            "accuracy %": f"{100 * row['replays']['PyTorch']['accuracy']:.1f}",
            "int8, accuracy %": f"{100 * row['replays']['int8']['accuracy']:.1f}",
            "fp32, same answers %": f"{100 * row['replays']['fp32']['same_answers']:.1f}",
            "int8, same answers %": f"{100 * row['replays']['int8']['same_answers']:.1f}",
        }
        for row in run["rows"]
    ]
    return (
        f"{table(rows)}\n\nTwo branches, 64 px. Differences are the largest of any block or head "
        "from PyTorch, of its largest value. Accuracies and answers are those of early exits at "
        f"p_tar {run['p_tar']:g} on {run['rows'][0]['images']} validation images; int8 without the "
        f"stem. {where(run)}"
    )


def escalation() -> str:
    """Tabulate one backbone on the edge with another in the cloud, beside its own rest there."""
    return _live(run_of("escalation"))


def lite0_live() -> str:
    """Tabulate a fitted deployment of EfficientNet-Lite0 live, beside ways without branches."""
    return _live(run_of("lite0_live"))


def _live(run: Content) -> str:
    shown = (Baseline.CLOUD_ONLY.value, Baseline.WHOLE_ON_EDGE.value)
    rows = [
        {
            "answered by": answered_by(row),
            "mean ms": interval(row, "answer_ms", 1),
            "p95 ms": f"{row['p95_ms']:.1f}",
            "accuracy %": interval(row, "accuracy", 100),
            "edge %": interval(row, "edge_probability", 100),
            "kB sent": f"{row['sent_bytes'] / 1e3:.1f}",
        }
        for row in run["points"]
        if row["policy"] in shown or row["policy"] not in {one.value for one in Baseline}
    ]
    return (
        f"{table(rows)}\n\n{run['points'][0]['n']} test photographs, link {run['link']}. "
        f"{where(run)}"
    )


def planned_escalation() -> str:
    """Tabulate the planner's choices where a second backbone may answer, as measured."""
    run = run_of("planned_escalation")
    rows = [
        {
            "link": cell["link"],
            "edge slower by": f"{cell['slowdown']:g}",
            "chosen": cell["chosen"],
            "active": (way := cell["ways"][cell["chosen"]])["active"] or "none",
            "accuracy %": f"{100 * way['accuracy']:.1f}",
            "edge %": f"{100 * way['edge_probability']:.0f}",
            "predicted ms": f"{way['predicted_ms']:.1f}",
            "measured ms": f"{way['measured_ms']:.1f}",
            "fastest": cell["fastest"],
            "ratio": f"{cell['ratio']:.2f}",
        }
        for cell in run["cells"]
    ]
    return (
        f"{table(rows)}\n\nThe fastest plan of at least {100 * run['min_accuracy']:g} % on the "
        "validation split, beside the best of every other kind that reaches it; accuracies and "
        f"edge shares are those of validation. {run['within']} of {len(rows)} take at most "
        f"{run['at_most']:g} times as long as the fastest. {where(run)}"
    )


def _row(row: Content, is_first: bool) -> dict[str, str]:
    exits = {
        f"exit {exit}": interval(own, "accuracy", 100) for exit, own in enumerate(row["exits"], 1)
    }
    int8 = row["int8"]
    return {
        "backbone": f"`{row['backbone']}`",
        "after blocks": " ".join(map(str, row["positions"])),
        "MMACs": f"{row['macs'][-1] / 1e6:.1f}",
        **exits,
        "last exit, difference": "" if is_first else points(row, "difference"),
        "int8, same answers %": f"{100 * int8['same_answers']:.1f}",
        "int8, points": f"{100 * (int8['accuracy'] - int8['accuracy_fp32']):+.1f}",
    }
