"""A task says in JSON which windows a network was trained and tested on."""

import json

import numpy as np
import pytest

from jax_prune.datasets import har
from jax_prune.datasets.har import Task
from jax_prune.errors import BadInput


def test_a_task_read_back_gives_the_same_windows():
    task = Task(length=100, hop=50, test=(2, 5), validation=(9,))
    again = Task.of(json.loads(json.dumps(task._asdict())))
    assert again == task
    fold, other = task.fold(), again.fold()
    np.testing.assert_array_equal(fold.test.x, other.test.x)
    assert set(fold.test.subjects.tolist()) == {2, 5} and set(fold.validation.subjects.tolist()) == {9}
    assert fold.train.x.shape[1:] == (100, 6)


def test_a_task_is_what_its_parts_are():
    windows = har.cut(har.load("watch"), length=128, hop=64)
    expected = har.held_out_subjects(windows, (8, 9, 10), validation=(7,))
    np.testing.assert_array_equal(Task().fold().train.x, expected.train.x)


@pytest.mark.parametrize("facts", [{}, {"name": "watch"}, Task()._asdict() | {"more": 1}])
def test_other_entries_are_refused(facts):
    with pytest.raises(BadInput, match="a task has the entries name, scenario"):
        Task.of(facts)


def test_values_of_another_kind_are_refused():
    with pytest.raises(BadInput, match="task: length is '128': give a whole number"):
        Task.of(Task()._asdict() | {"length": "128"})
