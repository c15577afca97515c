"""Networks: the backbone's blocks, where branches go, their heads, and the early-exit net."""
