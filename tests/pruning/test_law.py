"""The law of channels, on drawn nets: masked and compact nets agree, and what can be cut is just what should be."""

from collections import Counter, defaultdict

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jax_prune import nets, pruning
from jax_prune.pruning import groups, masks

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # the oldest JAX has this
SIDE, STEPS, BATCH, INPUTS = 4, 3, 2, 3
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "sigmoid": jax.nn.sigmoid}
CELLS = {"gru": nnx.GRUCell, "lstm": nnx.LSTMCell, "optimized": nnx.OptimizedLSTMCell}


class Truth:
    """What the one who draws a net knows of its units: a union-find over places (path, axis, position)."""

    def __init__(self):
        self.parent, self.frozen = {}, set()

    def root(self, unit):
        while self.parent.setdefault(unit, unit) != unit:
            unit = self.parent[unit]
        return unit

    def join(self, *units):
        for unit in units[1:]:
            one, other = self.root(units[0]), self.root(unit)
            if one != other:
                self.parent[other] = one
                self.frozen |= {one} if other in self.frozen else set()
        return units[0]

    def freeze(self, units):
        self.frozen |= {self.root(unit) for unit in units}

    def axis(self, path, axis, size):
        """The places along a leaf's axis; one alone stays."""
        places = [(path, axis, position) for position in range(size)]
        for place in places:
            self.root(place)
        if size == 1:
            self.freeze(places)
        return places

    def groups(self):
        """A set of groups, each a frozenset of units, each a frozenset of places."""
        members, kinds = defaultdict(set), defaultdict(set)
        for place in self.parent:
            if self.root(place) not in self.frozen:
                members[self.root(place)].add(place)
        for unit in members.values():
            places = frozenset(place for place in unit if isinstance(place, tuple))
            kinds[frozenset(Counter(place[:2] for place in places).items())].add(places)
        return {frozenset(units) for units in kinds.values() if len(units) > 1}


