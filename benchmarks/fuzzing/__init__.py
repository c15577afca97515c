"""Targets of `python -m benchmarks.fuzz`, one module a kind of input that strangers give.

A target is a public function `NAME(random: Random) -> None`: it draws one input, runs it, and
raises where the product did what it must not.
"""
