"""The zoo's networks: their groups are those of hand-written tables, and the law holds for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_prune import nets, pruning
from jax_prune.pruning import groups, masks

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # the oldest JAX has this
VGG_BLOCKS = {1: (64, 2), 2: (128, 2), 3: (256, 3), 4: (512, 3), 5: (512, 3)}
VGG = {f"conv{b}_{i + 1}": width for b, (width, depth) in VGG_BLOCKS.items() for i in range(depth)}


def plain_resnet(depths, widths):
    """A stage's outputs are one group, and the stem's where no convolution is between them; inner ones are alone."""
    found = {"conv1": widths[0]}
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        found |= {f"layer{stage}/{block}/conv1": width for block in range(depth)}
        if stage > 1:
            found[f"layer{stage}/0/conv2"] = width
    return found


def bottleneck_resnet(depths, widths):
    found = {"conv1": 64}
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        found |= {f"layer{stage}/{block}/conv{i}": width for block in range(depth) for i in (1, 2)}
        found[f"layer{stage}/0/conv3"] = 4 * width
    return found


def densenet(depths, growth, stem, bottleneck):
    """Every layer's new channels are a group, in the inputs of all that follow; so are bottlenecks and transitions."""
    found, channels = {"conv0": stem}, stem
    for block, depth in enumerate(depths, start=1):
        for layer in range(depth):
            if bottleneck:
                found[f"denseblock{block}/{layer}/conv1"] = 4 * growth
            found[f"denseblock{block}/{layer}/conv{2 if bottleneck else 1}"] = growth
        channels += depth * growth
        if block < len(depths):
            channels = channels // 2 if bottleneck else channels
            found[f"transition{block}/conv"] = channels
    return found


INCEPTION = {  # Szegedy et al. 2015, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
BRANCHES = ("branch1", "branch2_reduce", "branch2", "branch3_reduce", "branch3", "branch4")
GOOGLENET = {"conv1/conv": 64, "conv2/conv": 64, "conv3/conv": 192} | {
    f"inception{name}/{branch}/conv": width
    for name, widths in INCEPTION.items()
    for branch, width in zip(BRANCHES, widths, strict=True)
}
TABLES = {
    "lenet300": {"ip1": 300, "ip2": 100},
    "lenet5": {"conv1": 20, "conv2": 50, "ip1": 500},
    "alexnet_cifar": {"conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 128, "fc6": 1024, "fc7": 1024},
    # its response normalisation mixes neighbouring channels of conv1 and conv2, which stay; two-group convolutions lose
    # the same channel of both groups
    "alexnet": {"conv3": 192, "conv4": 192, "conv5": 128, "fc6": 4096, "fc7": 4096},
    "vgg16_cifar": VGG,
    "vgg16": VGG | {"fc6": 4096, "fc7": 4096},
    # option A appends channels of zeros to the shortcut: stages' first channels are one group, and the rest stays
    "resnet20": {"conv1": 16}
    | {f"layer{stage}/{block}/conv1": 8 * 2**stage for stage in (1, 2, 3) for block in range(3)},
    "resnet18": plain_resnet((2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet50": bottleneck_resnet((3, 4, 6, 3), (64, 128, 256, 512)),
    "densenet40": densenet((12, 12, 12), 12, 16, bottleneck=False),
    "densenet121": densenet((6, 12, 24, 16), 32, 64, bottleneck=True),
    "googlenet": GOOGLENET,
}
NARROW = {
    "lenet300": {},
    "lenet5": {},
    "alexnet_cifar": {"width": 1 / 16},
    "vgg16_cifar": {"width": 1 / 16},
    "resnet20": {"width": 1 / 4},
    "resnet18": {"width": 1 / 16, "num_classes": 3},
    "resnet50": {"width": 1 / 16, "num_classes": 3},
    "densenet40": {"depths": (2, 2, 2), "growth": 3, "stem": 4},
    "densenet121": {"depths": (2, 2, 2, 2), "growth": 4, "stem": 8, "num_classes": 3},
    "googlenet": {"width": 1 / 8, "num_classes": 3},
}
SLOW = {"resnet50", "googlenet", "densenet121", "resnet18", "vgg16_cifar", "densenet40", "resnet20"}


@pytest.mark.parametrize("name", TABLES)
def test_groups_are_those_of_the_hand_written_table(name):
    net = jax.eval_shape(lambda: nets.build(name))
    image = jax.ShapeDtypeStruct((1, *nets.ZOO[name].shape), jnp.float32)
    found = groups.traced(net, image)
    assert {group.name: group.size for group in found.groups} == TABLES[name]
    frozen = {entry.reason for entry in found.frozen}
    assert "the network's output" in frozen and all(frozen)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NARROW])
def test_masked_and_compact_agree(name):
    rng = np.random.default_rng(0)
    size = (64, 64, 3) if nets.ZOO[name].shape[0] == 224 else nets.ZOO[name].shape
    with enable_x64():
        net = nets.build(name, **NARROW[name])
        net = net.replace(
            params=jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape), net.params),
            state=jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape), net.state),
        )
        x = rng.uniform(size=(2, *size))
        found = groups.trace(net, x)
        kept = [rng.permutation(group.size) < rng.integers(1, group.size) for group in found if group.size > 1]
        found = tuple(group for group in found if group.size > 1)
        mask = masks.scatter(masks.full(net.params), net.params, found, list(map(jnp.asarray, kept)))
        masked = net.replace(params=masks.apply(net.params, mask))
        small = pruning.compact(net, found, kept, example=x)
        for train in (False, True):
            one, other = (outputs(each, x, train) for each in (masked, small))
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9 * np.abs(one).max())


def outputs(net, x, train):
    """With batch statistics where ``train``; no key, so no dropout."""
    return jax.jit(lambda params, state, x: net.apply(params, state, x, train=train, key=None)[0])(
        net.params, net.state, x
    )
