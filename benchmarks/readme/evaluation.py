"""Tables of evaluations: policies, blur, fitted thresholds, experts."""

import re
from collections.abc import Iterable

from benchmarks.readme.results import RESULTS, Content, interval, run_of, where
from eenn.evaluation.experts import Confusion
from eenn.exits.head_sets import FINE_TUNED
from eenn.exits.settings import Baseline
from eenn.reports.experts import confusion_rows
from eenn.reports.tables import table
from eenn.statistics.intervals import Estimate


def edge_analysis() -> str:
    """Tabulate networks with 2 to 5 branches, their last exits and the conventional network."""
    run = run_of("edge_analysis")
    conventional = next(row for row in run["points"] if not row["branches"])
    rows = []
    for row in run["points"]:
        if row["p_tar"] == 0.8 and row["policy"] == "confidence":
            alone = _last_exit_only(run, row)
            rows.append(
                {
                    "branches": str(row["branches"]),
                    "accuracy %": interval(row, "accuracy", 100),
                    "last exit only": interval(alone, "accuracy", 100),
                    "conventional": interval(conventional, "accuracy", 100),
                    "edge %": interval(row, "edge_probability", 100),
                    "edge accuracy %": interval(row, "edge_accuracy", 100),
                    "MMACs": interval(row, "macs", 1e-6),
                    "latency ms": interval(row, "latency_ms", 1),
                    "of last exit only": f"{row['latency_ms'] / alone['latency_ms']:.2f}",
                }
            )
    return f"{table(rows)}\n\np_tar 0.8, all branches active. {_evaluated(run)}"


def fallback() -> str:
    """Tabulate both fallbacks for images that no exit accepts, five branches."""
    runs = {name: run_of(f"fallback-{name}") for name in ("most_confident", "last_exit")}
    rows = [
        {
            "p_tar": f"{row['p_tar']:g}",
            **{
                f"`{name}`, %": interval(other, "accuracy", 100)
                for name, run in runs.items()
                for other in run["points"]
                if (other["policy"], other["p_tar"]) == ("confidence", row["p_tar"])
            },
            "last exit only, %": interval(_last_exit_only(runs["last_exit"], row), "accuracy", 100),
        }
        for row in runs["last_exit"]["points"]
        if row["policy"] == "confidence"
    ]
    return f"{table(rows)}\n\nFive branches, all active. {_evaluated(runs['last_exit'])}"


def blur() -> str:
    """Tabulate single exits, committee and conventional network on blurred images."""
    run = run_of("blur_committee")
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
                    "accuracy %": interval(row, "accuracy", 100),
                    "conventional": interval(conventional, "accuracy", 100),
                    "edge %": interval(row, "edge_probability", 100),
                    "edge accuracy %": interval(row, "edge_accuracy", 100),
                    "MMACs": interval(row, "macs", 1e-6),
                }
            )
    return f"{table(rows)}\n\np_tar 0.8, all branches active. {_evaluated(run)}"


def grid_speed() -> str:
    """Tabulate the time of a grid from records, against running the network again."""
    run = run_of("grid_speed")
    rows = [
        {"": "from records", "s": f"{run['grid_s']:.2f}"},
        {"": "network again for every point", "s": f"{run['network_again_s']:.0f}"},
        {"": "ratio", "s": f"{run['ratio']:.0f}"},
    ]
    return (
        f"{table(rows)}\n\n{run['points']} points on {run['samples']:,} samples; peak memory with "
        f"{run['memory_samples']:,}: {run['peak_memory_mib']:.0f} MiB. {where(run)}"
    )


def risk() -> str:
    """Tabulate the broken promises of thresholds that were fitted to a risk."""
    run = run_of("risk")
    rows = [
        {
            "method": f"`{found['method']}`",
            "strict": f"{found['strict']:g}",
            "broken": f"{found['violations']} of {run['draws']}",
            "median p_tar": f"{found['median_p_tar']:g}",
            "median edge %": f"{100 * found['median_edge_probability']:.1f}",
            "least p_tar that keeps it": f"{found['lowest_p_tar_within_limit']:g}",
        }
        for found in run["fits"]
    ]
    return (
        f"{table(rows)}\n\nRisk at most {run['limit']:g}, delta {run['delta']:g}, "
        f"{run['validation_n']} validation images drawn with replacement from "
        f"{run['population_n']}. {where(run)}"
    )