class Drawer:
    """Draws layer after layer; tensor t is an image, a sequence or a vector, ``units[t]`` are those of its features."""

    def __init__(self, draw, start):
        self.draw, self.truth, self.spec = draw, Truth(), []
        self.kinds, self.units = [start], [["input"] * INPUTS]
        if start == "tokens":
            self.kinds, self.units = ["tokens"], [[]]
            self.add("embed", 0, "sequence", self.truth.axis("layer0/embedding", 1, 4), width=4)
        self.truth.freeze(["input"])

    def pick(self, *values):
        return self.draw(st.sampled_from(values))

    def add(self, name, source, kind, units, **options):
        self.spec.append((name, source, tuple(sorted(options.items()))))
        self.kinds.append(kind)
        self.units.append(list(units))

    def kernel(self, path, inputs, size, bias=True, copies=1, axis=(0, 1)):
        """A kernel's units: inputs joined, ``copies`` blocks of outputs each the same units."""
        for unit, place in zip(inputs, self.truth.axis(path + "/kernel", axis[0], len(inputs)), strict=True):
            self.truth.join(unit, place)
        leaves = [(path + "/kernel", axis[1])] + ([(path + "/bias", 0)] if bias else [])
        lines = [self.truth.axis(*leaf, size * copies) for leaf in leaves]
        places = [line[block * size : (block + 1) * size] for line in lines for block in range(copies)]
        return [self.truth.join(*column) for column in zip(*places, strict=True)]

    def layer(self):
        """One more layer, mostly on the newest tensor; what freezes is rare."""
        known = [place for place, kind in enumerate(self.kinds) if kind != "tokens"]
        source = self.pick(known[-1], known[-1], *known)
        kind, units, path = self.kinds[source], self.units[source], f"layer{len(self.spec)}"
        products = {
            "image": ["conv", "conv", "depthwise", "grouped", "gate"],
            "sequence": ["dense", "recurrent", "bidirectional", "attention"],
            "vector": ["dense"],
        }[kind]
        others = {
            "image": ["dense", "pool", "mean", "flatten"],
            "sequence": ["mean", "flatten", "last"],
            "vector": ["glu"],
        }[kind]
        freezing = {"image": ["layernorm", "groupnorm"], "sequence": ["layernorm"], "vector": ["softmax"]}[kind]
        plain = ["act", "batchnorm", "sum", "concat", "product", "glu", "reverse"]
        names = products if "input" in units else self.pick(products, products, plain, plain, plain, others)
        if self.pick(*range(12)) == 0:
            names = freezing
        getattr(self, self.pick(*names))(source, kind, units, path)

    def act(self, source, kind, units, path):
        self.add("act", source, kind, units, act=self.pick(*ACTIVATIONS))

    def batchnorm(self, source, kind, units, path):
        self.norm("batchnorm", source, units, path, "scale", "bias", "mean", "var")

    def norm(self, name, source, units, path, *leaves):
        for leaf in leaves:
            for unit, place in zip(units, self.truth.axis(f"{path}/{leaf}", 0, len(units)), strict=True):
                self.truth.join(unit, place)
        self.add(name, source, self.kinds[source], units, width=len(units))

    def layernorm(self, source, kind, units, path):
        self.truth.freeze(units)
        self.norm("layernorm", source, units, path, "scale", "bias")

    def groupnorm(self, source, kind, units, path):
        if len(units) % 2 == 0:
            if len(units) > 2:  # two groups of one feature each mix nothing
                self.truth.freeze(units)
            self.norm("groupnorm", source, units, path, "scale", "bias")

    def softmax(self, source, kind, units, path):
        self.truth.freeze(units)
        self.add("softmax", source, kind, units)

    def other(self, source, same):
        """A second tensor of the same kind, and with ``same`` of the same width."""
        fits = [
            place
            for place, kind in enumerate(self.kinds)
            if kind == self.kinds[source] and (not same or len(self.units[place]) == len(self.units[source]))
        ]
        return self.pick(*fits)

    def together(self, name, source, kind, units):
        other = self.other(source, True)
        joined = [self.truth.join(*pair) for pair in zip(units, self.units[other], strict=True)]
        self.add(name, source, kind, joined, other=other)

    def product(self, source, kind, units, path):
        self.together("product", source, kind, units)

    def sum(self, source, kind, units, path):
        self.together("sum", source, kind, units)

    def concat(self, source, kind, units, path):
        other = self.other(source, False)
        if len(units) + len(self.units[other]) <= 12:
            self.add("concat", source, kind, self.units[source] + self.units[other], other=other)

    def glu(self, source, kind, units, path):
        half = len(units) // 2
        if len(units) % 2 == 0 and half:
            joined = [self.truth.join(*pair) for pair in zip(units[:half], units[half:], strict=True)]
            self.add("glu", source, kind, joined)

    def reverse(self, source, kind, units, path):
        self.add("reverse", source, kind, units[::-1])

    def dense(self, source, kind, units, path):
        width, bias = self.pick(2, 3, 4, 6), self.pick(True, False)
        made = self.kernel(path, units, width, bias)
        self.add("dense", source, kind, made, inputs=len(units), width=width, bias=bias)

    def conv(self, source, kind, units, path):
        width, bias, window = self.pick(2, 3, 4, 6), self.pick(True, False), self.pick(1, 3)
        made = self.kernel(path, units, width, bias, axis=(2, 3))
        self.add("conv", source, kind, made, inputs=len(units), width=width, bias=bias, window=window)

    def depthwise(self, source, kind, units, path):
        times = self.pick(1, 2)
        if len(units) < 2 or len(units) * times > 12:
            return
        made = [unit for unit in units for _ in range(times)]
        for leaf in ((path + "/kernel", 3), (path + "/bias", 0)):
            for unit, place in zip(made, self.truth.axis(*leaf, len(made)), strict=True):
                self.truth.join(unit, place)
        self.add("blocks", source, kind, made, inputs=len(units), width=len(made), blocks=len(units))

    def grouped(self, source, kind, units, path):
        half, width = len(units) // 2, self.pick(2, 3)
        if len(units) % 2 or half < 2:
            return
        joined = [self.truth.join(*pair) for pair in zip(units[:half], units[half:], strict=True)]
        made = self.kernel(path, joined, width, copies=2, axis=(2, 3))
        self.add("blocks", source, kind, made * 2, inputs=len(units), width=2 * width, blocks=2)

    def pool(self, source, kind, units, path):
        self.add("pool", source, kind, units, mode=self.pick("max", "avg"))

    def mean(self, source, kind, units, path):
        self.add("mean", source, "vector", units)

    def flatten(self, source, kind, units, path):
        times = SIDE**2 if kind == "image" else STEPS
        self.add("flatten", source, "vector", units * times)

    def last(self, source, kind, units, path):
        self.add("last", source, "vector", units)

    def gate(self, source, kind, units, path):
        """Squeeze and excitation."""
        made = self.kernel(path, units, len(units))
        joined = [self.truth.join(*pair) for pair in zip(units, made, strict=True)]
        self.add("gate", source, kind, joined, inputs=len(units), width=len(units))

    def cell(self, path, units, hidden, cell):
        """One recurrent cell's units: all gates, the carried state and what comes in."""
        if cell == "lstm":
            gates, copies = [("ii", "hi"), ("if_", "hf"), ("ig", "hg"), ("io", "ho")], 1
            bias = (False, True)
        else:
            gates, copies = [("dense_i", "dense_h")], {"gru": 3, "optimized": 4}[cell]
            bias = (False, True) if cell == "optimized" else (True, False)
        made = None
        for into, back in gates:
            fresh = self.kernel(f"{path}/{into}", units, hidden, bias[0], copies)
            made = fresh if made is None else [self.truth.join(*pair) for pair in zip(made, fresh, strict=True)]
            again = self.kernel(f"{path}/{back}", made, hidden, bias[1], copies)
            made = [self.truth.join(*pair) for pair in zip(made, again, strict=True)]
        return made

    def recurrent(self, source, kind, units, path):
        cell, hidden = self.pick(*CELLS), self.pick(2, 3)
        made = self.cell(f"{path}/cell", units, hidden, cell)
        self.add("recurrent", source, kind, made, inputs=len(units), width=hidden, cell=cell)

    def bidirectional(self, source, kind, units, path):
        cell, hidden = self.pick(*CELLS), self.pick(2, 3)
        made = [self.cell(f"{path}/{way}_rnn/cell", units, hidden, cell) for way in ("forward", "backward")]
        self.add("bidirectional", source, kind, made[0] + made[1], inputs=len(units), width=hidden, cell=cell)

    def attention(self, source, kind, units, path):
        """Heads are units, what is within them is not."""
        heads, width = self.pick(2, 3), len(units)
        made = []
        for part in ("query", "key", "value"):
            for unit, place in zip(units, self.truth.axis(f"{path}/{part}/kernel", 0, width), strict=True):
                self.truth.join(unit, place)
            for leaf, axis in (("kernel", 1), ("bias", 0)):
                made.append(self.truth.axis(f"{path}/{part}/{leaf}", axis, heads))
        made.append(self.truth.axis(f"{path}/out/kernel", 0, heads))
        for column in zip(*made, strict=True):
            self.truth.join(*column)
        outputs = [self.truth.axis(f"{path}/out/{leaf}", axis, width) for leaf, axis in (("kernel", 2), ("bias", 0))]
        joined = [self.truth.join(*pair) for pair in zip(*outputs, strict=True)]
        self.add("attention", source, kind, joined, inputs=width, heads=heads)

    def finish(self):
        """Whatever nothing reads yet is read: every tensor becomes a vector, all of them one output."""
        read = {source for _, source, _ in self.spec} | {dict(options).get("other") for *_, options in self.spec}
        ends = [place for place, kind in enumerate(self.kinds) if place not in read and kind != "tokens"]
        vectors = []
        for place in ends:
            if self.kinds[place] != "vector":
                self.mean(place, self.kinds[place], self.units[place], None)
                place = len(self.kinds) - 1
            vectors.append(place)
        whole = vectors[0]
        for other in vectors[1:]:
            self.add("concat", whole, "vector", self.units[whole] + self.units[other], other=other)
            whole = len(self.kinds) - 1
        units, path = self.units[whole], f"layer{len(self.spec)}"
        self.truth.freeze(self.kernel(path, units, 2))
        self.add("dense", whole, "vector", [], inputs=len(units), width=2, bias=True)
        return self.kinds[0], tuple(self.spec), self.truth.groups()


