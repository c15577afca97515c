"""Targets of `python -m benchmarks.fuzz`, one module for each kind of input from strangers.

A target is a public function `NAME(random: Random) -> None`: it draws one input, runs it, and
raises where the product fails its contract.
"""
