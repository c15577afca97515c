"""The origin of the pictures of docs/tracking.md."""

from benchmarks.readme.results import run_of, where


def tracking() -> str:
    """Print the sweeps that the pictures are drawn of, and their origin."""
    run = run_of("tracking")
    sweeps = "; ".join(f"`{sweep['command']}`, {sweep['runs']} runs" for sweep in run["sweeps"])
    return f"{sweeps}. {where(run)}"
