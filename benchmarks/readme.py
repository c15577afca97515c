"""Builds the README's tables from the result files in results/: `make results`.

A block between `<!-- generated: NAME -->` and `<!-- end -->` belongs to the function of that name.
Result files are the `metrics.json` and `summary.json` of runs, and what the benchmarks wrote.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eenn.calibration import Temperatures
from eenn.experts import FINE_TUNED
from eenn.files import write_file
from eenn.grid import LAST_EXIT_ONLY
from eenn.reports.experts import confusion_rows
from eenn.reports.tables import exit_rows
from eenn.runs import table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"


def headline() -> str:
    """The run on Caltech-101 at 224 px: its table of exits."""
    run = _run("caltech101-224-branches5-conv")
    temperatures = Temperatures(
        tuple(run["temperatures"]["per_exit"]), run["temperatures"]["shared"]
    )
    rows = exit_rows(run["test"], temperatures, run["exits"])
    for row, calibrated in zip(rows, run["test"]["ece_if_calibrated"], strict=True):
        row["ECE % if calibrated"] = f"{100 * calibrated:.1f}"
    return f"{table(rows)}\n\n{_origin(run)}"


def heads() -> str:
    """`conv` against `linear` heads, five branches, 160 px."""
    runs = {head: _run(f"caltech101-160-branches5-{head}") for head in ("linear", "conv")}
    rows = [
        _accuracies(f"`{head}`", run) | {"MMACs": _total_mmacs(run)} for head, run in runs.items()
    ]
    return f"{table(rows)}\n\n{_origin(*runs.values())}"


def branches() -> str:
    """The final exit by number of branches, 160 px, `conv` heads."""
    files = sorted(RESULTS.glob("caltech101-160-branches*-conv.json"))
    runs = [_run(file.stem) for file in files]
    rows = [
        {
            "branches": str(len(run["test"]["accuracy"]) - 1),
            "final exit, accuracy %": f"{100 * run['test']['accuracy'][-1]:.1f}",
            "MMACs": _total_mmacs(run),
        }
        for run in runs
    ]
    return f"{table(rows)}\n\n{_origin(*runs)}"


def demo() -> str:
    """The default run on the demo data."""
    run = _run("demo")
    temperatures = Temperatures(
        tuple(run["temperatures"]["per_exit"]), run["temperatures"]["shared"]
    )
    return f"{table(exit_rows(run['test'], temperatures, run['exits']))}\n\n{_origin(run)}"


def speed() -> str:
    """Training rate against a bare loop."""
    run = _run("training_speed")
    ours = run["images_per_s"]["ours"]
    rows = [
        {"": name, "images/s": f"{rate:.1f}", "ours is": f"{ours / rate:.2f} of it"}
        for name, rate in run["images_per_s"].items()
    ]
    return f"{table(rows)}\n\nBatch {run['batch']} at {run['input_size']} px. {_where(run)}"


def edge_analysis() -> str:
    """Networks with 2 to 5 branches at p_tar 0.8, against their last exit and a net without any."""
    run = _run("edge_analysis")
    conventional = next(row for row in run["points"] if not row["branches"])
    rows = []
    for row in run["points"]:
        if row["p_tar"] == 0.8 and row["policy"] == "confidence":
            alone = _last_exit_only(run, row)
            rows.append(
                {
                    "branches": str(row["branches"]),
                    "accuracy %": _interval(row, "accuracy", 100),
                    "last exit only": _interval(alone, "accuracy", 100),
                    "conventional": _interval(conventional, "accuracy", 100),
                    "edge %": _interval(row, "edge_probability", 100),
                    "edge accuracy %": _interval(row, "edge_accuracy", 100),
                    "MMACs": _interval(row, "macs", 1e-6),
                    "latency ms": _interval(row, "latency_ms", 1),
                    "of last exit only": f"{row['latency_ms'] / alone['latency_ms']:.2f}",
                }
            )
    return f"{table(rows)}\n\np_tar 0.8, all branches active. {_evaluated(run)}"


def fallback() -> str:
    """Who answers for images that no exit accepts, five branches."""
    runs = {name: _run(f"fallback-{name}") for name in ("most_confident", "last_exit")}
    rows = [
        {
            "p_tar": f"{row['p_tar']:g}",
            **{
                f"`{name}`, %": _interval(other, "accuracy", 100)
                for name, run in runs.items()
                for other in run["points"]
                if (other["policy"], other["p_tar"]) == ("confidence", row["p_tar"])
            },
            "last exit only, %": _interval(
                _last_exit_only(runs["last_exit"], row), "accuracy", 100
            ),
        }
        for row in runs["last_exit"]["points"]
        if row["policy"] == "confidence"
    ]
    return f"{table(rows)}\n\nFive branches, all active. {_evaluated(runs['last_exit'])}"


def blur() -> str:
    """Early exits, committee and conventional network on blurred images, p_tar 0.8."""
    run = _run("blur_committee")
    rows = []
    for row in run["points"]:
        if row["branches"] and row["p_tar"] == 0.8 and row["level"] in (0, 0.5, 1, 1.5, 1.8):
            conventional = next(
                other
                for other in run["points"]
                if not other["branches"] and other["level"] == row["level"]
            )
            rows.append(
                {
                    "branches": str(row["branches"]),
                    "sigma": f"{row['level']:g}",
                    "policy": row["policy"],
                    "accuracy %": _interval(row, "accuracy", 100),
                    "conventional": _interval(conventional, "accuracy", 100),
                    "edge %": _interval(row, "edge_probability", 100),
                    "edge accuracy %": _interval(row, "edge_accuracy", 100),
                    "MMACs": _interval(row, "macs", 1e-6),
                }
            )
    return f"{table(rows)}\n\np_tar 0.8, all branches active. {_evaluated(run)}"


def grid_speed() -> str:
    """A grid from records against running the network again."""
    run = _run("grid_speed")
    rows = [
        {"": "from records", "s": f"{run['grid_s']:.2f}"},
        {"": "network again for every point", "s": f"{run['network_again_s']:.0f}"},
        {"": "ratio", "s": f"{run['ratio']:.0f}"},
    ]
    return (
        f"{table(rows)}\n\n{run['points']} points on {run['samples']:,} samples; peak memory with "
        f"{run['memory_samples']:,}: {run['peak_memory_mib']:.0f} MiB. {_where(run)}"
    )


def risk() -> str:
    """How often a threshold fitted to a risk breaks its promise."""
    run = _run("risk")
    rows = [
        {
            "method": f"`{name}`",
            "broken": f"{found['violations']} of {run['draws']}",
            "median p_tar": f"{found['median_p_tar']:g}",
        }
        for name, found in run["methods"].items()
    ]
    return (
        f"{table(rows)}\n\nRisk at most {run['limit']:g}, delta {run['delta']:g}, "
        f"{run['validation_n']} validation images drawn with replacement from "
        f"{run['population_n']}, where p_tar {run['lowest_p_tar_within_limit']:g} just "
        f"keeps the limit. {_where(run)}"
    )


def experts() -> str:
    """Whose heads answer at which level."""
    runs = [_run(file.stem) for file in sorted(RESULTS.glob("distortion_experts-branches*.json"))]
    fine_tuned = any(row["experts"] == FINE_TUNED for run in runs for row in run["points"])
    rows = []
    for run in runs:
        by_place: dict[tuple[str, float], dict[str, Any]] = {}
        for row in run["points"]:
            by_place.setdefault((row["distortion"], row["level"]), {})[row["experts"]] = row
        for (kind, level), ways in by_place.items():
            plain, auto = ways["plain"], ways["auto"]
            accuracy = {way: f"{100 * row['accuracy']:.1f}" for way, row in ways.items()}
            rows.append(
                {
                    "branches": str(plain["branches"]),
                    "distortion": kind.replace("_", " "),
                    "level": f"{level:g}",
                    "plain %": _interval(plain, "accuracy", 100),
                    "matching": accuracy.get("matching", "-"),
                    "chosen": _interval(auto, "accuracy", 100),
                    "soft": accuracy["soft"],
                    **({"fine-tuned": accuracy.get(FINE_TUNED, "-")} if fine_tuned else {}),
                    "edge %: plain": f"{100 * plain['edge_probability']:.1f}",
                    "edge %: chosen": f"{100 * auto['edge_probability']:.1f}",
                    "edge accuracy %: plain": _interval(plain, "edge_accuracy", 100),
                    "edge accuracy %: chosen": _interval(auto, "edge_accuracy", 100),
                }
            )
    return f"{table(rows)}\n\np_tar 0.8, all branches active. {_evaluated(runs[0])}"


def distortion_classifier() -> str:
    """Which heads the classifier chooses at every level, the artifact with three branches."""
    run = _run("distortion_experts-branches3")
    (network,) = run["networks"].values()
    rows = confusion_rows(run["confusion"])
    share = network["classifier"]["macs"] / network["backbone_macs"]
    return (
        f"{table(rows)}\n\n{network['classifier']['bytes'] / 1e3:.0f} kB, "
        f"{100 * share:.2f} % of the backbone's MACs, {network['classifier_ms']['p50']:.2f} ms "
        f"(median, one thread, eager PyTorch). {_evaluated(run)}"
    )


def offload_times() -> str:
    """Live times at p_tar 0.8 against the baselines, as this machine is and slower."""
    runs = {slowdown: _run(f"offload_times-{slowdown}") for slowdown in (1, 5, 10)}
    rows = [
        {"edge slower by": str(slowdown), **_live(row)}
        for slowdown, run in runs.items()
        for row in run["points"]
        if row["p_tar"] in (0.8, None)
    ]
    return f"{table(rows)}\n\n{_offloaded(*runs.values())}"


def offload_blur() -> str:
    """Live times on blurred images at p_tar 0.8."""
    run = _run("offload_blur")
    rows = [
        {"sigma": f"{row['level']:g}", **_live(row)}
        for row in run["points"]
        if row["p_tar"] in (0.8, None) and row["level"] in (0, 1, 1.8)
    ]
    return f"{table(rows)}\n\n{_offloaded(run)}"


def offload_experts() -> str:
    """Live times on blurred images, of plain heads and of those that the classifier chooses."""
    runs = [_run(f"offload_experts-{experts}") for experts in ("plain", "auto")]
    rows = [
        {"sigma": f"{row['level']:g}", "heads": run["experts"], **_live(row)}
        for level in range(4)
        for run in runs
        for row in run["points"]
        if (row["level"], row["policy"]) == (level, "confidence")
    ]
    return f"{table(rows)}\n\n{_offloaded(*runs)}"


def edge_speed() -> str:
    """The edge's stages against other ways to run them."""
    run = _run("edge_speed")
    rows = [{"one image, 224 px, one thread": k, "ms": f"{ms:.2f}"} for k, ms in run["ms"].items()]
    ratios = "; ".join(f"{name}: {ratio:.2f}" for name, ratio in run["ratios"].items())
    start = run["cold_start"]
    return (
        f"{table(rows)}\n\n{ratios}. From the start of the process to the first answer "
        f"{start['total_ms']:.0f} ms, {start['peak_resident_mb']:.0f} MB resident. {_where(run)}"
    )