def drift() -> str:
    """Tabulate the sets of images that were flagged as drift."""
    run = run_of("drift")
    words = {
        "validation": "resamples of validation",
        "test": "test images",
        "blurred": f"test images, blur {run['blur_sigma']:g}",
    }
    rows = [
        {
            "images": words[found["images"]],
            "n": str(found["n"]),
            "flagged": f"{found['flagged']} of {run['draws']}",
        }
        for found in run["flagged"]
    ]
    return (
        f"{table(rows)}\n\n{run['quantities']} quantities against {run['validation_n']} validation "
        f"images, false alarms at most {100 * run['level']:g} %, p_tar {run['p_tar']:g}. "
        f"{where(run)}"
    )


def experts() -> str:
    """Tabulate plain, matching, chosen, mixed and fine-tuned heads by kind and level."""
    runs = [run_of(file.stem) for file in sorted(RESULTS.glob("distortion_experts-branches*.json"))]
    return f"{table(_expert_rows(*runs))}\n\np_tar 0.8, all branches active. {_evaluated(*runs)}"


def expert_gains() -> str:
    """Tabulate the gains of chosen experts, in points, beside those of Pacheco et al. (2021c)."""
    runs = [run_of(file.stem) for file in sorted(RESULTS.glob("distortion_experts-branches*.json"))]
    columns = {f"{run['points'][0]['branches']} branches": _gains(run) for run in runs}
    columns["Pacheco et al. (2021c)"] = {
        "chosen - plain, blur 3": 41.0,
        "chosen - plain, noise 20": 45.0,
        "plain, noise 20, %": 8.5,
        "chosen - plain, untouched": -5.0,
        "classifier right, %": 99.4,
    }
    names = next(iter(columns.values()))
    rows = [
        {"": name}
        | {
            title: f"{of[name]:{'.1f' if name.endswith('%') else '+.1f'}}" if name in of else "-"
            for title, of in columns.items()
        }
        for name in names
    ]
    return f"{table(rows)}\n\nDifferences in points of accuracy. {_evaluated(*runs)}"


def _gains(run: Content) -> dict[str, float]:
    found: dict[tuple[str, float], dict[str, dict[str, float]]] = {}
    for row in run["points"]:
        found.setdefault((row["distortion"], row["level"]), {})[row["experts"]] = row
    trained = [place for place in found if place[0] in _trained_kinds(run)]
    unseen = [place for place in found if place not in trained]

    def gain(place: tuple[str, float], over: str, of: str = "auto") -> float:
        return 100 * (found[place][of]["accuracy"] - found[place][over]["accuracy"])

    blur, noise = "gaussian_blur", "gaussian_noise"
    # Level 0 of both is the same images.
    right = {
        (row["level"] and row["distortion"], row["level"]): row["recognised"]
        for row in run["confusion"]
        if row["distortion"] in (blur, noise)
    }
    gains = {
        "chosen - plain, blur 3": gain((blur, 3), "plain"),
        "chosen - plain, noise 20": gain((noise, 20), "plain"),
        "chosen - plain, noise 40": gain((noise, 40), "plain"),
        "plain, noise 20, %": 100 * found[noise, 20]["plain"]["accuracy"],
        "chosen - plain, untouched": gain((blur, 0), "plain"),
        "chosen - matching, least": min(gain(place, "matching") for place in trained),
        **{
            f"{heads}, accuracy on the edge, least, %": 100
            * min(found[place][way]["edge_accuracy"] for place in trained)
            for heads, way in (("chosen", "auto"), ("plain", "plain"))
        },
        "chosen - plain, unseen kinds, least": min(gain(place, "plain") for place in unseen),
        "chosen - plain, unseen kinds, most": max(gain(place, "plain") for place in unseen),
        "classifier right, %": 100 * sum(right.values()) / len(right),
    }
    for place, name in (((blur, 3), "blur 3"), ((blur, 5), "blur 5"), ((noise, 40), "noise 40")):
        if FINE_TUNED in found[place]:
            gains[f"fine-tuned - chosen, {name}"] = gain(place, "auto", FINE_TUNED)
    return gains


