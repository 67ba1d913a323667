"""The channels study on networks of a user's own: batch norm in NNX, Linen with a build, a latency as the target."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import datasets, learning, narrowing
from jax_prune.errors import BadInput
from jax_prune.pruning import costs, latency
from jax_prune.report import page
from jax_prune.studies import channels
from jax_prune.studies.channels import Config
from jax_prune.types import Batch

FACTORIES = """
import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax_prune import nets

class Normed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 8, (3, 3), strides=4, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.second = nnx.Linear(392, 24, rngs=rngs)
        self.last = nnx.Linear(24, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.first(x / 255.0)))
        return self.last(nnx.relu(self.second(x.reshape(len(x), -1))))

def normed(seed):
    return Normed(nnx.Rngs(seed))

class Plain(linen.Module):
    hidden: int = 32

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(self.hidden, name="first")(x.reshape(len(x), -1) / 255.0))
        return linen.Dense(10, name="last")(x)

def plain(seed, build=None):
    module = Plain()
    return nets.from_linen(module, module.init(jax.random.key(seed), jnp.zeros((1, 28, 28, 1))), build=build)

def buildable(seed):
    return plain(seed, lambda widths: Plain(hidden=widths["first"]))
"""
QUICK = dataclasses.replace(Config().smoke(), seed=3, population=4, generations=1)
SECONDS = (1e-4, 2e-9)  # of a call, and of a product


@pytest.fixture(autouse=True, scope="module")
def factories(tmp_path_factory):
    """The user's module where Python finds it, and a slice of MNIST in the place of the whole."""
    whole, folder = datasets.load("mnist"), tmp_path_factory.mktemp("own")
    (folder / "channels_own.py").write_text(FACTORIES)

    def first(batch, examples):
        return Batch(batch.x[:examples], batch.y[:examples])

    test = first(whole.test(), 500)
    few = whole._replace(train=first(whole.train, 3000), validation=first(whole.validation, 500), test=lambda: test)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(datasets, "load", lambda name, **options: few)
        yield few


def by_products(functions, x, **options):
    """A machine whose calls take a constant, and so much for each product."""
    example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    return np.asarray([SECONDS[0] + SECONDS[1] * len(x) * sum(costs.macs(net, example).values()) for net in functions])


def narrowed(folder, **options):
    """A batch-norm net to a share of the latency, on a machine of known times."""
    config = dataclasses.replace(QUICK, net="channels_own:normed", macs=None, latency=0.6, latency_batch=8, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "measure", by_products)
        return config, channels.run(config, str(folder))


def check_latency(report):
    """The target is met as the machine has it, within one channel of either group."""
    (way,) = report.ways
    (target,) = way.spending
    measured, dense = (side.seconds["8"] for side in (way.network, report.dense))
    assert target.cost == "latency" and target.target and target.spent <= target.limit
    assert target.limit == pytest.approx(0.6 * dense, rel=1e-6)
    assert target.spent == pytest.approx(measured, rel=1e-6)
    more = SECONDS[1] * 8 * min(49 * 9 + 49 * way.kept[1], 49 * way.kept[0] + 10)
    assert measured + more > target.limit
    assert report.latency.error < 1e-6 and report.latency.batch == 8 and report.budget is None
    assert "predicted 0.1" in page.html(report) and "measured 0.1" in page.html(report)


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normed")
    return folder, *narrowed(folder, way="gates")


def test_gates_meet_a_latency_as_the_machine_has_it(normed):
    check_latency(normed[2])


@pytest.mark.slow
def test_a_search_meets_a_latency_too(tmp_path):
    check_latency(narrowed(tmp_path)[1])


def test_a_resumed_run_keeps_the_times_it_has(normed, monkeypatch):
    folder, config, report = normed
    monkeypatch.setattr(latency, "measure", lambda *_, **__: pytest.fail("measured again"))
    assert channels.run(config, str(folder)).ways[0].spending == report.ways[0].spending


def test_batch_statistics_are_cut_too(normed, factories):
    folder, _, report = normed
    net = narrowing.load(folder / "compact.safetensors")
    assert {np.shape(leaf)[-1] for leaf in jax.tree.leaves(net.state)} >= {report.ways[0].kept[0]}
    error = 1 - learning.evaluate(net, factories.test(), learning.correct)[0]
    assert report.pruned.error == pytest.approx(error, abs=1e-6)


def test_a_linen_net_is_built_anew_by_its_own_function(tmp_path):
    config = dataclasses.replace(QUICK, net="channels_own:buildable", way="uniform", macs=0.5)
    report = channels.run(config, str(tmp_path))
    net = narrowing.load(tmp_path / "compact.safetensors")
    assert net.apply.module.hidden == net.params["first"]["kernel"].shape[1] == report.layers[0].kept == 16
    assert net(jnp.zeros((2, 28, 28, 1), jnp.uint8)).shape == (2, 10)


def test_a_linen_net_without_one_is_told_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(BadInput, match="give nets.from_linen or compact its build.*'first'"):
        channels.run(dataclasses.replace(QUICK, net="channels_own:plain"), str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_latency_out_of_reach_is_said_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "measure", by_products)
    monkeypatch.setattr(learning, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(BadInput, match="latency 0.01 cannot be met: of the dense net's .* ms a call .* ask for 0"):
        channels.run(dataclasses.replace(QUICK, net="channels_own:normed", latency=0.01), str(tmp_path))


def test_a_time_that_no_cut_shortens_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "measure", lambda functions, x: np.full(len(functions), 1e-3))
    with pytest.raises(BadInput, match="its time hardly falls with its channels: ask for macs or parameters"):
        channels.run(dataclasses.replace(QUICK, net="channels_own:normed", latency=0.5, way="uniform"), str(tmp_path))