def wire() -> str:
    """Formats of features."""
    run = _run("wire")
    longest = run["formats"]["JSON list"]["payload_bytes"]
    rows = [
        {
            "96x14x14": name,
            "bytes": f"{found['payload_bytes']:,}",
            "of the JSON list": f"1/{longest / found['payload_bytes']:.1f}",
            "encode + decode ms": f"{found['encode_ms'] + found['decode_ms']:.3f}",
        }
        for name, found in run["formats"].items()
    ]
    return f"{table(rows)}\n\n{_where(run)}"


def serving() -> str:
    """What the cloud takes, and how it fares under twice its capacity."""
    run = _run("serving")
    rows = [
        {"": f"{clients}, {name}, ms", "median": f"{of['median']:.2f}", "p99": f"{of['p99']:.2f}"}
        for clients, found in run["overhead"].items()
        for name, of in (
            ("round trip without the model", found["overhead_ms"]),
            ("and without the queue", found["without_queue_ms"]),
        )
    ]
    rows += [
        {"": f"{name}, 32 clients: {of['requests_per_s']:.0f} requests/s, ms"}
        | {key: f"{of['latency_ms'][key]:.1f}" for key in ("median", "p99")}
        for name, of in run["batching"].items()
    ]
    load = run["overload"]
    rows += [
        {"": f"overload, {name}, ms"} | {key: f"{of[key]:.2f}" for key in ("median", "p99")}
        for name, of in (("answered", load["answered_ms"]), ("refused", load["refused_ms"]))
    ]
    memory = load["memory_mib"]
    return (
        f"{table(rows)}\n\nOverload: {load['offered_per_s']:.0f} requests/s offered for "
        f"{load['seconds']:.0f} s, {load['answered_per_s']:.0f} answered, {load['wrong']} of them "
        f"wrong, {load['failed']} requests failed; memory {memory['first']:.0f} MiB at first, "
        f"{memory['last']:.0f} at last. {_where(run)}"
    )