def zeros(key, shape, dtype=jnp.float64, out_sharding=None):
    return np.zeros(shape, dtype)


class Drawn(nnx.Module):
    """The net of a drawn specification; no width in its forward."""

    def __init__(self, spec):
        self.spec = spec
        rngs = nnx.Rngs(0)
        wide = {"param_dtype": jnp.float64, "rngs": rngs}
        plain = {"kernel_init": zeros, "bias_init": zeros, **wide}
        for place, (name, _, options) in enumerate(spec):
            made = LAYERS[name](plain, wide, **dict(options)) if name in LAYERS else None
            if made is not None:
                setattr(self, f"layer{place}", made)

    def __call__(self, x):
        tensors = [x]
        for place, (name, source, options) in enumerate(self.spec):
            layer = getattr(self, f"layer{place}", None)
            tensors.append(
                FORWARD.get(name, lambda t, layer, x, o: layer(x))(tensors, layer, tensors[source], dict(options))
            )
        return tensors[-1]


def pooled(x, mode):
    pool = nnx.max_pool if mode == "max" else nnx.avg_pool
    return pool(x, (2, 2), (1, 1), "SAME")


LAYERS = {
    "embed": lambda p, w, width: nnx.Embed(5, width, embedding_init=zeros, **w),
    "dense": lambda p, w, inputs, width, bias: nnx.Linear(inputs, width, use_bias=bias, **p),
    "conv": lambda p, w, inputs, width, bias, window: nnx.Conv(inputs, width, (window, window), use_bias=bias, **p),
    "blocks": lambda p, w, inputs, width, blocks: nnx.Conv(inputs, width, (2, 2), feature_group_count=blocks, **p),
    "batchnorm": lambda p, w, width: nnx.BatchNorm(width, use_running_average=True, **w),
    "layernorm": lambda p, w, width: nnx.LayerNorm(width, **w),
    "groupnorm": lambda p, w, width: nnx.GroupNorm(width, num_groups=2, **w),
    "gate": lambda p, w, inputs, width: nnx.Linear(inputs, width, **p),
    "recurrent": lambda p, w, inputs, width, cell: rnn(p, inputs, width, cell),
    "bidirectional": lambda p, w, inputs, width, cell: nnx.Bidirectional(
        rnn(p, inputs, width, cell), rnn(p, inputs, width, cell), rngs=p["rngs"]
    ),
    "attention": lambda p, w, inputs, heads: nnx.MultiHeadAttention(
        heads, inputs, qkv_features=2 * heads, decode=False, **p
    ),
}
FORWARD = {
    "act": lambda t, layer, x, o: ACTIVATIONS[o["act"]](x),
    "sum": lambda t, layer, x, o: x + t[o["other"]],
    "product": lambda t, layer, x, o: x * t[o["other"]],
    "concat": lambda t, layer, x, o: jnp.concatenate([x, t[o["other"]]], axis=-1),
    "glu": lambda t, layer, x, o: nnx.glu(x),
    "reverse": lambda t, layer, x, o: x[..., ::-1],
    "softmax": lambda t, layer, x, o: nnx.softmax(x),
    "pool": lambda t, layer, x, o: pooled(x, **o),
    "mean": lambda t, layer, x, o: x.mean(axis=tuple(range(1, x.ndim - 1))),
    "flatten": lambda t, layer, x, o: x.reshape(x.shape[0], -1),
    "last": lambda t, layer, x, o: x[:, -1],
    "gate": lambda t, layer, x, o: x * nnx.sigmoid(layer(x.mean(axis=(1, 2))))[:, None, None],
}


