"""Hot loops: numba over packed numpy arrays; no objects, no strings, no random numbers of their own."""