BLOCKS: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        headline,
        heads,
        branches,
        demo,
        speed,
        edge_analysis,
        fallback,
        blur,
        grid_speed,
        risk,
        experts,
        distortion_classifier,
        offload_times,
        offload_blur,
        offload_experts,
        edge_speed,
        wire,
        serving,
    )
}


def rebuilt(text: str) -> str:
    """`text` with every generated block built anew from the result files."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n{BLOCKS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def _run(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def _accuracies(name: str, run: dict[str, Any]) -> dict[str, str]:
    return {"heads": name} | {
        f"exit {k}": f"{100 * a:.1f}" for k, a in enumerate(run["test"]["accuracy"], 1)
    }


def _total_mmacs(run: dict[str, Any]) -> str:
    total = run["exits"][-1]["macs"] + sum(row["head_macs"] for row in run["exits"])
    return f"{total / 1e6:.1f}"


def _origin(*runs: dict[str, Any]) -> str:
    """Data, seed, epochs, hardware and date, for a line under a table."""
    samples, epochs, size = (
        _distinct(runs, key) for key in ("test_samples", "epochs", "input_size")
    )
    return f"Test split, {samples} images; {epochs} epochs at {size} px. {_where(*runs)}"


def _last_exit_only(run: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """The row of the same network at the same level with no active branch."""
    return next(
        row
        for row in run["points"]
        if row["policy"] == LAST_EXIT_ONLY
        and (row["branches"], row["level"]) == (like["branches"], like["level"])
    )


def _interval(row: dict[str, Any], name: str, scale: float) -> str:
    low, high = (row[f"{name}_{end}"] * scale for end in ("low", "high"))
    return f"{row[name] * scale:.1f} ({low:.1f}-{high:.1f})"


def _live(row: dict[str, Any]) -> dict[str, str]:
    """The columns of a point of an offloading benchmark."""
    predicted = row["predicted_ms"]
    return {
        "answered by": row["policy"],
        "active": row["active"] or "-",
        "mean ms": _interval(row, "answer_ms", 1),
        "p95": f"{row['p95_ms']:.1f}",
        "less than cloud only %": _interval(row, "reduction", 100),
        "predicted ms": "-" if predicted is None else f"{predicted:.1f}",
        "accuracy %": _interval(row, "accuracy", 100),
        "edge %": _interval(row, "edge_probability", 100),
        "kB sent": f"{row['sent_bytes'] / 1e3:.1f}",
    }


def _offloaded(*runs: dict[str, Any]) -> str:
    features, link, measured, edge = (
        _distinct(runs, key) for key in ("features", "link", "link as measured", "edge")
    )
    others = sum(int(row["differing"] or 0) for run in runs for row in run["points"])
    asked = sum(row["n"] for run in runs for row in run["points"] if row["differing"] is not None)
    photographs = ", ".join(str(run["points"][0]["n"]) for run in runs)
    return (
        f"p_tar 0.8. {photographs} photographs of the test split; features in "
        f"{features}; link {link} (measured: {measured}); {edge}. Of all early exits of these runs "
        f"{others} of {asked} differ from the records. {_where(*runs)}"
    )


def _evaluated(run: dict[str, Any]) -> str:
    return f"{run['split'].title()} split, {run['points'][0]['n']} images. {_where(run)}"


def _where(*runs: dict[str, Any]) -> str:
    data, hardware, date, seed = (
        _distinct(runs, key) for key in ("data", "hardware", "date", "seed")
    )
    return f"Data: {data}. Seed {seed}. {hardware}. {date}."


def _distinct(runs: Sequence[dict[str, Any]], key: str) -> str:
    return ", ".join(dict.fromkeys(str(run[key]) for run in runs))


if __name__ == "__main__":
    write_file(ROOT / "README.md", rebuilt((ROOT / "README.md").read_text()))