def rnn(plain, inputs, width, cell):
    return nnx.RNN(CELLS[cell](inputs, width, recurrent_kernel_init=zeros, **plain), rngs=plain["rngs"])


@st.composite
def drawn_nets(draw, longest=7):
    """A specification, its true groups, and a seed for everything else."""
    drawer = Drawer(draw, draw(st.sampled_from(["image", "sequence", "tokens", "vector"])))
    for _ in range(draw(st.integers(1, longest))):
        drawer.layer()
    return (*drawer.finish(), draw(st.integers(0, 2**31)))


def built(start, spec, rng):
    """The net with random parameters and statistics, float64, and an example."""
    net = nets.from_nnx(Drawn(spec))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.7, leaf.shape), net.params)
    state = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape), net.state)
    shape = {"image": (BATCH, SIDE, SIDE, INPUTS), "sequence": (BATCH, STEPS, INPUTS), "vector": (BATCH, INPUTS)}
    x = rng.integers(0, 5, (BATCH, STEPS)) if start == "tokens" else rng.normal(size=shape[start])
    return net.replace(params=params, state=state), x


def places(group):
    """A group's units as sets of places."""
    return [
        frozenset((slot.path, slot.axis, start + unit * slot.step) for slot in group.slots for start in slot.starts)
        for unit in range(group.size)
    ]


