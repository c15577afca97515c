"""Tables about attacks and drawn input."""

from benchmarks.readme.results import run_of, where
from eenn.reports.tables import table


def attacks() -> str:
    """Tabulate the latencies of honest clients beside attacks on the cloud."""
    run = run_of("attacks")
    rows = [
        {
            "attack": name.replace("_", " "),
            "features, p99 ms": f"{found['features_ms']['p99']:.0f}",
            "photographs, p99 ms": f"{found['photograph_ms']['p99']:.0f}",
            "answered": str(found["answered"]),
            "not answered": str(sum(found["failures"].values())),
            "server MiB": f"{found['memory_mib']:.0f}",
        }
        for name, found in run["attacks"].items()
    ]
    return f"{table(rows)}\n\n{run['seconds']:.0f} s each. {where(run)}"


def fuzz() -> str:
    """Tabulate the outcomes of drawn input."""
    run = run_of("fuzz")
    rows = [
        {"target": name, **{key: f"{tried[key]:,}" for key in ("inputs", "crashes", "hangs")}}
        for name, tried in run["targets"].items()
    ]
    return f"{table(rows)}\n\n{run['minutes']:.0f} minutes in all. {where(run)}"
