"""compress() on users' own networks: exact budgets, true masks, one compilation, and going on where it stood."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jax_prune import datasets, evosearch, learning, nets
from jax_prune.compress import Plan, compress
from jax_prune.errors import BadInput
from jax_prune.plan import budgets
from jax_prune.pruning import groups, masks
from jax_prune.pruning.groups import Rule
from jax_prune.stages import Stages
from jax_prune.types import Batch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 10)).astype(np.float32)
Y = (X @ RNG.normal(size=(10, 4))).argmax(1).astype(np.int32)
TRAIN, VALIDATION = Batch(X[:300], Y[:300]), Batch(X[300:], Y[300:])
PLAN = Plan(
    compression=5.0,
    rounds=3,
    round_steps=100,
    final_steps=200,
    calibration=100,
    search=evosearch.Config(population=6, generations=3),
    recipe=learning.Recipe(learning_rate=1e-2, batch_size=32),
)


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(10, 32, rngs=rngs)
        self.last = nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


class LinenMlp(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(4)(linen.relu(linen.Dense(32)(x)))


def trained(net):
    recipe = learning.Recipe(learning_rate=1e-2, batch_size=32)
    return learning.train(
        jax.random.key(0), net, jax.device_put(TRAIN), recipe, loss=learning.cross_entropy, steps=300
    ).net


@pytest.fixture(scope="module")
def net():
    return trained(nets.from_nnx(Mlp(nnx.Rngs(0))))


@pytest.fixture(scope="module")
def result(net):
    return compress(jax.random.key(1), net, TRAIN, VALIDATION, PLAN)


def check_exact(result, plan):
    """Counts, masks, parameters and rounds say the same."""
    total = int(groups.sizes(result.groups).sum())
    asked = budgets(plan, result.groups)
    assert [int(entry.kept.sum()) for entry in result.rounds] == asked
    assert asked[-1] == int(total / plan.compression)
    np.testing.assert_array_equal(masks.kept_counts(result.masks, result.groups), result.kept)
    np.testing.assert_allclose(result.ratios, 1 - result.kept / groups.sizes(result.groups))
    jax.tree.map(
        lambda leaf, flag: np.testing.assert_array_equal(np.where(flag, leaf, 0), leaf), result.net.params, result.masks
    )


@pytest.mark.compat
def test_budgets_are_met_exactly_in_every_round(result, net):
    check_exact(result, PLAN)
    before = learning.evaluate(net, VALIDATION, learning.correct)[0]
    after = learning.evaluate(result.net, VALIDATION, learning.correct)[0]
    assert after == result.rounds[-1].tuned.facts["validation"]
    assert after > 0.5 and before > 0.8


@pytest.mark.parametrize("population", [4, 10])
def test_a_search_begins_with_the_known_allocations_best_first_and_what_is_near_the_best(net, population):
    config = evosearch.Config(population=population, generations=1)
    plan = dataclasses.replace(PLAN, rounds=1, final_steps=100, search=config)
    (entry,) = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan).rounds
    seen, facts = entry.search.arrays["de"], entry.search.facts
    losses = {name: loss for name, loss in facts["losses"].items() if name not in ("de", "random")}
    order = sorted(losses, key=losses.__getitem__)[:population]
    begun = [facts["allocations"][name] for name in order]
    assert sorted(losses[name] for name in order) == pytest.approx(np.sort(seen["value"][0][: len(order)]), rel=1e-4)
    assert seen["kept"][0][: len(order)].tolist() == begun
    vectors = seen["vectors"][0]
    spread = np.ptp(vectors[: len(order)], axis=0).max()
    for vector in vectors[len(order) :]:
        assert 0 < np.abs(vector - vectors[0]).max() < spread


def test_no_layer_grows_from_round_to_round(result):
    for before, after in zip(result.rounds, result.rounds[1:], strict=False):
        assert (after.kept <= before.kept).all()


def test_every_vector_and_every_baseline_is_there(result):
    search = result.rounds[0].search
    assert search.arrays["de"]["vectors"].shape == (4, 6, 2) == search.arrays["random"]["vectors"].shape
    assert set(search.facts["losses"]) == {"de", "random", "uniform", "erk", "lamp", "global", "score", "greedy"}
    assert {sum(kept) for kept in search.facts["allocations"].values()} == {result.rounds[0].budget}
    assert search.facts["losses"]["de"] == pytest.approx(float(search.arrays["de"]["value"].min()), rel=1e-4)

    assert all(search.facts["losses"]["de"] <= loss * (1 + 1e-5) for loss in search.facts["losses"].values())


def test_the_users_module_comes_back(result):
    model = result.net.rebuild(result.net.params, result.net.state)
    assert isinstance(model, Mlp)
    np.testing.assert_allclose(model(X[:5]), result.net(X[:5]), rtol=1e-6)


@pytest.mark.compat
def test_a_linen_network_in_iterables_of_batches():
    module = LinenMlp()
    net = trained(nets.from_linen(module, module.init(jax.random.key(0), X)))
    batches = [Batch(X[i : i + 50], Y[i : i + 50]) for i in range(0, 300, 50)]
    result = compress(jax.random.key(1), net, iter(batches), [tuple(VALIDATION)], PLAN)
    check_exact(result, PLAN)
    outputs = module.apply(result.net.rebuild(result.net.params, result.net.state), X[:5])
    np.testing.assert_allclose(outputs, result.net(X[:5]), rtol=1e-6)


def test_one_compilation_a_search_over_rounds_weights_data_and_budgets(net):
    # the number at once is fixed: on a busy machine the second run's probe may choose another
    plan = dataclasses.replace(PLAN, search=evosearch.Config(population=7, generations=3), at_once=7)
    before = evosearch.compilations()
    compress(jax.random.key(1), net, TRAIN, VALIDATION, plan)
    assert evosearch.compilations() - before == 2  # differential evolution, and random search beside it
    other = net.replace(params=jax.tree.map(lambda leaf: leaf * 1.1, net.params))
    data = Batch(TRAIN.x + 0.1, TRAIN.y[::-1].copy())
    compress(jax.random.key(2), other, data, VALIDATION, dataclasses.replace(plan, compression=9.0))
    assert evosearch.compilations() - before == 2


@pytest.mark.parametrize("allocation", ["random", "uniform", "erk", "lamp", "global", "score", "greedy"])
def test_every_allocation_is_used_as_it_is(net, allocation):
    plan = dataclasses.replace(PLAN, rounds=1, final_steps=100, allocation=allocation)
    (entry,) = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan).rounds
    assert entry.kept.tolist() == entry.search.facts["allocations"][allocation]


@pytest.mark.parametrize("goal", [{}, {"compression": None, "tolerance": 0.05}])
@pytest.mark.parametrize("allocation", ["random", "lamp"])
def test_leaving_the_baselines_out_changes_nothing_but_the_work(net, allocation, goal):
    plan = dataclasses.replace(PLAN, rounds=1, final_steps=100, allocation=allocation, **goal)
    (whole,) = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan).rounds
    (alone,) = compress(jax.random.key(1), net, TRAIN, VALIDATION, dataclasses.replace(plan, baselines=False)).rounds
    np.testing.assert_array_equal(alone.kept, whole.kept)
    assert alone.tuned.facts == whole.tuned.facts
    # under a tolerance random search ends at a budget of its own, which is not compared
    assert set(alone.search.facts["losses"]) == ({"de"} | ({allocation} - {"random"}) if goal else {allocation})
    assert ("random" in whole.search.facts["losses"]) == (not goal)


@pytest.mark.parametrize("score", ["magnitude", "taylor", "random"])
@pytest.mark.parametrize("recovery", ["none", "hysteresis"])
def test_every_score_and_recovery_ends_exact(net, score, recovery):
    plan = dataclasses.replace(PLAN, rounds=1, score=score, recovery=recovery)
    check_exact(compress(jax.random.key(1), net, TRAIN, VALIDATION, plan), plan)


def test_a_budget_in_weights_and_rules(net):
    rules = (Rule("last/.*", upper=0.5), Rule("first/bias", frozen=True))
    plan = dataclasses.replace(PLAN, compression=None, budget=120, rules=rules, rounds=2)
    result = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan)
    assert [(group.name, group.size) for group in result.groups] == [("first", 320), ("last", 132)]
    assert result.kept.sum() == 120 and result.kept[1] >= 66
    assert not np.asarray(result.net.params["first"]["bias"] == 0).any() or net.params["first"]["bias"].any()


def test_the_tolerance_question(net):
    plan = dataclasses.replace(PLAN, compression=None, tolerance=0.05, rounds=2)
    result = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan)
    totals = [int(entry.kept.sum()) for entry in result.rounds]
    assert totals[1] <= totals[0] < groups.sizes(result.groups).sum()
    first = result.rounds[0].search.arrays["de"]
    feasible = first["violation"] == 0
    assert feasible.any() and not feasible.all()
    total = groups.sizes(result.groups).sum()
    assert totals[0] / total == pytest.approx(first["value"][feasible].min())


def squared(outputs, batch):
    return ((outputs - batch.y) ** 2).mean(-1)


def closeness(outputs, batch):
    return -jnp.abs(outputs - batch.y).mean(-1)


def test_a_loss_and_a_metric_of_ones_own():
    targets = (X @ RNG.normal(size=(10, 4))).astype(np.float32)
    data = Batch(X[:300], targets[:300]), Batch(X[300:], targets[300:])
    recipe = learning.Recipe(learning_rate=1e-2, batch_size=32)
    start = nets.from_nnx(Mlp(nnx.Rngs(0)))
    net = learning.train(jax.random.key(0), start, jax.device_put(data[0]), recipe, loss=squared, steps=500).net
    plan = dataclasses.replace(PLAN, compression=2.0)
    result = compress(jax.random.key(1), net, *data, plan, loss=squared, metric=closeness)
    check_exact(result, plan)
    assert result.rounds[-1].tuned.facts["validation"] > learning.evaluate(start, data[1], closeness)[0]


@pytest.mark.compat
def test_a_run_resumed_at_any_stage_ends_the_same(net, result, tmp_path):
    stages = Stages(tmp_path, {})
    for _ in range(30):
        calls = []
        try:
            again = compress(jax.random.key(1), net, TRAIN, VALIDATION, PLAN, stages=Once(stages, calls))
        except Killed:
            continue
        break
    else:
        raise AssertionError("never finished")
    np.testing.assert_array_equal(again.kept, result.kept)
    jax.tree.map(np.testing.assert_array_equal, again.net.params, result.net.params)
    assert [entry.tuned.facts for entry in again.rounds] == [entry.tuned.facts for entry in result.rounds]


class Killed(Exception):
    pass


class Once:
    """Stages that die at the second stage they would have to compute."""

    def __init__(self, stages, calls):
        self.stages, self.calls = stages, calls

    def __call__(self, name, compute):
        def counted():
            self.calls.append(name)
            if len(self.calls) > 2:
                raise Killed
            return compute()

        return self.stages(name, counted)

    def scratch(self, name, part):
        return self.stages.scratch(name, part)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"compression": 0.5}, "factor of 1 or more"),
        ({"compression": 1000.0}, "below one weight"),
        ({"budget": 10_000}, "above the 484 prunable"),
        ({"rounds": 0}, "rounds is 0"),
        ({"score": "luck"}, "unknown score"),
        ({"allocation": "luck"}, "unknown allocation"),
        ({"recovery": "luck"}, "unknown recovery"),
        ({"rules": (Rule("middle/.*"),)}, "matches no parameter"),
        ({"rules": (Rule("last/.*", upper=0.01), Rule("first/.*", upper=0.01)), "rounds": 1}, "cannot be met"),
        ({"calibration": 0}, "calibration is 0"),
    ],
)
def test_plans_that_cannot_be_done_say_why(net, change, says):
    with pytest.raises(BadInput, match=says):
        compress(jax.random.key(1), net, TRAIN, VALIDATION, dataclasses.replace(PLAN, **change))


def test_bad_data_and_weights_say_where(net):
    broken = X.copy()
    broken[7, 3] = np.nan
    with pytest.raises(BadInput, match="training data: x has 1 NaN.*example 7"):
        compress(jax.random.key(1), net, Batch(broken[:300], Y[:300]), VALIDATION, PLAN)
    with pytest.raises(BadInput, match="no batch"):
        compress(jax.random.key(1), net, TRAIN, iter([]), PLAN)
    with pytest.raises(BadInput, match="NaN"):
        bad = net.replace(params=jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), net.params))
        compress(jax.random.key(1), bad, TRAIN, VALIDATION, PLAN)
    with pytest.raises(BadInput, match="outside 0 to 3"):
        datasets.from_arrays(X, Y + 1, classes=4)


@pytest.mark.parametrize("goal", [{}, {"compression": None, "tolerance": 0.05}])
def test_a_search_in_bfloat16_ends_with_the_best_in_float32(net, goal):
    plan = dataclasses.replace(PLAN, rounds=1, final_steps=100, at_once=1, precision="bfloat16", **goal)
    (entry,) = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan).rounds
    facts = entry.search.facts
    assert facts["precision"] == "bfloat16" and set(facts["rescored"]) == {"de", "random"}
    again = facts["rescored"]["de"]
    assert 1 <= again["count"] <= 24 and entry.kept.tolist() == facts["allocations"]["de"]
    after = entry.kept.sum() / groups.sizes(net_groups(net)).sum() if goal else facts["losses"]["de"]
    assert again["after"] == pytest.approx(after, rel=1e-5)
    assert again["before"] == pytest.approx(after, rel=0.05)


def net_groups(net):
    return groups.weight_groups(net.params, (), biases=True)


def test_an_unknown_precision_is_refused_before_anything_runs(net):
    with pytest.raises(BadInput, match="unknown precision 'half': known are float32, bfloat16"):
        compress(jax.random.key(1), net, TRAIN, VALIDATION, dataclasses.replace(PLAN, precision="half"))


@pytest.mark.parametrize("at_once", [0, 3])
def test_the_memory_plan_is_said_once_and_kept(net, capfd, tmp_path, at_once):
    stages = Stages(tmp_path, {})
    plan = dataclasses.replace(PLAN, rounds=2, baselines=False, at_once=at_once, round_steps=0, final_steps=0)
    result = compress(jax.random.key(1), net, TRAIN, VALIDATION, plan, stages=stages)
    said = capfd.readouterr().err
    assert said.count("memory of a search: data ") == 1
    assert said.index("memory of a search") < said.index("search (best1bin)")
    facts = stages("probe", lambda: pytest.fail("the probe was not kept")).facts
    assert facts["at_once"] == result.rounds[1].search.facts["at_once"]
    held = facts["memory"]
    assert held["limit"] == plan.memory and held["counts"] == 65 and held["at_once"] == facts["at_once"]
    assert (held["body"] is None) == bool(at_once) and ("not measured" in said) == bool(at_once)
    again = Stages(tmp_path, {})
    compress(jax.random.key(1), net, TRAIN, VALIDATION, plan, stages=again)
    assert "memory of a search" not in capfd.readouterr().err


def test_memory_that_does_not_hold_the_data_is_refused(net):
    with pytest.raises(BadInput, match=r"calibration data takes 8\.8 kB, the memory limit is 5\.0 kB"):
        compress(jax.random.key(1), net, TRAIN, VALIDATION, dataclasses.replace(PLAN, memory=5000))