def by_appearance(found):
    """Units that appear equally often on the same axes, whatever groups they were written as."""
    kinds = defaultdict(set)
    for group in found:
        for unit in places(group):
            kinds[frozenset(Counter(place[:2] for place in unit).items())].add(unit)
    return {frozenset(units) for units in kinds.values()}


def outputs(net, x):
    """In evaluation, and with batch statistics."""

    @jax.jit
    def both(params, state, x):
        return [net.apply(params, state, x, train=train, key=None)[0] for train in (False, True)]

    return both(net.params, net.state, x)


def check_law(case):
    start, spec, truth, seed = case
    assume(truth)
    rng = np.random.default_rng(seed)
    with enable_x64():
        net, x = built(start, spec, rng)
        for train in (False, True):
            found = groups.trace(net, x, train=train)
            assert by_appearance(found) == truth
        kept = [rng.permutation(group.size) < rng.integers(1, group.size) for group in found]
        mask = masks.scatter(masks.full(net.params), net.params, found, list(map(jnp.asarray, kept)))
        assert [int(flag.sum()) for flag in kept] == list(masks.kept_counts(mask, found))
        masked = net.replace(params=masks.apply(net.params, mask))
        small = pruning.compact(net, found, kept, example=x)
        for one, other in zip(outputs(masked, x), outputs(small, x), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9)


LOOSE = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=40, **LOOSE)
@given(case=drawn_nets())
def test_what_can_be_cut_is_what_should_be(case):
    start, spec, truth, seed = case
    with enable_x64():
        net, x = built(start, spec, np.random.default_rng(seed))
        assert by_appearance(groups.trace(net, x)) == truth


@settings(max_examples=8, **LOOSE)
@given(case=drawn_nets(longest=5))
def test_masked_and_compact_nets_agree(case):
    check_law(case)


@pytest.mark.slow
@settings(max_examples=200, **LOOSE)
@given(case=drawn_nets(longest=9))
def test_many_masked_and_compact_nets_agree(case):
    check_law(case)
