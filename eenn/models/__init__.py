"""Networks: the backbone's blocks, the placement of branches, their heads, the early-exit net."""
