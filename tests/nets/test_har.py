"""The recurrent networks against Flax's, PyTorch's and NumPy's step by step, and sample by sample against windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune import learning, nets, pruning
from jax_prune.errors import BadInput
from jax_prune.nets.har import HAR
from jax_prune.pruning import groups, masks, scores
from jax_prune.types import Batch

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # the oldest JAX has this
EIGHT = ["lstm", "bilstm", "gru", "bigru", "cnn_lstm", "cnn_bilstm", "cnn_gru", "cnn_bigru"]
QUICK = ["bigru", "cnn_lstm"]  # the slow tests take the other six too
TWO_OF_EIGHT = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EIGHT]
STREAMING = [name for name in EIGHT if "bi" not in name]
SMALL = {"units": 5, "features": 3, "num_classes": 4, "filters": 6}


def drawn(net, seed=0):
    """Parameters in float64 where it is on: no bias is as it was."""
    draws = np.random.default_rng(seed)
    return net.replace(params=jax.tree.map(lambda leaf: jnp.asarray(draws.normal(0, 0.4, leaf.shape)), net.params))


def some(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


class Reference(HAR):
    """The same parameters run by nnx.RNN, lax's convolution and nnx.max_pool."""

    def __call__(self, windows):
        x = windows
        for name in self.convolutions:
            layer = getattr(self, name)
            x = jax.lax.conv_general_dilated(
                x, layer.kernel[...], (1,), [(4, 0)], dimension_numbers=("NWC", "WIO", "NWC")
            )
            x = nnx.relu(x + layer.bias[...])
        if self.convolutions:
            x = nnx.max_pool(x, (2,), (2,))
        states = []
        for way in self.ways:
            cell = getattr(self, way)
            zeros = jnp.zeros((x.shape[0], cell.hidden_features), x.dtype)
            carry = zeros if isinstance(cell, nnx.GRUCell) else (zeros, zeros)
            states.append(nnx.RNN(cell, reverse=way == "backward")(x, initial_carry=carry)[:, -1])
        return self.fc(jnp.concatenate(states, -1))


