"""Trials of ways to train better shallow exits; none of them is a part of the product."""
