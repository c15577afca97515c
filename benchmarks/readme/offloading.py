"""Tables of edge and cloud: live times, stages, the wire, the server."""

from benchmarks.readme.results import Content, distinct, interval, run_of, where
from eenn.exits.settings import Baseline
from eenn.reports.tables import table


def offload_times() -> str:
    """Tabulate live times at p_tar 0.8 against the baselines, on three speeds of the edge."""
    runs = {slowdown: run_of(f"offload_times-{slowdown}") for slowdown in (1, 5, 10)}
    rows = [
        {"edge slower by": str(slowdown), **_live(row)}
        for slowdown, run in runs.items()
        for row in run["points"]
        if row["p_tar"] in (0.8, None)
    ]
    return f"{table(rows)}\n\n{_offloaded(*runs.values())}"


def offload_blur() -> str:
    """Tabulate live times on blurred images at p_tar 0.8."""
    run = run_of("offload_blur")
    rows = [
        {"sigma": f"{row['level']:g}", **_live(row)}
        for row in run["points"]
        if row["p_tar"] in (0.8, None) and row["level"] in (0, 1, 1.8)
    ]
    return f"{table(rows)}\n\n{_offloaded(run)}"


def offload_experts() -> str:
    """Tabulate live times on blurred images, of plain and of chosen heads."""
    runs = [run_of(f"offload_experts-{experts}") for experts in ("plain", "auto")]
    rows = [
        {"sigma": f"{level}", "heads": run["experts"], **_live(row)}
        for level in range(4)
        for run in runs
        for row in run["points"]
        if row["level"] == level
        # Whole photographs are always answered by the plain heads.
        and (
            row["policy"] == "confidence"
            or (row["policy"] == Baseline.CLOUD_ONLY.value and run is runs[0])
        )
    ]
    return f"{table(rows)}\n\n{_offloaded(*runs)}"


def edge_speed() -> str:
    """Tabulate the edge's stages against other ways to run them."""
    run = run_of("edge_speed")
    rows = [{"one image, 224 px, one thread": k, "ms": f"{ms:.2f}"} for k, ms in run["ms"].items()]
    ratios = "; ".join(f"{name}: {ratio:.2f}" for name, ratio in run["ratios"].items())
    start = run["cold_start"]
    return (
        f"{table(rows)}\n\n{ratios}. From the start of the process to the first answer "
        f"{start['total_ms']:.0f} ms, {start['peak_resident_mb']:.0f} MB resident. {where(run)}"
    )


def in_flight() -> str:
    """Tabulate the images per second with several in flight, beside what is predicted."""
    run = run_of("in_flight")
    rows = [
        {
            "link": row["link"],
            "answered by": row["way"],
            "images from": row["source"],
            "device, link, cloud ms": ", ".join(
                f"{row[f'{part}_ms']:.1f}" for part in ("device", "link", "cloud")
            ),
            "1 / latency": f"{row['per_s_by_latency']:.0f}",
            **{f"N = {number}": f"{per_s:.0f}" for number, per_s in row["per_s"].items()},
            "1 / slowest": f"{row['per_s_by_slowest']:.0f}",
        }
        for row in run["rows"]
    ]
    first = run["rows"][0]
    equal = "equal" if all(row["answers_equal"] for row in run["rows"]) else "not equal"
    return (
        f"{table(rows)}\n\nImages per second, medians of {first['rounds']} runs over "
        f"{first['images']} test photographs. Answers and exits are {equal} for every N. "
        f"{where(run)}"
    )


def wire() -> str:
    """Tabulate the encodings of features."""
    run = run_of("wire")
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
    return f"{table(rows)}\n\n{where(run)}"


def serving() -> str:
    """Tabulate the cloud's latencies, and its answers under twice its capacity."""
    run = run_of("serving")
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
        f"{memory['last']:.0f} at last. {where(run)}"
    )


def _live(row: Content) -> dict[str, str]:
    """Print the columns of a point of an offloading benchmark."""
    predicted = row["predicted_ms"]
    return {
        "answered by": row["policy"],
        "active": row["active"] or "-",
        "mean ms": interval(row, "answer_ms", 1),
        "p95": f"{row['p95_ms']:.1f}",
        "less than cloud only %": interval(row, "reduction", 100),
        "predicted ms": "-" if predicted is None else f"{predicted:.1f}",
        "accuracy %": interval(row, "accuracy", 100),
        "edge %": interval(row, "edge_probability", 100),
        "kB sent": f"{row['sent_bytes'] / 1e3:.1f}",
    }


def _offloaded(*runs: Content) -> str:
    features, link, measured, edge = (
        distinct(runs, key) for key in ("features", "link", "link as measured", "edge")
    )
    others = sum(int(row["differing"] or 0) for run in runs for row in run["points"])
    asked = sum(row["n"] for run in runs for row in run["points"] if row["differing"] is not None)
    photographs = ", ".join(dict.fromkeys(str(run["points"][0]["n"]) for run in runs))
    return (
        f"p_tar 0.8. {photographs} photographs of the test split; features in "
        f"{features}; link {link} (measured: {measured}); {edge}. Of all early exits of these runs "
        f"{others} of {asked} differ from the records. {where(*runs)}"
    )