@pytest.mark.compat
@pytest.mark.parametrize("name", TWO_OF_EIGHT)
def test_outputs_and_gradients_are_those_of_flax(name):
    with enable_x64():
        net = drawn(nets.build(name, **SMALL))
        reference = nets.from_nnx(Reference(**nets.ZOO[name].options, **SMALL, rngs=nnx.Rngs(0)))
        windows, weights = some(3, 9, 3), some(3, 4, seed=2)

        def run(net, params, windows):
            return (net.apply(params, {}, windows, train=True, key=None)[0] * weights).sum()

        ours, theirs = (
            jax.jit(jax.value_and_grad(lambda *at, one=one: run(one, *at), argnums=(0, 1)))(net.params, windows)
            for one in (net, reference)
        )
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), ours, theirs)
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(ours[1]))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(name, cell, x):
    """The last hidden state [B, units], one example and one step at a time, from the equations."""
    inputs, recurrent = cell["dense_i"], cell["dense_h"]
    units, last = recurrent["kernel"].shape[0], []
    for window in x:
        h = c = np.zeros(units)
        for sample in window:
            ours, other = sample @ inputs["kernel"], h @ recurrent["kernel"]
            if "gru" in name:
                own = ours + inputs["bias"]
                r, z = (sigmoid(own[g * units :][:units] + other[g * units :][:units]) for g in (0, 1))
                n = np.tanh(own[2 * units :] + r * other[2 * units :])
                h = (1 - z) * n + z * h
            else:
                i, f, g, o = np.split(ours + other + recurrent["bias"], 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
        last.append(h)
    return np.asarray(last)


@pytest.mark.parametrize("name", EIGHT)
def test_outputs_are_those_of_the_equations(name):
    with enable_x64():
        net = drawn(nets.build(name, **SMALL))
        params, x = jax.tree.map(np.asarray, net.params), np.asarray(some(2, 7, 3))
        expected = x
        if name.startswith("cnn"):
            for layer in ("conv1", "conv2"):
                padded = np.pad(expected, ((0, 0), (4, 0), (0, 0)))
                kernel, bias = params[layer]["kernel"], params[layer]["bias"]
                taps = [padded[:, k : k + 7] @ kernel[k] for k in range(5)]
                expected = np.maximum(sum(taps) + bias, 0)
            expected = np.maximum(expected[:, 0:6:2], expected[:, 1:6:2])  # the seventh sample has no partner
        states = [by_hand(name, params["forward"], expected)]
        if "bi" in name:
            states.append(by_hand(name, params["backward"], expected[:, ::-1]))
        expected = np.concatenate(states, -1) @ params["fc"]["kernel"] + params["fc"]["bias"]
        np.testing.assert_allclose(forward(net, jnp.asarray(x)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "bilstm", "gru", "bigru"])
def test_outputs_are_those_of_torch_without_its_second_bias(name):
    torch = pytest.importorskip("torch")
    net, x = drawn(nets.build(name, **SMALL)), some(3, 11, 3)
    layer = (torch.nn.GRU if "gru" in name else torch.nn.LSTM)(3, 5, batch_first=True, bidirectional="bi" in name)
    with torch.no_grad():
        for way, suffix in zip(("forward", "backward"), ("", "_reverse"), strict=True):
            if way not in net.params:
                continue
            cell = net.params[way]
            bias = cell["dense_i" if "gru" in name else "dense_h"]["bias"]
            for there, value in (("weight_ih", cell["dense_i"]["kernel"].T), ("weight_hh", cell["dense_h"]["kernel"].T),
                                 ("bias_ih", bias), ("bias_hh", 0 * bias)):  # fmt: skip
                getattr(layer, f"{there}_l0{suffix}").copy_(torch.from_numpy(np.array(value)))
        outputs = layer(torch.from_numpy(np.array(x, np.float32)))[0].numpy()
    states = np.concatenate([outputs[:, -1, :5], outputs[:, 0, 5:]], -1)
    expected = states @ np.asarray(net.params["fc"]["kernel"]) + np.asarray(net.params["fc"]["bias"])
    np.testing.assert_allclose(forward(net, x), expected, rtol=1e-4, atol=1e-5)


forward = jax.jit(lambda net, windows: net(windows))


def streamed(net, windows):
    """Logits [T, B, classes] after every sample."""
    stream, step = nets.streaming(net, windows.shape[0])
    run = jax.jit(lambda params, stream, samples: jax.lax.scan(lambda s, x: step(params, s, x), stream, samples))
    return run(net.params, stream, windows.swapaxes(0, 1))[1]


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("name", STREAMING)
def test_every_sample_gives_the_window_that_ends_there(name, compacted):
    net, windows = drawn(nets.build(name, **SMALL)), some(2, 10, 3)
    if compacted:
        found = groups.trace(net, windows)
        net = pruning.compact(net, found, [np.arange(group.size) % 2 == 0 for group in found], example=windows)
    logits = streamed(net, windows)
    for length in (2, 7, 10):
        expected = forward(net, windows[:, :length])
        np.testing.assert_allclose(logits[length - 1], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(logits[-1] - logits[5]).max() > 1e-3


@pytest.mark.slow
@settings(deadline=None, max_examples=4)
@given(name=st.sampled_from(STREAMING), length=st.integers(2, 12), units=st.integers(1, 6), filters=st.integers(1, 6))
def test_streams_of_any_length_and_width(name, length, units, filters):
    net = drawn(nets.build(name, units=units, filters=filters, features=2, num_classes=3), seed=length)
    windows = some(1, length, 2)
    np.testing.assert_allclose(streamed(net, windows)[-1], forward(net, windows), rtol=1e-5, atol=1e-5)


def test_new_weights_compile_no_new_step():
    compiled = []
    for seed in (0, 1):
        net = nets.build("cnn_gru", seed=seed, **SMALL)
        stream, step = nets.streaming(net)
        compiled.append(jax.jit(step))
        compiled[0](net.params, *compiled[0](net.params, stream, some(1, 3))[:1], some(1, 3))
    assert step == nets.streaming(nets.build("cnn_gru", **SMALL))[1] and compiled[0]._cache_size() == 1


def test_lstms_begin_by_remembering_and_dropout_follows_the_key():
    net, windows = nets.build("cnn_bilstm", **SMALL), some(2, 8, 3)
    np.testing.assert_array_equal(net.params["backward"]["dense_h"]["bias"], np.repeat([0, 1, 0, 0], 5))
    one, other = (net.apply(net.params, {}, windows, train=True, key=jax.random.key(k))[0] for k in (1, 2))
    assert np.abs(one - other).max() > 1e-3
    still = nets.build("cnn_bilstm", dropout=0.0, **SMALL)
    dropped = still.apply(net.params, {}, windows, train=True, key=jax.random.key(1))[0]
    np.testing.assert_array_equal(dropped, net(windows))


def test_training_under_masks_learns_what_came_first():
    """Three kinds of windows, told apart by the order of two pulses alone."""
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 3, 384)
    windows = draws.normal(0, 0.1, (384, 16, 2)).astype(np.float32)
    for window, label in zip(windows, labels, strict=True):
        early, late = draws.integers(0, 6), draws.integers(9, 15)
        for at, axis in ((early, label == 1), (late, label == 2 or label == 1)):
            window[at : at + 2, int(axis)] += 2
    data = Batch(jnp.asarray(windows), jnp.asarray(labels))
    net = nets.build("cnn_bigru", units=8, features=2, num_classes=3, filters=8, dropout=0.1)
    parts = groups.weight_groups(net.params, biases=False)
    half = jnp.asarray([group.size // 2 for group in parts])
    mask = masks.from_kept(net.params, parts, masks.ranks(scores.magnitude(net.params, parts)), half)
    recipe = learning.Recipe(learning_rate=1e-2, batch_size=32)
    trained = learning.train(jax.random.key(0), net, data, recipe, loss=learning.cross_entropy, steps=300, masks=mask)
    assert float((forward(trained.net, data.x).argmax(-1) == data.y).mean()) > 0.97
    jax.tree.map(lambda leaf, keep: np.testing.assert_array_equal(np.where(keep, 0, leaf), 0), trained.net.params, mask)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nets.streaming(nets.build("bigru")), "bidirectional network .*choose lstm, gru, cnn_lstm or cnn_gru"),
        (lambda: nets.streaming(nets.build("lenet300")), "LeNet300 cannot run sample by sample"),
        (lambda: nets.build("gru")(jnp.zeros((2, 128, 9))), r"T, 6\].*\[2, 128, 9\].*features="),
        (lambda: nets.build("cnn_gru")(jnp.zeros((2, 1, 6))), r"T at least 2"),
        (lambda: nets.build("gru", units=0), "units is 0: give 1 or more"),
        (lambda: nets.build("gru", width=2), "takes no option 'width'.*units, features"),
        (lambda: nets.build("gru", cell="rnn"), "no cell 'rnn': give gru or lstm"),
        (lambda: HAR(rngs=nnx.Rngs(0)).step(HAR(rngs=nnx.Rngs(0)).start(), jnp.zeros(6)), r"samples \[B, 6\].*\[6\]"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make, says):
    with pytest.raises(BadInput, match=says) as error:
        make()
    assert "\n" not in str(error.value)
