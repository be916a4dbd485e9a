"""The vector logarithm against the library's."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_models.kernels import logarithm

SOURCE: Any = getattr(logarithm.scaled_logs, "py_func", logarithm.scaled_logs)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=40))
def test_equals_the_library_far_below_the_rounding_of_its_result(numbers: list[float]) -> None:
    """In float64 the error is below 1e-11 of the result or of 1; ends of the range and powers of two too."""
    values = np.array([*numbers, 1.0, 0.5, 2.0**-900, np.sqrt(0.5), np.nextafter(np.sqrt(0.5), 0.0), 2.0])
    n, exact = len(values), np.log(values)
    out = np.zeros(n)
    SOURCE(n, 1.0, values, np.zeros(n), out)

    assert np.all(np.abs(out - exact) <= 1e-11 * np.maximum(np.abs(exact), 1.0))
