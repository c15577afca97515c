"""The table of named planners in the report of an offloading benchmark."""

import math
from collections.abc import Mapping, Sequence

from eenn.offload.bench.rows import Measured
from eenn.planning.planners.comparison import Compared
from eenn.reports.tables import Cell, flat, number, with_bounds


def compared_rows(
    rows: Sequence[Compared], measured: Mapping[str, Measured]
) -> list[dict[str, str]]:
    """Print the plans of named planners as rows of a table.

    Args:
        measured: measurements of their plans, by planner.
    """
    printed = []
    for row in rows:
        plan, own = row.plan, measured[row.planner]
        printed.append(
            {
                "planner": row.planner,
                "active": plan.setting.branches or "none",
                "policy": plan.setting.policy_text if plan.setting.active else "-",
                "rest": str(plan.route).replace("-", ", "),
                "predicted ms": f"{plan.latency_ms:.2f}",
                "measured ms": with_bounds(own.answer_ms, 1),
                "p95 ms": f"{row.p95_ms:.2f}",
                "measured p95": f"{own.p95_ms:.1f}",
                "late %": f"{100 * row.late_share:.1f}",
                "accuracy %": f"{100 * plan.accuracy:.1f}",
                "measured %": with_bounds(own.accuracy, 100),
                "kB sent": f"{plan.sent_bytes / 1e3:.1f}",
                "modelled mJ": number(row.energy_mj, ".1f"),
                "regret %": f"{100 * row.regret:.1f}",
                "keeps limits": "yes" if row.keeps_limits else "no",
                "graphs missing": row.lacks or "-",
            }
        )
    if all(math.isnan(row.energy_mj) for row in rows):
        for own_row in printed:
            del own_row["modelled mJ"]
    return printed


def compared_cells(row: Compared, measured: Measured) -> dict[str, Cell]:
    """Lay the plan of a named planner out flat, with its measurements."""
    return {
        "planner": row.planner,
        "keeps_limits": row.keeps_limits,
        "p95_ms": row.p95_ms,
        "late_share": row.late_share,
        "energy_mj": row.energy_mj,
        "regret": row.regret,
        "lacks": row.lacks,
        "measured_ms": measured.answer_ms.value,
        "measured_p95_ms": measured.p95_ms,
        "measured_accuracy": measured.accuracy.value,
        "measured_bytes": measured.sent_bytes.value,
        "degraded": measured.degraded,
        **flat(row.plan),
    }


COMPARED_TEXT = (
    "Each named planner chooses among the designs that it knows, under the same limits and on the "
    "same predicted times; joint knows all. Accuracy is that of the validation split, measured is "
    "live on the photographs of this run, undistorted. Late are predicted answers after "
    "plan.deadline_ms. Energy is modelled from the watts given. "
    "Regret: how much longer the predicted latency is than that of joint, or with a "
    "deadline how many points of accuracy are missing. A planner that knows no design within the "
    "limits takes its fastest. Graphs missing: what the publication runs and an artifact has not, "
    "so that the row stands for the planner without it."
)