def distortion_classifier() -> str:
    """Tabulate the choices of the distortion classifier, the artifact with three branches."""
    run = run_of("distortion_experts-branches3")
    (network,) = run["networks"].values()
    share = network["classifier"]["macs"] / network["backbone_macs"]
    return (
        f"{_choices(run['confusion'])}\n\n"
        f"Per cent of the images. {network['classifier']['bytes'] / 1e3:.0f} kB, "
        f"{100 * share:.2f} % of the backbone's MACs. {_evaluated(run)}"
    )


def more_kinds() -> str:
    """Tabulate gains and choices where JPEG and motion blur have experts, three branches."""
    run = run_of("distortion_experts-kinds4")
    added = ("jpeg", "motion_blur")
    rows = [row for row in _expert_rows(run) if row["distortion"].replace(" ", "_") in added]
    trained = [row for row in run["confusion"] if row["distortion"] in _trained_kinds(run)]
    choices = _choices(trained)
    return f"{table(rows)}\n\n{choices}\n\np_tar 0.8, all branches active. {_evaluated(run)}"


def _confusion(row: Content) -> Confusion:
    """Read a flat row of a result file."""

    def estimate(name: str) -> Estimate:
        return Estimate(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))

    chosen = [key.removesuffix("_low") for key in row if re.fullmatch("chosen_.*_low", key)]
    return Confusion(
        row["network"],
        row["distortion"],
        row["level"],
        row["n"],
        {name.removeprefix("chosen_"): estimate(name) for name in chosen},
        estimate("recognised"),
        estimate("unsure"),
    )


def _trained_kinds(run: Content) -> Iterable[str]:
    (network,) = run["networks"].values()
    kinds: dict[str, list[float]] = network["levels"]
    return kinds


def _expert_rows(*runs: Content) -> list[dict[str, str]]:
    """Make a row for every network, kind and level, the heads side by side."""
    fine_tuned = any(row["experts"] == FINE_TUNED for run in runs for row in run["points"])
    rows = []
    for run in runs:
        by_place: dict[tuple[str, float], Content] = {}
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
                    "plain %": interval(plain, "accuracy", 100),
                    "matching": accuracy.get("matching", "-"),
                    "chosen": interval(auto, "accuracy", 100),
                    "soft": accuracy["soft"],
                    **({"fine-tuned": accuracy.get(FINE_TUNED, "-")} if fine_tuned else {}),
                    "edge %, plain / chosen": _pair(plain, auto, "edge_probability"),
                    "edge accuracy %, plain / chosen": _pair(plain, auto, "edge_accuracy"),
                }
            )
    return rows


def _pair(plain: Content, chosen: Content, name: str) -> str:
    return f"{100 * plain[name]:.1f} / {100 * chosen[name]:.1f}"


def _choices(found: Iterable[Content]) -> str:
    """Tabulate the choices of the distortion classifier, in per cent."""
    rows = confusion_rows(map(_confusion, found))
    return table({name.removesuffix(" %"): cell for name, cell in row.items()} for row in rows)


def _last_exit_only(run: Content, like: Content) -> Content:
    """Find the row of the same network at the same level with no active branch."""
    return next(
        row
        for row in run["points"]
        if row["policy"] == Baseline.LAST_EXIT_ONLY.value
        and (row["branches"], row["level"]) == (like["branches"], like["level"])
    )


def _evaluated(*runs: Content) -> str:
    return f"{runs[0]['split'].title()} split, {runs[0]['points'][0]['n']} images. {where(*runs)}"
