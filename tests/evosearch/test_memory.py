"""The memory plan counts what is really there, and leaves what it says."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jax_prune import evosearch
from jax_prune.errors import BadInput
from jax_prune.evosearch import Bounds, memory, probe

ALL = Bounds(np.zeros(3), np.ones(3))
X, Y, W = 70 * 6 * 4, 70 * 4 * 4, 70 * 4  # bytes of the examples' x, y and weights; the values are x again
NETWORK = 2 * 4 * (84 + 104 + 36)  # parameters and ranks


def test_every_array_is_counted_once(problem, loss):
    masked = evosearch.masked_loss(*problem, loss, chunk=35)
    plan = memory.planned(masked, 10**6)
    assert (plan.data, plan.arranged, plan.network) == (2 * X + Y + W, 2 * X + Y, NETWORK)
    assert plan.first_layer == plan.counts == 0 and plan.total + plan.left == 10**6
    assert memory.planned(masked, 10**6, masked) == plan
    rounded = memory.planned(masked.at_precision("bfloat16"), 10**6, masked)
    assert rounded.data == plan.data + X // 2 and rounded.arranged == plan.arranged - X // 2
    assert rounded.network == plan.network


@pytest.mark.parametrize("copies", [1, 2])
def test_the_first_layer_takes_what_is_left_and_no_more(problem, loss, copies):
    masked = evosearch.masked_loss(*problem, loss, chunk=35)
    one = (1 + copies) * 70 * 12 * 4  # bytes of the products at one count, in every copy
    for limit, body in ((50_000, 3000), (60_000, 0), (60_000, 9000), (100_000, None)):
        before = memory.planned(masked, limit, copies=copies)
        cached = masked.cached(ALL, memory.room_for_products(before, masked, body, copies))
        plan = memory.planned(cached, limit, copies=copies)
        assert plan.arranged == copies * (2 * X + Y) and plan.counts == len(cached.first_layer.counts) > 1
        assert plan.first_layer == (1 + copies) * X + plan.counts * one
        half = (before.left - (1 + copies) * X) // 2
        least = half if body is None else body
        assert least <= plan.left < least + one + 2
    assert memory.room_for_products(before._replace(limit=0), masked, 5) == 0
    assert memory.has_first_product(masked) and not memory.has_first_product(masked.at_precision("bfloat16"))


def test_what_a_body_allocates_is_what_the_probe_measures(problem, loss):
    fitness = evosearch.budget_loss(evosearch.masked_loss(*problem, loss), 70, ALL)
    genomes = np.tile(fitness.box.upper, (4, 1))
    timings = probe.measure(fitness, genomes, (1,))
    assert probe.body_bytes(fitness, genomes, 1) == timings[0].bytes > 4 * (84 + 104 + 36)
    assert probe.body_bytes(fitness, genomes, 4) > timings[0].bytes


def test_one_line_says_all_of_it():
    plan = memory.Memory(2**31, 6_300_000, 6_200_000, 2_100, 312_000_000, 65)
    assert memory.line(plan._replace(at_once=4)) == (
        "memory of a search: data 6.3 MB, sorted copy 6.2 MB, network and ranks 2.1 kB, first layer at 65 counts "
        "312.0 MB, 4 candidates at once beside these, not measured; at least 324.5 MB of 2.1 GB"
    )
    assert memory.line(plan._replace(counts=0, first_layer=0, body=500)).endswith(
        "2.1 kB, 1 candidate at once 500 B; 12.5 MB of 2.1 GB"
    )
    assert memory.line(plan._replace(counts=0, first_layer=0)).endswith(
        "2.1 kB, 1 candidate at once beside these, not measured; at least 12.5 MB of 2.1 GB"
    )


def test_data_beyond_the_limit_is_refused(problem, loss):
    masked = evosearch.masked_loss(*problem, loss)
    size = memory.planned(masked, 10**6).data
    assert memory.planned(masked, size).left == 0
    with pytest.raises(BadInput, match=r"calibration data takes 4\.8 kB, the memory limit is 4\.8 kB: raise memory"):
        memory.planned(masked, size - 1)


def test_data_alike_is_alike_on_device(problem, loss):
    masked = jax.device_put(evosearch.masked_loss(*problem, loss))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((masked.chunks, masked.weights)))
    assert memory.planned(masked, 10**6).data == held
