"""Measure early exits against a cloud: `python offload_bench.py`, or `... cloud.url=https://HOST`.

Reads conf/offload_bench.yaml, writes outputs/offload/NAME/TIMESTAMP/. An installation without a
checkout has this program as `eenn-bench`.
"""

from eenn.workflows.console import offload_bench

if __name__ == "__main__":
    offload_bench()
