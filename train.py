"""Train an early-exit network: `python train.py`, or a sweep: `... -m branches=2,3,4,5`.

`resume=DIR` goes on with the run, or completes the sweep, in a directory.

Reads conf/train.yaml, writes outputs/train/NAME/TIMESTAMP/. Experts for an artifact are trained by
`python train.py --config-name train_experts artifact=DIR`, which reads conf/train_experts.yaml.
An installation without a checkout has this program as `eenn-train`.
"""

from eenn.workflows.console import train

if __name__ == "__main__":
    train()
