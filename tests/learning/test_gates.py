"""Channels gated during one training: exact targets, one program, the same bits again; torch's SGD as a recipe."""

from __future__ import annotations

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_prune import datasets, learning, nets
from jax_prune.errors import BadInput
from jax_prune.learning import Recipe, gates, loop
from jax_prune.nets import gating
from jax_prune.pruning import utility, wide
from jax_prune.pruning.wide import Wide
from jax_prune.types import Array, Batch, Group, Slot

SIZES = (8, 16, 32)


class Small(nnx.Module):
    """Two convolutions with batch norm and a dense layer, for 14x14 images."""

    squash = staticmethod(nnx.relu)

    def __init__(self, rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), strides=2, padding="VALID", use_bias=False, rngs=rngs)
        norm = partial(nnx.BatchNorm, momentum=0.9, rngs=rngs)
        self.conv1, self.norm1 = conv(1, 8), norm(8)
        self.conv2, self.norm2 = conv(8, 16), norm(16)
        self.dense, self.head = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.squash(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(nnx.relu(self.dense(x.reshape(x.shape[0], -1))))


NET = nets.from_nnx(Small(nnx.Rngs(0)))
GROUPS = (
    Group("conv1", 8, (Slot("conv1/kernel", 3), Slot("norm1/scale", 0), Slot("norm1/bias", 0),
                       Slot("conv2/kernel", 2))),
    Group("conv2", 16, (Slot("conv2/kernel", 3), Slot("norm2/scale", 0), Slot("norm2/bias", 0),
                        Slot("dense/kernel", 0, (0, 16, 32, 48)))),
    Group("dense", 32, (Slot("dense/kernel", 1), Slot("dense/bias", 0), Slot("head/kernel", 0))),
)  # fmt: skip


@flax.struct.dataclass
class Products:
    """Sum of price * units * the next group's units, and of price * units of the last and the first."""

    inner: Array  # uint32 [G - 1]
    outer: Array  # uint32 [2]
    name: str = flax.struct.field(pytree_node=False, default="products")

    def total(self, kept: Array) -> Wide:
        units = kept.astype(jnp.uint32)
        inner = wide.product(self.inner, units[:-1] * units[1:])
        return wide.add(wide.total(inner), wide.total(wide.product(self.outer, units[jnp.asarray([0, -1])])))


MACS = Products(jnp.asarray([9 * 4, 4], jnp.uint32), jnp.asarray([9 * 36, 10], jnp.uint32))
PARAMETERS = Products(jnp.asarray([9, 4], jnp.uint32), jnp.asarray([9 + 2, 1 + 10], jnp.uint32))  # but for norm2's


def spent(cost, kept):
    return int(wide.to_numpy(cost.total(jnp.asarray(kept, jnp.int32))))


@pytest.fixture(scope="module")
def data():
    splits = datasets.mnist.splits()

    def smaller(batch, count):
        images = batch.x[:count].reshape(count, 14, 2, 14, 2, 1).mean((2, 4)) / 255
        return Batch(jnp.asarray(images, jnp.float32), jnp.asarray(batch.y[:count]))

    return smaller(splits.train, 6000), smaller(splits.validation, 2000)


@pytest.fixture(scope="module")
def gated():
    return gating.gate(NET, GROUPS, jnp.zeros((2, 14, 14, 1)))


def train(data, way, steps=300, seed=0):
    recipe = Recipe(learning_rate=5e-3, batch_size=32)
    return learning.train(
        jax.random.key(seed), NET, data[0], recipe, loss=learning.cross_entropy, steps=steps, gating=way
    )


def no_room(cost, budget, kept):
    """No group could have one unit more."""
    more = [np.asarray(kept) + row for row in np.eye(len(SIZES), dtype=int)]
    return all(spent(cost, one) > budget for one, size, had in zip(more, SIZES, kept, strict=True) if had < size)


WAYS = {
    "score": lambda gated, budgets: gates.by_score(gated, budgets),
    "utility": lambda gated, budgets: gates.by_utility(gated, budgets=budgets, explore=0.2),
}


@pytest.mark.parametrize("way", ["utility", pytest.param("score", marks=pytest.mark.slow)])
def test_a_target_is_met_within_one_unit_in_one_training(way, data, gated):
    dense = spent(MACS, SIZES)
    budget = int(0.4 * dense)
    trained = train(data, WAYS[way](gated, [(MACS, budget)]))
    kept = [int(flags.sum()) for flags in trained.kept]
    assert spent(MACS, kept) <= budget and no_room(MACS, budget, kept)
    assert min(kept) >= 1 and all(flags.dtype == bool for flags in trained.kept)
    (accuracy,) = learning.evaluate(trained.net, data[1], learning.correct)
    assert accuracy > 0.8


@pytest.mark.slow
def test_learned_scores_are_worth_more_than_random_ones(data, gated):
    """A fifth of the MACs, equal training. With 20,000 images: dense 96.7 %, learned 92.8 %, random 87 %."""
    way = gates.by_score(gated, [(MACS, spent(MACS, SIZES) // 5)])
    accuracy = {}
    for name, own in (("learned", way), ("random", Frozen(**vars(way)))):
        trained = train(data, own, steps=2000)
        (accuracy[name],) = learning.evaluate(trained.net, data[1], learning.correct)
    assert accuracy["learned"] > max(0.9, accuracy["random"] + 0.02)


@flax.struct.dataclass
class Frozen(gates.ScoreGates):
    """Random scores that never move."""

    def start(self):
        keys = jax.random.split(jax.random.key(5), len(SIZES))
        scores = tuple(jax.random.normal(key, (size,)) for key, size in zip(keys, SIZES, strict=True))
        return super().start()._replace(scores=scores)

    def step(self, state, flags, slopes, progress):
        return state


def test_the_nets_own_program_gives_what_the_gated_one_did(data, gated):
    """What is masked at the end is what the gates had switched off: no gate is needed any more."""
    trained = train(data, gates.by_score(gated, [(PARAMETERS, spent(PARAMETERS, SIZES) // 4)]), steps=100)
    flags = tuple(jnp.asarray(own, jnp.float32) for own in trained.kept)
    x = data[1].x[:50]
    with_gates = gated.apply(trained.net.params, trained.net.state, x, flags, train=False, key=None)[0]
    np.testing.assert_allclose(trained.net(x), with_gates, rtol=1e-5, atol=1e-5)
    kernel = np.asarray(trained.net.params["conv2"]["kernel"])
    alive = [kernel.any((0, 1, 3)), kernel.any((0, 1, 2))]
    np.testing.assert_array_equal(alive[0], trained.kept[0])
    np.testing.assert_array_equal(alive[1], trained.kept[1])


def test_the_published_rate_leaves_the_published_count(data, gated):
    trained = train(data, gates.by_utility(gated, 0.42, explore=0.1), steps=100)
    assert sum(int(flags.sum()) for flags in trained.kept) == 56 - round(56 * 0.42) - 1


def test_the_same_key_gives_the_same_bits_and_other_budgets_compile_nothing(data, gated):
    recipe_runs = []
    for budget, seed in ((4_000, 0), (4_000, 0), (3_000, 1)):
        before = loop._advance._cache_size()
        trained = train(data, gates.by_score(gated, [(MACS, budget)], end=0.6 if seed else 0.5), steps=100, seed=seed)
        recipe_runs.append((trained, loop._advance._cache_size() - before))
    (first, _), (again, compiled), (other, more) = recipe_runs
    assert compiled == more == 0
    jax.tree.map(np.testing.assert_array_equal, first.net.params, again.net.params)
    jax.tree.map(np.testing.assert_array_equal, first.kept, again.kept)
    assert spent(MACS, [own.sum() for own in other.kept]) <= 3_000


def test_scores_fall_along_the_cubic_and_then_stay(gated):
    dense = spent(MACS, SIZES)
    way = gates.by_score(gated, [(MACS, dense // 5)], begin=0.2, end=0.7)
    rng = np.random.default_rng(0)
    state = way.start()._replace(scores=tuple(jnp.asarray(rng.normal(size=n), jnp.float32) for n in SIZES))
    for progress in (0.0, 0.1, 0.3, 0.5, 0.69, 0.7, 0.9, 1.0):
        share = (1 - np.clip((progress - 0.2) / 0.5, 0, 1)) ** 3
        budget = dense // 5 + share * (dense - dense // 5)
        kept = [int(own.sum()) for own in way.flags(state, jnp.float32(progress))]
        assert spent(MACS, kept) <= budget * (1 + 1e-6) and no_room(MACS, budget * (1 - 1e-6), kept)
    slopes = tuple(jnp.asarray(rng.normal(size=(4, n)), jnp.float32) for n in SIZES)
    flags = way.flags(state, jnp.float32(0.9))
    moved, still = (way.step(state, flags, slopes, jnp.float32(progress)).scores for progress in (0.5, 0.7))
    for before, own, after, slope in zip(state.scores, moved, still, slopes, strict=True):
        pull = slope.sum(0) - slope.sum(0).mean()
        np.testing.assert_array_equal(np.sign(own - before), -np.sign(pull))  # off or on: straight through
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("way", ["score", pytest.param("utility", marks=pytest.mark.slow)])
def test_of_two_budgets_the_first_is_met_within_the_other(way, gated):
    """A fifth of the parameters, alone, leaves half of the products' budget."""
    budgets = [(MACS, int(0.4 * spent(MACS, SIZES))), (PARAMETERS, spent(PARAMETERS, SIZES) // 5)]
    gating = WAYS[way](gated, budgets)
    rng = np.random.default_rng(0)
    scores = tuple(jnp.asarray(rng.gamma(2.0, size=n), jnp.float32) for n in SIZES)
    state = scores if way == "utility" else gating.start()._replace(scores=scores)
    flags = jax.jit(lambda gating, state: gating.flags(state, jnp.float32(1)))(gating, state)
    kept = np.asarray([int(own.sum()) for own in flags])
    assert all(spent(cost, kept) <= budget for cost, budget in budgets)
    more = [kept + row for row, had, size in zip(np.eye(len(SIZES), dtype=int), kept, SIZES, strict=True) if had < size]
    assert all(any(spent(cost, one) > budget for cost, budget in budgets) for one in more)
    assert spent(MACS, kept) >= 0.85 * budgets[0][1]
    alone = WAYS[way](gated, budgets[1:]).flags(state, jnp.float32(1))
    assert spent(MACS, [int(own.sum()) for own in alone]) < 0.6 * budgets[0][1]


def test_utilities_follow_the_published_rule_in_the_loop(data, gated):
    """One batch is the whole data: a loop of NumPy's rule around the gated net's own slopes must end alike."""
    few = jax.tree.map(lambda leaf: leaf[:64], data[0])
    way = gates.by_utility(gated, 0.3, explore=0.305, decays=(0.6, 0.8), milestones=(0.605,))
    recipe = Recipe(optax.identity, learning_rate=0.0, warmup=0.0, milestones=(0.5,), batch_size=64)
    trained = learning.train(jax.random.key(0), NET, few, recipe, loss=learning.cross_entropy, steps=100, gating=way)

    def loss(opened):
        outputs, _ = gated.apply(NET.params, NET.state, few.x, opened, train=True, key=None)
        return learning.cross_entropy(outputs, few).mean()

    slopes_of = jax.jit(jax.grad(loss))
    u = [np.zeros(n, np.float32) for n in SIZES]
    for step in range(101):
        threshold = np.sort(np.concatenate(u))[round(56 * 0.3)]
        masks = [own > threshold for own in u] if step > 30 else [np.ones(n, bool) for n in SIZES]
        if step == 100:
            break
        slopes = slopes_of(tuple(jnp.asarray(np.tile(mask, (64, 1)), jnp.float32) for mask in masks))
        for layer, (mask, slope) in enumerate(zip(masks, slopes, strict=True)):
            v = np.abs(np.asarray(slope) * mask).sum(0)
            u[layer] = np.where(mask, u[layer] * (0.8 if step > 60 else 0.6), u[layer]) + v / v.max()
    for found, mask in zip(trained.kept, masks, strict=True):
        np.testing.assert_array_equal(found, mask)


class Sigmoid(Small):
    squash = staticmethod(nnx.sigmoid)


def test_a_zero_that_is_no_removal_is_refused(data):
    net = nets.from_nnx(Sigmoid(nnx.Rngs(0)))
    way = gates.by_utility(gating.gate(net, GROUPS, data[0].x[:2]), 0.3)
    with pytest.raises(BadInput, match="does not silence"):
        learning.train(jax.random.key(0), net, data[0], Recipe(), loss=learning.cross_entropy, steps=100, gating=way)


def test_bad_settings_say_what_to_do(gated):
    cases = [
        (lambda: gates.by_utility(gated), "one of the two"),
        (lambda: gates.by_utility(gated, 0.3, explore=0.0), "explore"),
        (lambda: gates.by_utility(gated, 0.3, milestones=(0.5,)), "one decay more"),
        (lambda: gates.by_utility(gated, 0.99), "leaves none"),
        (lambda: gates.by_score(gated, []), "budget"),
        (lambda: gates.by_score(gated, [(MACS, 10)]), "cannot be met"),
        (lambda: gates.by_score(gated, [(MACS, 10**6)], begin=0.9, end=0.2), "begin"),
        (
            lambda: gates.by_utility(gated._replace(reasons=("hidden",) * 3), 0.3),
            "no group can be gated: conv1: hidden",
        ),
    ]
    for make, words in cases:
        with pytest.raises(BadInput, match=words):
            make()


def test_decays_of_imagenet_fit_the_milestones(gated):
    milestones = (0.6, 0.8, 0.9)
    way = gates.by_utility(gated, 0.3, decays=utility.decays(0.6, 3), milestones=milestones)
    assert way.decays.shape == (4,)


def test_coupled_decay_and_milestones_are_torchs_sgd():
    """Where a batch is the whole data set its order does not matter: torch must end at the same weights."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 3, 40)

    class Mlp(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.tanh(self.first(x)))

    net = nets.from_nnx(Mlp(nnx.Rngs(0)))
    recipe = Recipe(
        partial(optax.trace, decay=0.9), learning_rate=0.1, warmup=0.0, weight_decay=0.02, batch_size=40,
        milestones=(0.505, 0.755), coupled=True,
    )  # fmt: skip
    data = Batch(jnp.asarray(x), jnp.asarray(y, jnp.int32))
    found = learning.train(jax.random.key(0), net, data, recipe, loss=learning.cross_entropy, steps=100).net.params
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    with torch.no_grad():
        for layer, name in ((model[0], "first"), (model[2], "last")):
            layer.weight.copy_(torch.tensor(np.asarray(net.params[name]["kernel"]).T))
            layer.bias.copy_(torch.tensor(np.asarray(net.params[name]["bias"])))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50, 75])
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
        schedule.step()
    for layer, name in ((model[0], "first"), (model[2], "last")):
        np.testing.assert_allclose(found[name]["kernel"], layer.weight.detach().numpy().T, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found[name]["bias"], layer.bias.detach().numpy(), rtol=1e-3, atol=1e-4)
