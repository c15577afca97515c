"""Evaluate artifacts: `python evaluate.py`, or a sweep: `... -m p_tar=0.7,0.8 first=1,2,3`.

Reads conf/evaluate.yaml, writes outputs/evaluate/NAME/TIMESTAMP/. An installation without a
checkout has this program as `eenn-evaluate`.
"""

from eenn.workflows.console import evaluate

if __name__ == "__main__":
    evaluate()
