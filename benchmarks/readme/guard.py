"""Tables of the guard against drift: by simulation, and live."""

from benchmarks.readme.results import Content, run_of, where
from eenn.reports.tables import table

MAIN = ("branches 5, strict 1", "branches 5, strict 10")
FEW = ("branches 3, strict 1", "branches 3, strict 10")


def guard_acceptance() -> str:
    """Tabulate the figures that the guard has to reach, at both strictnesses."""
    run = run_of("guard")
    found = {name: {own["name"]: own for own in run[name]["acceptance"]} for name in (*MAIN, *FEW)}
    rows = [
        {
            "figure": name,
            "bound": f"{'at least' if own['is_least'] else 'at most'} {_number(own['bound'])}",
            **{setting: _judged(found[setting][name]) for setting in found},
        }
        for name, own in found[MAIN[0]].items()
    ]
    return f"{table(rows)}\n\n{_note(run)}"


def guard_stream() -> str:
    """Tabulate the course of the stream of changing images."""
    run = run_of("guard")
    rows = [
        {"setting": name, **_part(row)} for name in (*MAIN, *FEW) for row in run[name]["stream"]
    ]
    return f"{table(rows)}\n\n{_note(run)}"


def guard_others() -> str:
    """Tabulate other streams: the alarms of the guard, and the risk with and without it."""
    run = run_of("guard")
    rows = []
    for strict, static, guard in _pairs(run["others"]):
        harmful = static["risk"] > run["settings"]["risk"]
        rows.append(
            {
                "": strict,
                "images": guard["part"],
                "risk %, static": f"{100 * static['risk']:.1f}",
                "with the guard": f"{100 * guard['risk']:.1f}",
                "worst seed": f"{100 * guard['largest_risk']:.1f}",
                "edge %, static": f"{100 * static['edge']:.0f}",
                "guard": f"{100 * guard['edge']:.0f}",
                "detected": _detected(guard, run["seeds"]),
                "after images": _images(guard),
                "static breaks the promise": "yes" if harmful else "no",
            }
        )
    return f"{table(rows)}\n\nFive branches. {_note(run)}"


def guard_baselines() -> str:
    """Tabulate other rules on the same stream."""
    run = run_of("guard")
    rows = [_part(row) for row in (*run[MAIN[0]]["stream"], *run["baselines"])]
    return f"{table(rows)}\n\nFive branches, strict 1. {_note(run)}"


def guard_live() -> str:
    """Tabulate the latency of live answers with the guard against without it."""
    run = run_of("guarded")
    rows = [
        {
            "audits": words,
            "mean ms, off": f"{own['mean_ms']['off']:.2f}",
            "on": f"{own['mean_ms']['on']:.2f}",
            "ratio": f"{own['mean_ratio']:.3f}",
            "p99 ms, off": f"{own['p99_ms']['off']:.1f}",
            "p99 on": f"{own['p99_ms']['on']:.1f}",
            "p99 ratio": f"{own['p99_ratio']:.3f}",
            "audited": own["audits"],
            "dropped": own["dropped_audits"],
        }
        for words, own in (("2 %", run["usual"]), ("30 %", run["suspicious"]))
    ]
    answers = run["usual"]["answers"]
    return f"{table(rows)}\n\n{answers} answers of each edge. Link {run['link']}. {where(run)}"


def guard_disturbed() -> str:
    """Tabulate what the guard did while the cloud was killed, and after a restart."""
    run = run_of("guarded")
    rows = [
        {
            "stage": stage,
            "answers": own["answers"],
            "of the edge in the cloud's place": own["degraded"],
            "guard": own["state"],
            "images so far": own["images"],
            "audits so far": own["audits"],
            "dropped so far": own["dropped_audits"],
            "alarms so far": own["alarms"],
        }
        for stage, own in run["disturbed"].items()
    ]
    return f"{table(rows)}\n\nLink {run['link']}. {where(run)}"


def guard_update() -> str:
    """Say how long an update of the guard takes."""
    run = run_of("guard")
    parts = [f"{name} {us:.1f}" for name, us in run["update_us"].items()]
    return (
        "Microseconds of an update (allowed are 50), the best of seven rounds: "
        f"{', '.join(parts)}. {where(run)}"
    )


def _part(row: Content) -> Content:
    return {
        "images": row["part"],
        "rule": row["rule"],
        "risk %": f"{100 * row['risk']:.1f}",
        "worst seed": f"{100 * row['largest_risk']:.1f}",
        "edge %": f"{100 * row['edge']:.1f}",
        "sent %": f"{100 * row['sent']:.1f}",
        "alarm after images": _images(row),
    }


def _pairs(others: Content) -> list[tuple[str, Content, Content]]:
    """Match the rows of both rules on every part behind the first, which is clean."""
    found = []
    for strict, rows in others.items():
        static, guard = (
            [row for row in rows if row["rule"] == rule] for rule in ("static", "guard")
        )
        found += [(strict, *both) for both in zip(static, guard, strict=True)]
    return [both for both in found if both[1]["part"] != "clean"]


def _detected(row: Content, seeds: int) -> str:
    if not row["detected"]:
        return "no"
    return f"{row['detected']} of {seeds}, {row['by_audits']} by audits"


def _images(row: Content) -> str:
    if not row["detected"]:
        return "-"
    shown = [row["median_images"], row["p90_images"]]
    return " / ".join("never" if own is None else f"{own:.0f}" for own in shown)


def _judged(figure: Content) -> str:
    return _number(figure["value"]) + ("" if figure["is_met"] else ", missed")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.3g}"


def _note(run: Content) -> str:
    settings = run["settings"]
    return (
        f"Promise: risk {100 * settings['risk']:g} %, delta {settings['delta']:g}; "
        f"{100 * settings['audit']:g} % audits. Means of {run['seeds']} seeds; images to the "
        f"alarm: median / 90 %. {where(run)}"
    )
