"""Tables of the frontier over networks: the best design at each budget, beside single exits."""

from benchmarks.readme.results import RESULTS, Content, answered_by, interval, run_of, where
from eenn.evaluation.designs import KINDS
from eenn.exits.settings import Baseline
from eenn.reports.tables import signed, table
from eenn.statistics.intervals import Estimate


def frontier() -> str:
    """Tabulate the best design within each budget of MACs, for every seed."""
    files = sorted(RESULTS.glob("frontier-seed*.json"))
    runs = [run_of(file.stem) for file in files]
    rows = [
        {
            "seed": str(run["seed"]),
            "at most, MMACs": f"{1e-6 * row['budget']:g}",
            "design": row["design"].removesuffix(", the rest on the device"),
            "accuracy %": interval(row, "accuracy", 100),
            "MMACs": f"{1e-6 * row['macs']:.1f}",
            "single exits %": f"{100 * row['single_accuracy']:.1f}",
            "difference, points": _difference(row),
        }
        for run in runs
        for row in run["budgets"]
        if row["cost"] == "macs" and row["best"]
    ]
    said = "\n\n".join(f"Seed {run['seed']}: {' '.join(run['verdicts'])}" for run in runs)
    images = runs[0]["budgets"][0]["n"]
    return f"{table(rows)}\n\n{said}\n\nTest split, {images} images. {where(*runs)}"


def frontier_kinds() -> str:
    """Tabulate what single exits, early exits and cascades reach at the same budgets."""
    run = run_of("frontier-seed0")
    own = [row for row in run["budgets"] if row["cost"] == "macs"]
    rows = []
    for budget in dict.fromkeys(row["budget"] for row in own):
        kinds = {row["kind"]: row for row in own if row["budget"] == budget}
        rows.append(
            {
                "at most, MMACs": f"{1e-6 * budget:g}",
                **{f"{kind}, %": _reached(kinds.get(kind)) for kind in KINDS},
            }
        )
    return f"{table(rows)}\n\nIn brackets the mean MMACs. {where(run)}"


def fitted_cascades() -> str:
    """Tabulate deployments fitted over several networks, on the test split."""
    files = sorted(RESULTS.glob("fitted_cascades-*.json"))
    runs = [run_of(file.stem) for file in files]
    rows = []
    for file, run in zip(files, runs, strict=True):
        on_device, with_cloud, larger = run["points"]
        rows.append(
            {
                "at most, MMACs": file.stem.rpartition("-")[2],
                "exits": on_device["active"],
                "p_tar": f"{on_device['p_tar']:g}",
                "strict": f"{on_device['strict']:g}",
                "accuracy %": interval(on_device, "accuracy", 100),
                "MMACs": f"{on_device['macs'] / 1e6:.1f}",
                "device MMACs, with a cloud": f"{with_cloud['edge_macs'] / 1e6:.1f}",
                "larger network alone": (
                    f"{100 * larger['accuracy']:.1f} at {larger['macs'] / 1e6:.1f}"
                ),
            }
        )
    images = runs[0]["points"][0]["n"]
    return f"{table(rows)}\n\nTest split, {images} images. {where(*runs)}"


def live_cascades() -> str:
    """Tabulate deployments fitted over several networks, live on a device and with a cloud."""
    runs = [run_of(file.stem) for file in sorted(RESULTS.glob("live_cascades-*.json"))]
    rows = [
        {
            "answered by": answered_by(row),
            "active": row["active"] or "-",
            "mean ms": interval(row, "answer_ms", 1),
            "p95 ms": f"{row['p95_ms']:.1f}",
            "predicted ms": f"{row['predicted_ms']:.1f}",
            "accuracy %": interval(row, "accuracy", 100),
            "kB sent": f"{row['sent_bytes'] / 1e3:.1f}",
        }
        for run in runs
        for row in run["points"]
        if row["policy"] == Baseline.WHOLE_ON_EDGE.value or row["policy"].endswith(".json")
    ]
    photographs = runs[0]["points"][0]["n"]
    return (
        f"{table(rows)}\n\n{photographs} test photographs, link {runs[0]['link']}; ONNX Runtime, "
        f"fp32, 1 thread. The whole network is that of the first size, once for each run. "
        f"{where(*runs)}"
    )


def _reached(row: Content | None) -> str:
    return "-" if row is None else f"{100 * row['accuracy']:.1f} ({1e-6 * row['macs']:.1f})"


def _difference(row: Content) -> str:
    ends = (row[f"difference{end}"] for end in ("", "_low", "_high"))
    return signed(Estimate(*ends), 100, 1)
