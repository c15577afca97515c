"""The table of a stream of changing photographs through a live edge and cloud."""

from benchmarks.readme.results import Content, interval, run_of, where
from eenn.reports.tables import table


def drift_live_strict1() -> str:
    """Tabulate the stream where every exit asks for the same confidence."""
    return _stream(run_of("drift_live-strict1"))


def drift_live_strict10() -> str:
    """Tabulate the stream where inner exits may be wrong ten times less often."""
    return _stream(run_of("drift_live-strict10"))


def _stream(run: Content) -> str:
    """Tabulate every segment by a static, a guarded and a clairvoyant threshold."""
    rows = [
        {
            "images": f"{row['n']:,} {row['images']}",
            "threshold": row["way"],
            "risk %": interval(row, "risk", 100),
            "edge %": f"{100 * row['edge_probability']:.1f}",
            "sent %": f"{100 * row['sent']:.1f}",
            "accuracy %": f"{100 * row['accuracy']:.1f}",
            "alarms": str(row["alarms"]),
            "images to the alarm": "-" if row["detection"] is None else f"{row['detection']:.0f}",
            "mean ms": "-" if row["answer_ms"] is None else f"{row['answer_ms']:.1f}",
        }
        for row in run["segments"]
    ]
    promised = run["promised"]
    return (
        f"{table(rows)}\n\nPromised: risk {100 * promised['risk']:g} %, delta "
        f"{promised['delta']:g}, {100 * promised['audit']:g} % audits. Threshold: "
        f"{run['threshold']}. Link: {run['link']}; {run['features']} features. Live: "
        f"{run['live']}; audits: {run['audits']}; failures of the cloud: "
        f"{run['failures of the cloud']}. {where(run)}"
    )
