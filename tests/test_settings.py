"""Settings are held against their annotations: what fits passes, and what does not is named in one line."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_prune import settings
from jax_prune.errors import BadInput


class Entry(NamedTuple):
    name: str
    share: float | None = None


@dataclasses.dataclass(frozen=True)
class Some:
    KIND: ClassVar[int] = 3
    count: int = 1
    rate: float = 0.5
    name: str = "a"
    on: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    entries: tuple[Entry, ...] = ()
    function: Callable[[int], int] | None = None
    anything: Any = None


VALUES = {
    "count": st.integers() | st.integers(-9, 9).map(np.int64),
    "rate": st.floats() | st.integers() | st.floats(width=32).map(np.float32),
    "name": st.text(),
    "on": st.booleans(),
    "range": st.tuples(st.floats(), st.integers()),
    "entries": st.lists(st.builds(Entry, st.text(), st.none() | st.floats())) | st.just(()),
    "function": st.just(abs) | st.none(),
    "anything": st.integers() | st.text(),
}
OTHERS = {
    "count": st.booleans() | st.floats() | st.text() | st.none(),
    "rate": st.booleans() | st.text() | st.none() | st.complex_numbers(),
    "name": st.integers() | st.none() | st.binary(),
    "on": st.integers() | st.text() | st.none(),
    "range": st.lists(st.floats(), min_size=2, max_size=2) | st.tuples(st.floats()) | st.floats(),
    "entries": st.just(Entry("a")) | st.text(min_size=1) | st.lists(st.integers(), min_size=1) | st.none(),
    "function": st.integers() | st.text(),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_what_fits_passes(values):
    settings.check(Some(**values))


@given(st.sampled_from(sorted(OTHERS)), st.data())
def test_what_does_not_is_named_in_one_line(name, data):
    with pytest.raises(BadInput, match=f"^here: {name} is .*: give ") as caught:
        settings.check(Some(**{name: data.draw(OTHERS[name])}), "here: ")
    assert "\n" not in str(caught.value)


def test_named_tuples_are_looked_at_as_well():
    with pytest.raises(BadInput, match="share is 'half': give a number or None"):
        settings.check(Entry("a", "half"))
