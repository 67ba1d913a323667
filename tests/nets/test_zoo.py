"""The zoo's networks have the published sizes, train, and run with whatever channels their arrays have."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import nets
from jax_prune.errors import BadInput
from jax_prune.nets.alexnet import local_response

PUBLISHED = {
    "alexnet": 60_965_224,  # BVLC's model zoo
    "alexnet_2014": 61_100_840,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "vgg16_cifar": 14_728_266,
    "vgg19_cifar": 20_040_522,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet40": 1_019_722,
    "densenet100_bc": 769_162,
    "googlenet": 6_624_904,
}
TINY = {  # each way of being built, small enough to run
    "alexnet": {"width": 1 / 16, "size": 99},
    "alexnet_cifar": {"width": 1 / 16},
    "vgg16": {"width": 1 / 16, "size": 32},
    "vgg16_cifar": {"width": 1 / 16},
    "resnet20": {"width": 1 / 2},
    "resnet50": {"width": 1 / 16, "depths": (1, 1, 1, 1)},
    "densenet121": {"width": 1 / 8, "depths": (2, 2, 2, 2)},
    "densenet40": {"width": 1 / 3, "depths": (2, 2, 2)},
    "googlenet": {"width": 1 / 8},
}

SLOW = dict.fromkeys(["googlenet", "densenet121", "densenet40"], pytest.mark.slow)  # many convolutions to compile


def shapes(name, **options):
    return jax.eval_shape(partial(nets.build, name, **options))


def drawn(net):
    """Kernels of He et al.'s variance: sooner there than the zoo's own initial values, one program a shape."""
    draws = np.random.default_rng(0)

    def draw(leaf):
        if leaf.ndim < 2:
            return np.abs(draws.normal(size=leaf.shape)).astype(leaf.dtype)
        return (draws.normal(size=leaf.shape) * np.sqrt(2 * leaf.shape[-1] / leaf.size)).astype(leaf.dtype)

    return net.replace(params=jax.tree.map(draw, net.params), state=jax.tree.map(draw, net.state))


def some_images(name, options, count=4):
    side = options.get("size", min(nets.ZOO[name].shape[0], 64))
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.compat
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    assert count(shapes(name).params) == PUBLISHED[name]


def test_option_b_adds_the_projections_parameters():
    for name, projections in (("resnet20", 2752), ("resnet56", 2752)):
        assert count(shapes(name, shortcut="B").params) == PUBLISHED[name] + projections


@pytest.mark.parametrize("name", [name for name, entry in nets.ZOO.items() if len(entry.shape) == 3])
def test_images_of_its_size_give_one_logit_a_class(name):
    net = shapes(name)
    images = jax.ShapeDtypeStruct((2, *nets.ZOO[name].shape), jnp.uint8)
    assert jax.eval_shape(lambda net, x: net(x), net, images).shape == (2, 1000 if PUBLISHED.get(name, 0) > 3e6 and
                                                                        "cifar" not in name else 10)  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_a_wide_network_runs_with_a_narrower_ones_arrays(name):
    """What makes it possible to cut channels out of a module in place: no count is read from anything but arrays."""
    options = TINY[name]
    wide, narrow = (shapes(name, **options | {"width": options["width"] * more}) for more in (2, 1))
    assert count(wide.params) > count(narrow.params)
    images = some_images(name, options)

    def forward(apply, net, train):
        return apply(net.params, net.state, images, train=train, key=None)

    for train in (False, True):
        expected = jax.eval_shape(lambda net, train=train: forward(net.apply, net, train), narrow)
        assert jax.eval_shape(lambda net, train=train: forward(wide.apply, net, train), narrow) == expected


@pytest.mark.compat
@pytest.mark.parametrize("name", ["vgg16_cifar", "resnet20"])
def test_a_narrower_ones_arrays_give_its_outputs(name):
    wide, narrow = nets.build(name, width=1 / 8), nets.build(name, width=1 / 16)
    images = some_images(name, {})
    outputs = jax.jit(lambda net, x: wide.apply(net.params, net.state, x, train=False, key=None)[0])(narrow, images)
    np.testing.assert_allclose(outputs, jax.jit(lambda net, x: net(x))(narrow, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in TINY])
def test_training_steps_move_statistics_and_reach_every_parameter(name):
    """Gradients reach every array, dropout follows the key, and statistics of batches are given back."""
    options = TINY[name] | {"num_classes": 7}
    net, images = drawn(shapes(name, **options)), some_images(name, options)

    @jax.jit
    def step(net, key):
        def loss(params):
            logits, state = net.apply(params, net.state, images, train=True, key=key)
            return (jax.nn.log_softmax(logits) * jnp.arange(7.0)).sum(), (logits, state)

        return jax.value_and_grad(loss, has_aux=True)(net.params)

    (_, (logits, state)), gradients = step(net, jax.random.key(1))
    assert logits.shape == (4, 7)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(np.isfinite(leaf), True), (logits, gradients))
    reached = [float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradients)]
    assert all(reached), f"{reached.count(False)} of {len(reached)} arrays have no gradient"
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), net.state, state)
    assert all(jax.tree.leaves(moved))
    (_, (others, _)), _ = step(net, jax.random.key(2))
    drops = name.startswith(("alexnet", "vgg16", "googlenet")) and name != "vgg16_cifar"
    assert np.array_equal(logits, others) != drops


def test_pixels_scaled_to_floats_mean_the_same():
    net, images = nets.build("resnet20", width=1 / 4), some_images("resnet20", {})
    floats = (images / 255.0).astype(np.float32)
    np.testing.assert_allclose(net(images), net(floats), rtol=1e-4, atol=1e-5)


def test_he_initialisation_keeps_the_variance_of_gradients():
    kernel = nets.build("vgg16_cifar", width=1 / 2).params["conv3_1"]["kernel"]
    assert float(kernel.var()) == pytest.approx(2 / (9 * kernel.shape[-1]), rel=0.05)


def test_alexnet_begins_as_published():
    params = nets.build("alexnet", width=1 / 8).params
    assert float(params["conv3"]["kernel"].std()) == pytest.approx(0.01, rel=0.05)
    ones = {name for name, layer in params.items() if (layer["bias"] == 1).all()}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}


def test_local_response_is_the_papers_formula():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 8)).astype(np.float32) * 100
    for i in range(8):
        squares = (x[..., max(0, i - 2) : i + 3] ** 2).sum(-1)
        np.testing.assert_allclose(local_response(x)[..., i], x[..., i] / (2 + 1e-4 * squares) ** 0.75, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: shapes("vgg16", size=16), "VGG halves images 5 times"),
        (lambda: shapes("alexnet", size=32), "build alexnet_cifar"),
        (lambda: shapes("alexnet", norm="layer"), "no norm 'layer'"),
        (lambda: shapes("resnet20", shortcut="C"), "no shortcut 'C'"),
        (lambda: shapes("resnet20", classes=3), "takes no option 'classes'.*num_classes"),
        (lambda: shapes("lenet5", width=2), "takes no option 'width': it takes none"),
        (lambda: jax.eval_shape(shapes("vgg16_cifar"), jnp.zeros((1, 28, 28, 1))), r"32, 32, 3\].*\[1, 28, 28, 1\]"),
        (lambda: jax.eval_shape(shapes("vgg16_cifar"), jnp.zeros((1, 40, 40, 3))), r"\[1, 40, 40, 3\].*size="),
        (lambda: jax.eval_shape(shapes("resnet20"), jnp.zeros((1, 28, 28, 1))), r"H, W, 3\].*\[1, 28, 28, 1\]"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make, says):
    with pytest.raises(BadInput, match=says) as error:
        make()
    assert "\n" not in str(error.value)
