"""Plans under rules, nets with state, data that is not arrays of float32, and what a plan must refuse at once."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jax_prune import evosearch, learning, nets
from jax_prune.compress import Plan, compress
from jax_prune.errors import BadInput
from jax_prune.plan import budgets, checked, cost_of
from jax_prune.pruning import costs, counts, groups, masks
from jax_prune.pruning.budgets import spent
from jax_prune.pruning.groups import Rule
from jax_prune.stages import Stages
from jax_prune.types import Batch, Group, Slot

RNG = np.random.default_rng(3)
X = RNG.normal(size=(300, 10)).astype(np.float32)
Y = (X @ RNG.normal(size=(10, 4))).argmax(1).astype(np.int32)
TRAIN, VALIDATION = Batch(X[:220], Y[:220]), Batch(X[220:], Y[220:])
RECIPE = learning.Recipe(learning_rate=1e-2, batch_size=32)
PLAN = Plan(
    compression=5.0, rounds=2, round_steps=200, final_steps=200, calibration=100, at_once=6, recipe=RECIPE,
    search=evosearch.Config(population=6, generations=3),
)  # fmt: skip
KEY = jax.random.key(1)


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(10, 32, rngs=rngs)
        self.last = nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


@pytest.fixture(scope="module")
def net():
    start = nets.from_nnx(Mlp(nnx.Rngs(0)))
    return learning.train(
        jax.random.key(0), start, jax.device_put(TRAIN), RECIPE, loss=learning.cross_entropy, steps=300
    ).net


def planned(**change):
    return dataclasses.replace(PLAN, **change)


def check_exact(result, plan):
    asked = budgets(plan, result.groups)
    assert [int(entry.kept.sum()) for entry in result.rounds] == list(asked)
    np.testing.assert_array_equal(masks.kept_counts(result.masks, result.groups), result.kept)


@pytest.mark.slow
def test_a_frozen_layer_is_neither_counted_nor_pruned(net):
    plan = planned(rules=(Rule("first/.*", frozen=True),))
    result = compress(KEY, net, TRAIN, VALIDATION, plan)
    assert [(group.name, group.size) for group in result.groups] == [("last", 132)]
    assert result.kept.tolist() == [132 // 5]
    check_exact(result, plan)
    assert (np.asarray(result.net.params["first"]["kernel"]) != 0).all()
    assert np.asarray(result.masks["first"]["kernel"]).all()


def test_layers_in_one_group_share_one_ranking(net):
    plan = planned(rules=(Rule("(first|last)/kernel", group="both"),), score="magnitude", recovery="none", rounds=1)
    (group,) = (result := compress(KEY, net, TRAIN, VALIDATION, plan)).groups
    assert (group.name, group.size) == ("both", 484)
    check_exact(result, plan)
    kept = np.asarray(groups.gather(result.masks, group))
    size = np.abs(np.asarray(groups.gather(net.params, group)))
    assert size[kept].min() >= size[~kept].max()


@pytest.mark.slow
def test_biases_stay_where_they_are_not_asked_for(net):
    plan = planned(biases=False)
    result = compress(KEY, net, TRAIN, VALIDATION, plan)
    assert [group.size for group in result.groups] == [320, 128]
    check_exact(result, plan)
    assert np.asarray(result.masks["first"]["bias"]).all()
    assert (np.asarray(result.net.params["first"]["bias"]) != 0).any()


@pytest.mark.parametrize(("bound", "low", "high"), [({"lower": 0.9}, 1, 352 - 316), ({"upper": 0.75}, 352 - 264, 352)])
def test_bounds_hold_for_every_candidate_of_the_search(net, bound, low, high):
    plan = planned(rules=(Rule("first/.*", **bound),), rounds=1)
    result = compress(KEY, net, TRAIN, VALIDATION, plan)
    check_exact(result, plan)
    for name, kept in result.rounds[0].search.facts["allocations"].items():
        assert low <= kept[0] <= high, name


def test_lower_bounds_that_the_last_budget_meets_stop_no_earlier_round(net):
    plan = planned(rules=(Rule(".*", lower=0.7),), rounds=3)
    assert compress(KEY, net, TRAIN, VALIDATION, plan).kept.sum() == 484 // 5


@pytest.mark.parametrize("bound", [{"upper": 0.6}, {"lower": 0.9}])
def test_a_target_that_the_rules_rule_out_is_refused_before_the_first_step(net, bound):
    with pytest.raises(BadInput):
        checked(planned(rules=(Rule(".*", **bound),), rounds=3), net)


class Normed(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(32)(x))
        x = linen.Dropout(0.1, deterministic=not train)(linen.relu(x))
        return linen.Dense(4)(x)


@pytest.fixture(scope="module")
def normed():
    module = Normed()
    start = nets.from_linen(module, module.init(jax.random.key(0), X))
    return module, learning.train(
        jax.random.key(0), start, jax.device_put(TRAIN), RECIPE, loss=learning.cross_entropy, steps=300
    ).net


def test_batch_statistics_go_through_every_round_and_come_back(normed):
    module, net = normed
    result = compress(KEY, net, TRAIN, VALIDATION, PLAN)
    check_exact(result, PLAN)
    variables = result.net.rebuild(result.net.params, result.net.state)
    assert set(variables) == {"params", "batch_stats"}
    np.testing.assert_allclose(module.apply(variables, X[:5]), result.net(X[:5]), rtol=1e-5, atol=1e-6)
    before = jax.tree.leaves(net.state)
    first, last = (jax.tree.leaves(entry.tuned.arrays["state"]) for entry in result.rounds)
    for a, b, c in zip(before, first, last, strict=True):
        assert not np.allclose(a, b) and not np.allclose(b, c)
    jax.tree.map(np.testing.assert_array_equal, result.net.state, result.rounds[-1].tuned.arrays["state"])
    # norm scales and biases are in no group
    assert {slot.path for group in result.groups for slot in group.slots} == {
        f"Dense_{layer}/{leaf}" for layer in (0, 1) for leaf in ("kernel", "bias")
    }


def test_64_bit_data_in_batches_is_the_same_as_32_bit_arrays(net):
    plan = planned(rounds=1, final_steps=100, recovery="none")
    wide = [(X[start : start + 70].astype(np.float64), Y[start : start + 70].astype(np.int64)) for start in (0, 70)]
    wide.append((X[140:220].astype(np.float64), Y[140:220].astype(np.int64)))
    found = compress(KEY, net, wide, VALIDATION, plan)
    expected = compress(KEY, net, TRAIN, VALIDATION, plan)
    jax.tree.map(np.testing.assert_array_equal, found.net.params, expected.net.params)


@pytest.mark.parametrize("calibration", [1, 10**6])
def test_calibration_may_be_one_example_or_all(net, calibration):
    plan = planned(rounds=1, final_steps=100, calibration=calibration)
    check_exact(compress(KEY, net, TRAIN, VALIDATION, plan), plan)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"compression": float("nan")}, "compression is nan"),
        ({"compression": float("inf")}, "below one weight"),
        ({"compression": None}, "compression is None"),
        ({"compression": None, "budget": 0}, "below one weight"),
        ({"compression": None, "tolerance": -0.1}, "tolerance is -0.1"),
        ({"compression": None, "tolerance": float("nan")}, "tolerance is nan"),
        ({"budget": 50, "tolerance": 0.1}, "two questions"),
        ({"sensitivity": 0.0}, "sensitivity is 0.0"),
        ({"at_once": -1}, "at_once is -1"),
        ({"at_once": 0, "memory": 0}, "memory is 0"),
        ({"rules": (Rule("(", frozen=True),)}, "not a regular expression"),
        ({"rules": (Rule("first/.*", lower=0.9, upper=0.1),)}, "crossed"),
        ({"rules": (Rule("first/.*", lower=-1.0),)}, r"give numbers in \[0, 1\]"),
        ({"rules": (Rule(".*", frozen=True),)}, "nothing to prune"),
        ({"recipe": learning.Recipe(learning_rate=1e20, batch_size=32)}, "lower the learning rate"),
    ],
)
def test_one_clear_line(net, change, says):
    with pytest.raises(BadInput, match=says) as caught:
        compress(KEY, net, TRAIN, VALIDATION, planned(**change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"front": float("nan")},
        {"front": -1.0},
        {"temperature": 0.0},
        {"distillation": 2.0},
        {"recovery_until": 2.0},
        {"neighbour_weight": -1.0},
        {"neighbour_weight": 0.3},  # without shifts
        {"recipe": learning.Recipe(batch_size=0)},
        {"rounds": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_out_of_range_are_refused_before_the_first_step(net, change):
    with pytest.raises(BadInput):
        checked(planned(**change), net)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rounds": "two"}, "rounds is 'two': give a whole number"),
        ({"rounds": 2.5}, "rounds is 2.5: give a whole number"),
        ({"compression": "8x"}, "compression is '8x': give a number or None"),
        ({"rules": "first/.*:frozen"}, "rules is .*: give a tuple or list, each entry a Rule"),
        ({"rules": Rule("first/.*", frozen=True)}, "rules is Rule.*: give a tuple or list"),
        ({"rules": (Rule("first/.*", lower="a"),)}, "rule 'first/.*': lower is 'a': give a number or None"),
        ({"search": {}}, "search is {}: give a Config"),
        ({"recipe": None}, "recipe is None: give a Recipe"),
        ({"recipe": learning.Recipe(batch_size="3")}, "recipe.batch_size is '3'"),
        ({"biases": "yes"}, "biases is 'yes': give True or False"),
        ({"at_once": None}, "at_once is None"),
        (
            {"neighbour_weight": 0.3, "distillation": 0.0, "recipe": learning.Recipe(augment=learning.RandomShift(1))},
            "neighbour_weight averages the teacher's answers, and distillation is 0",
        ),
    ],
)
def test_fields_of_another_type_or_to_no_effect_are_one_line(net, change, says):
    with pytest.raises(BadInput, match=says) as caught:
        checked(planned(**change), net)
    assert "\n" not in str(caught.value)


def test_a_list_of_rules_does_as_well(net):
    assert checked(planned(rules=[Rule("first/.*", frozen=True)]), net)[0].name == "last"


def test_empty_and_uneven_data_say_which(net):
    for train, validation, says in (
        (Batch(X[:0], Y[:0]), VALIDATION, "training data: there are no examples"),
        (TRAIN, Batch(X[:0], Y[:0]), "validation data: there are no examples"),
        (Batch(X[:9], Y[:8]), VALIDATION, "x has 9, y has 8 examples"),
        ([(X[:9], Y[:9]), (X[:9, :5], Y[:9])], VALIDATION, "batch 1 differs from batch 0"),
    ):
        with pytest.raises(BadInput, match=says):
            compress(KEY, net, train, validation, PLAN)


@pytest.mark.parametrize("where", ["train", "validation"])
@pytest.mark.parametrize("label", [-1, 4])
def test_labels_that_the_net_has_no_output_for_say_where(net, where, label):
    wrong = Y.copy()
    wrong[[5, 225]] = label
    train = Batch(X[:220], wrong[:220] if where == "train" else Y[:220])
    validation = Batch(X[220:], wrong[220:] if where == "validation" else Y[220:])
    with pytest.raises(BadInput, match="outside 0 to 3.*example 5"):
        compress(KEY, net, train, validation, planned(rounds=1, final_steps=100))


def the_mean(outputs, batch):
    return learning.cross_entropy(outputs, batch).mean()


@pytest.mark.parametrize("wrong", ["inputs of another shape", "labels as floats", "a loss that is one number"])
def test_what_does_not_fit_the_net_is_one_line(net, wrong):
    train = {
        "inputs of another shape": Batch(X[:220, :5], Y[:220]),
        "labels as floats": Batch(X[:220], Y[:220].astype(np.float32)),
    }.get(wrong, TRAIN)
    loss = the_mean if wrong.startswith("a loss") else learning.cross_entropy
    with pytest.raises(BadInput):
        compress(KEY, net, train, VALIDATION, PLAN, loss=loss)


def test_at_least_one_weight_stays_in_a_very_large_layer():
    size = 2**25
    box = groups.bounds((Group("large", size, (Slot("large/kernel"),)),))
    assert int(counts.kept_count(jnp.asarray(box.upper), np.array([size]))[0]) >= 1


@pytest.mark.parametrize(
    "change",
    [
        {"compression": None, "tolerance": -0.1},
        {"compression": None, "tolerance": float("nan")},
        {"sensitivity": 0.0},
        {"at_once": -1},
        {"at_once": 0, "memory": 0},
        {"recovery_rate": -1.0},
        {"recipe": learning.Recipe(learning_rate=-1.0)},
    ],
    ids=lambda change: list(change)[-1],
)
def test_what_the_search_would_refuse_is_refused_before_the_first_step(net, change):
    with pytest.raises(BadInput):
        checked(planned(**change), net)


def test_stages_of_another_plan_are_not_taken_for_this_ones(net, tmp_path):
    plan = planned(rounds=1, final_steps=100, recovery="none")
    assert compress(KEY, net, TRAIN, VALIDATION, plan, stages=Stages(tmp_path, {})).kept.sum() == 96
    sparser = dataclasses.replace(plan, compression=10.0)
    try:
        result = compress(KEY, net, TRAIN, VALIDATION, sparser, stages=Stages(tmp_path, {}))
    except BadInput:  # to refuse is as good as to compute afresh
        return
    check_exact(result, sparser)


def test_stages_of_another_teacher_are_refused(net, tmp_path):
    plan = planned(rounds=1, final_steps=100, recovery="none")
    compress(KEY, net, TRAIN, VALIDATION, plan, stages=Stages(tmp_path, {}))
    other = net.replace(params=jax.tree.map(lambda leaf: leaf * 2, net.params))
    with pytest.raises(BadInput, match="teacher"):
        compress(KEY, net, TRAIN, VALIDATION, plan, teacher=other, stages=Stages(tmp_path, {}))


def test_the_nets_own_answers_are_what_it_is_taught_without_another_teacher(net):
    plan = planned(rounds=1, final_steps=100)
    alone = compress(KEY, net, TRAIN, VALIDATION, plan)
    taught = compress(KEY, net, TRAIN, VALIDATION, plan, teacher=nets.committee([net]))
    np.testing.assert_allclose(alone.rounds[0].tuned.facts["losses"], taught.rounds[0].tuned.facts["losses"], rtol=1e-4)


@pytest.mark.parametrize("other", ["key", "training data", "validation data", "loss", "metric"])
def test_stages_of_another_key_data_or_loss_are_refused(net, tmp_path, other):
    plan = planned(rounds=1, final_steps=100, recovery="none")
    compress(KEY, net, TRAIN, VALIDATION, plan, stages=Stages(tmp_path, {}))
    key = jax.random.key(99) if other == "key" else KEY
    train = Batch(TRAIN.x, TRAIN.y[::-1].copy()) if other == "training data" else TRAIN
    validation = Batch(VALIDATION.x * 2, VALIDATION.y) if other == "validation data" else VALIDATION
    functions = {other: the_other} if other in ("loss", "metric") else {}
    with pytest.raises(BadInput, match=f"another {other}"):
        compress(key, net, train, validation, plan, **functions, stages=Stages(tmp_path, {}))


def the_other(outputs, batch):
    return learning.cross_entropy(outputs, batch) * 2


class Endless(nnx.Module):
    """Evaluates, but has no gradient in reverse."""

    def __init__(self, rngs):
        self.first = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        y = self.first(x)
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 0, lambda y: y + 1, y)


class Asserting(Endless):
    def __call__(self, x):
        assert x.shape[1] == 5
        return self.first(x)


@pytest.mark.parametrize(("module", "says"), [(Endless, "cannot be differentiated"), (Asserting, "AssertionError")])
def test_nets_that_cannot_be_trained_are_refused_before_the_first_step(module, says):
    x = np.zeros((20, 8), np.float32)
    data = Batch(x, np.arange(20) % 3)
    with pytest.raises(BadInput, match=says):
        compress(KEY, nets.from_nnx(module(nnx.Rngs(0))), data, data, planned())


def test_bare_modules_are_told_how_to_be_wrapped():
    with pytest.raises(BadInput, match=r"nets.from_nnx\(model\)"):
        compress(KEY, nnx.Linear(3, 2, rngs=nnx.Rngs(0)), TRAIN, VALIDATION, PLAN)
    with pytest.raises(BadInput, match="give an nnx.Module"):
        nets.from_nnx(linen.Dense(3))
    for module, variables in ((linen.Dense(3), {"kernel": 1}), ({"params": {}}, linen.Dense(3))):
        with pytest.raises(BadInput, match="a Linen module and its variables"):
            nets.from_linen(module, variables)


def test_shifts_are_refused_where_there_are_no_images(net):
    recipe = learning.Recipe(augment=learning.RandomShift(1))
    with pytest.raises(BadInput, match="images"):
        compress(KEY, net, TRAIN, VALIDATION, planned(recipe=recipe))


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"max_macs": 60}, {"max_bytes": 500}])
def test_limits_of_macs_and_bytes_are_kept_by_every_allocation_of_every_round(net, change):
    plan = planned(compression=None, **change)
    (limit,) = change.values()
    result = compress(KEY, net, TRAIN, VALIDATION, plan)
    example = X[:1]
    cost = cost_of(plan, net, result.groups, example)
    asked = budgets(plan, result.groups, cost)
    assert asked[-1] == limit < asked[0] < spent(cost, groups.sizes(result.groups))
    for entry, most in zip(result.rounds, asked, strict=True):
        assert entry.budget == most and entry.spent == spent(cost, entry.kept)
        found = entry.search.facts["allocations"]
        assert set(found) == {"de", "random", "uniform", "erk", "lamp", "global", "score", "greedy"}
        for name, kept in found.items():
            assert spent(cost, kept) <= most, name
            assert spent(cost, kept) > most - 7, name  # an entry costs a product, or at most 6 bytes
    measured = costs.kept_macs(net, result.masks, example)
    if "max_bytes" in change:
        measured = costs.packed_total(result.net.params, result.masks)
    assert measured <= limit


@pytest.mark.parametrize(
    "rules",
    [
        (Rule("first/kernel", nm="n:5"),),
        (Rule("last/kernel", nm="2:4"),),
        (Rule("first/kernel", nm="2:5"), Rule("last/kernel", nm="2:4")),
        (Rule(".*", lower=0.3, upper=0.9),),
    ],
)
def test_a_compression_that_the_rules_rule_out_names_those_that_they_allow(net, rules):
    with pytest.raises(BadInput, match="compression 1000, budget 0, cannot be met: .* a compression of") as caught:
        checked(planned(rules=rules, compression=1000), net)
    ends = [float(text) for text in re.findall(r"[\d.]+", str(caught.value).partition("a compression of")[2])]
    if len(ends) == 2:
        for end, beyond in zip(ends, (0.995, 1.005), strict=True):
            checked(planned(rules=rules, compression=end), net)
            with pytest.raises(BadInput):  # below 1 it says so itself
                checked(planned(rules=rules, compression=end * beyond), net)


def test_limits_that_no_allocation_keeps_are_refused_at_once(net):
    for change, says in (
        ({"max_bytes": 8}, "the rules allow .* bytes in all"),
        ({"max_macs": 10**6}, "above the 448 MACs of the whole net"),
        ({"max_bytes": 500, "budget": 50}, "two questions"),
        ({"max_bytes": 500, "max_macs": 50}, "two questions"),
    ):
        with pytest.raises(BadInput, match=says):
            checked(planned(compression=None, **change), net, X[:1])
    with pytest.raises(BadInput, match="give the example"):
        checked(planned(compression=None, max_macs=60), net)
