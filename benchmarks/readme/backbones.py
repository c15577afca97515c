"""The table of backbones trained by one recipe."""

from benchmarks.readme.results import Content, interval, points, run_of, where
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
