"""Weights trained by PyTorch give PyTorch's outputs; its modules are written here with torchvision's names."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jax_prune import nets
from jax_prune.errors import BadInput

torch = pytest.importorskip("torch")
tnn = torch.nn


class ResidualBlock(tnn.Module):
    def __init__(self, inputs, channels, stride, bottleneck, option):
        super().__init__()
        outputs = channels * 4 if bottleneck else channels
        if bottleneck:
            layers = [(inputs, channels, 1, 1), (channels, channels, 3, stride), (channels, outputs, 1, 1)]
        else:
            layers = [(inputs, channels, 3, stride), (channels, channels, 3, 1)]
        self.depth, self.stride, self.more = len(layers), stride, outputs - inputs
        for i, (before, after, size, step) in enumerate(layers, 1):
            setattr(self, f"conv{i}", tnn.Conv2d(before, after, size, step, size // 2, bias=False))
            setattr(self, f"bn{i}", tnn.BatchNorm2d(after))
        self.downsample = None
        if option == "B" and (stride > 1 or self.more):
            self.downsample = tnn.Sequential(
                tnn.Conv2d(inputs, outputs, 1, stride, bias=False), tnn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.depth else y
        if self.downsample is not None:
            return torch.relu(y + self.downsample(x))
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + torch.cat([x, x.new_zeros(*x.shape[:1], self.more, *x.shape[2:])], 1))


class ResNet(tnn.Module):
    def __init__(self, depths, channels, bottleneck, option, small, classes):
        super().__init__()
        self.conv1 = tnn.Conv2d(3, channels[0], *((3, 1, 1) if small else (7, 2, 3)), bias=False)
        self.bn1, inputs = tnn.BatchNorm2d(channels[0]), channels[0]
        self.pool = tnn.Identity() if small else tnn.MaxPool2d(3, 2, 1)
        self.stages = len(depths)
        for stage, (depth, count) in enumerate(zip(depths, channels, strict=True), 1):
            blocks = []
            for i in range(depth):
                blocks.append(ResidualBlock(inputs, count, 2 if stage > 1 and i == 0 else 1, bottleneck, option))
                inputs = count * 4 if bottleneck else count
            setattr(self, f"layer{stage}", tnn.Sequential(*blocks))
        self.fc = tnn.Linear(inputs, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class Flat(tnn.Module):
    """``features``, flatten in C, H, W order, ``classifier``: AlexNet and VGG."""

    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def vgg(depths, channels, norm, units):
    layers, inputs = [], 3
    for depth, count in zip(depths, channels, strict=True):
        for _ in range(depth):
            layers += [tnn.Conv2d(inputs, count, 3, padding=1), *([tnn.BatchNorm2d(count)] if norm else []), tnn.ReLU()]
            inputs = count
        layers.append(tnn.MaxPool2d(2, 2))
    if len(units) == 2:
        return Flat(tnn.Sequential(*layers), tnn.Linear(*units))
    dense = [tnn.Linear(units[0], units[1]), tnn.ReLU(), tnn.Dropout(), tnn.Linear(units[1], units[2]), tnn.ReLU()]
    return Flat(tnn.Sequential(*layers), tnn.Sequential(*dense, tnn.Dropout(), tnn.Linear(units[2], units[3])))


def alexnet(channels, stem, groups, norm, units):
    layers, inputs = [], 3
    windows = [stem, (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)]
    for i, (count, window) in enumerate(zip(channels, windows, strict=True), 1):
        layers.append(tnn.Conv2d(inputs, count, *window, groups=groups if i in (2, 4, 5) else 1))
        layers += [tnn.BatchNorm2d(count)] if norm == "batch" else []
        layers.append(tnn.ReLU())
        # torch divides alpha by the window's size, the paper does not
        layers += [tnn.LocalResponseNorm(5, 5e-4, 0.75, 2)] if norm == "response" and i <= 2 else []
        layers += [tnn.MaxPool2d(3, 2)] if i in (1, 2, 5) else []
        inputs = count
    first = [tnn.Dropout(), tnn.Linear(units[0], units[1]), tnn.ReLU(), tnn.Dropout(), tnn.Linear(units[1], units[2])]
    return Flat(tnn.Sequential(*layers), tnn.Sequential(*first, tnn.ReLU(), tnn.Linear(units[2], units[3])))


class DenseLayer(tnn.Module):
    def __init__(self, inputs, growth, bottleneck):
        super().__init__()
        self.norm1 = tnn.BatchNorm2d(inputs)
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1 = tnn.Conv2d(inputs, 4 * growth, 1, bias=False)
            self.norm2 = tnn.BatchNorm2d(4 * growth)
            self.conv2 = tnn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        else:
            self.conv1 = tnn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y))) if self.bottleneck else y], 1)


class DenseNet(tnn.Module):
    def __init__(self, depths, growth, channels, bottleneck, compression, small, classes):
        super().__init__()
        features = tnn.Sequential()
        features.add_module("conv0", tnn.Conv2d(3, channels, *((3, 1, 1) if small else (7, 2, 3)), bias=False))
        if not small:
            features.add_module("norm0", tnn.BatchNorm2d(channels))
            features.add_module("relu0", tnn.ReLU())
            features.add_module("pool0", tnn.MaxPool2d(3, 2, 1))
        for block, depth in enumerate(depths, 1):
            layers = tnn.Sequential()
            for i in range(1, depth + 1):
                layers.add_module(f"denselayer{i}", DenseLayer(channels, growth, bottleneck))
                channels += growth
            features.add_module(f"denseblock{block}", layers)
            if block < len(depths):
                between = tnn.Sequential()
                between.add_module("norm", tnn.BatchNorm2d(channels))
                between.add_module("relu", tnn.ReLU())
                between.add_module("conv", tnn.Conv2d(channels, int(channels * compression), 1, bias=False))
                between.add_module("pool", tnn.AvgPool2d(2, 2))
                features.add_module(f"transition{block}", between)
                channels = int(channels * compression)
        features.add_module("norm5", tnn.BatchNorm2d(channels))
        self.features, self.classifier = features, tnn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


class Unit(tnn.Module):
    def __init__(self, inputs, outputs, size, stride=1):
        super().__init__()
        self.conv = tnn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = tnn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(tnn.Module):
    def __init__(self, inputs, a, b0, b, c0, c, d):
        super().__init__()
        self.branch1 = Unit(inputs, a, 1)
        self.branch2 = tnn.Sequential(Unit(inputs, b0, 1), Unit(b0, b, 3))
        self.branch3 = tnn.Sequential(Unit(inputs, c0, 1), Unit(c0, c, 3))
        self.branch4 = tnn.Sequential(tnn.MaxPool2d(3, 1, 1, ceil_mode=True), Unit(inputs, d, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(tnn.Module):
    """Widths as the published table's, over ``less``."""

    TABLE = (
        ("3a", 192, 64, 96, 128, 16, 32, 32),
        ("3b", 256, 128, 128, 192, 32, 96, 64),
        ("4a", 480, 192, 96, 208, 16, 48, 64),
        ("4b", 512, 160, 112, 224, 24, 64, 64),
        ("4c", 512, 128, 128, 256, 24, 64, 64),
        ("4d", 512, 112, 144, 288, 32, 64, 64),
        ("4e", 528, 256, 160, 320, 32, 128, 128),
        ("5a", 832, 256, 160, 320, 32, 128, 128),
        ("5b", 832, 384, 192, 384, 48, 128, 128),
    )

    def __init__(self, less, classes):
        super().__init__()
        self.conv1, self.conv2 = Unit(3, 64 // less, 7, 2), Unit(64 // less, 64 // less, 1)
        self.conv3 = Unit(64 // less, 192 // less, 3)
        for name, *counts in self.TABLE:
            setattr(self, f"inception{name}", Inception(*(count // less for count in counts)))
        self.fc = tnn.Linear(1024 // less, classes)

    def forward(self, x):
        x = tnn.functional.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = tnn.functional.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        for name, *_ in self.TABLE:
            x = getattr(self, f"inception{name}")(x)
            if name in ("3b", "4e"):
                size = 3 if name == "3b" else 2
                x = tnn.functional.max_pool2d(x, size, 2, ceil_mode=True)
        return self.fc(x.mean((2, 3)))


HALF = (32, 64, 128, 128)
FAMILIES = {
    "alexnet": ("alexnet", {"width": 1 / 16, "size": 131}, 131,
                lambda: alexnet((6, 16, 24, 24, 16), (11, 4, 0), 2, "response", (16 * 9, 256, 256, 7))),
    "alexnet_2014": ("alexnet_2014", {"width": 1 / 16, "size": 130}, 130,
                     lambda: alexnet((4, 12, 24, 16, 16), (11, 4, 2), 1, "none", (16 * 9, 256, 256, 7))),
    "alexnet_cifar": ("alexnet_cifar", {"width": 1 / 16}, 32,
                      lambda: alexnet((6, 16, 24, 24, 16), (5, 1, 2), 2, "batch", (16 * 9, 64, 64, 7))),
    "vgg16": ("vgg16", {"width": 1 / 16, "size": 64}, 64,
              lambda: vgg((2, 2, 3, 3, 3), (4, 8, 16, 32, 32), False, (32 * 4, 256, 256, 7))),
    "vgg19_bn": ("vgg19_bn", {"width": 1 / 16, "size": 64}, 64,
                 lambda: vgg((2, 2, 4, 4, 4), (4, 8, 16, 32, 32), True, (32 * 4, 256, 256, 7))),
    "vgg16_cifar": ("vgg16_cifar", {"width": 1 / 16}, 32,
                    lambda: vgg((2, 2, 3, 3, 3), (4, 8, 16, 32, 32), True, (32, 7))),
    "resnet18": ("resnet18", {"width": 1 / 8}, 65,
                 lambda: ResNet((2, 2, 2, 2), (8, 16, 32, 64), False, "B", False, 7)),
    "resnet50": ("resnet50", {"width": 1 / 8, "depths": (1, 2, 1, 1)}, 64,
                 lambda: ResNet((1, 2, 1, 1), (8, 16, 32, 64), True, "B", False, 7)),
    "resnet20": ("resnet20", {"width": 1 / 2}, 32, lambda: ResNet((3, 3, 3), (8, 16, 32), False, "A", True, 7)),
    "resnet20_b": ("resnet20", {"width": 1 / 2, "shortcut": "B"}, 32,
                   lambda: ResNet((3, 3, 3), (8, 16, 32), False, "B", True, 7)),
    "densenet121": ("densenet121", {"width": 1 / 8, "depths": (2, 3, 2, 2)}, 65,
                    lambda: DenseNet((2, 3, 2, 2), 4, 8, True, 0.5, False, 7)),
    "densenet40": ("densenet40", {"width": 1 / 2, "depths": (2, 3, 2)}, 32,
                   lambda: DenseNet((2, 3, 2), 6, 8, False, 1.0, True, 7)),
    "googlenet": ("googlenet", {"width": 1 / 8}, 79, lambda: GoogLeNet(8, 7)),
}  # fmt: skip


def trained(make):
    """A torch module whose every tensor is random, as if trained."""
    torch.manual_seed(0)
    module = make().eval()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, tnn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.3)
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.5, 1.5)
            elif isinstance(layer, (tnn.Conv2d, tnn.Linear)):
                tnn.init.kaiming_normal_(layer.weight, mode="fan_in")
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.3)
    return module


def images(side, scaling, count=2):
    """Ours in [0, 1], NHWC, and torch's, normalised, NCHW."""
    x = np.random.default_rng(0).random((count, side, side, 3)).astype(np.float32)
    given = ((x - np.asarray(scaling.mean)) / np.asarray(scaling.deviation)).astype(np.float32)
    return x, torch.from_numpy(np.ascontiguousarray(given.transpose(0, 3, 1, 2)))


@jax.jit
def forward(net, x):
    return net(x)


@pytest.mark.parametrize("case", FAMILIES)
def test_outputs_are_torchs_and_need_no_initial_values(case):
    name, options, side, make = FAMILIES[case]
    module = trained(make)
    shapes = jax.eval_shape(lambda: nets.build(name, num_classes=7, **options))
    net = nets.from_torch(shapes, module.state_dict())
    x, given = images(side, net.rebuild(net.params, net.state).scaling)
    with torch.no_grad():
        expected = module(given).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(forward(net, x), expected, rtol=1e-4, atol=1e-4 * max(1, np.abs(expected).max()))
    assert jax.tree.structure((net.params, net.state)) == jax.tree.structure((shapes.params, shapes.state))


def test_training_mode_is_torchs_too():
    """Batch statistics, and the running means that they move."""
    name, options, side, make = FAMILIES["resnet18"]
    module = trained(make)
    net = nets.from_torch(nets.build(name, num_classes=7, **options), module.state_dict())
    x, given = images(side, net.rebuild(net.params, net.state).scaling, 8)
    with torch.no_grad():
        expected = module.train()(given).numpy()
    outputs, state = jax.jit(lambda net, x: net.apply(net.params, net.state, x, train=True, key=None))(net, x)
    np.testing.assert_allclose(outputs, expected, rtol=2e-3, atol=2e-3)
    for ours, theirs in ((state["bn1"], module.bn1), (state["layer2"]["0"]["bn2"], module.layer2[0].bn2)):
        np.testing.assert_allclose(ours["mean"], theirs.running_mean, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def small():
    """A net, its file's tensors, and the file's writer."""
    name, options, _, make = FAMILIES["vgg16_cifar"]
    tensors = {key: value.numpy() for key, value in trained(make).state_dict().items()}
    return jax.eval_shape(lambda: nets.build(name, num_classes=7, **options)), tensors


def test_a_file_gives_what_its_tensors_give(small, tmp_path):
    net, tensors = small
    safetensors.numpy.save_file(tensors, tmp_path / "net.safetensors")
    from_file, from_dict = nets.from_torch(net, tmp_path / "net.safetensors"), nets.from_torch(net, tensors)
    jax.tree.map(np.testing.assert_array_equal, from_file.params, from_dict.params)
    jax.tree.map(np.testing.assert_array_equal, from_file.state, from_dict.state)


def test_half_precision_becomes_the_nets_own_type(small, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    net, tensors = small
    halves = {name: torch.from_numpy(tensor).bfloat16() for name, tensor in tensors.items() if tensor.ndim}
    save_file(halves, tmp_path / "half.safetensors")
    kernel = nets.from_torch(net, tmp_path / "half.safetensors").params["fc"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, halves["classifier.weight"].float().numpy().T)


def test_a_users_own_module_needs_no_names():
    class Mine(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.first(x))

    module = tnn.Module()
    module.first, module.norm = tnn.Conv2d(3, 4, 3, padding=1), tnn.BatchNorm2d(4)
    net = nets.from_torch(Mine(nnx.Rngs(0)), module.eval().state_dict())
    x = np.random.default_rng(0).random((1, 5, 5, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module.norm(module.first(torch.from_numpy(x.transpose(0, 3, 1, 2)))).numpy()
    np.testing.assert_allclose(net(x).transpose(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("features.7.weight"), "no tensor 'features.7.weight' for conv2_1/kernel"),
        (lambda t: t.pop("features.1.running_var"), "no tensor 'features.1.running_var' for norm1_1/var"),
        (lambda t: t.update(aux=np.zeros(3)), "a tensor 'aux' that has no place in the net"),
        (
            lambda t: t.update({"classifier.weight": np.zeros((10, 32), np.float32)}),
            r"'classifier.weight' has shape \[10, 32\], fc/kernel needs \[7, 32\]",
        ),
        (lambda t: t.update({"features.0.bias": np.zeros(4, np.int8)}), "'features.0.bias' has type int8"),
        (
            lambda t: t.update({"features.0.bias": torch.zeros(4, requires_grad=True)}),
            "'features.0.bias' cannot be read.*detached",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(small, change, says):
    net, tensors = small
    tensors = dict(tensors)
    change(tensors)
    with pytest.raises(BadInput, match=says) as error:
        nets.from_torch(net, tensors)
    assert "\n" not in str(error.value)


def test_tensors_that_are_not_wanted_may_be_left_out(small):
    net, tensors = small
    extended = tensors | {"aux1.fc.weight": np.zeros((2, 2), np.float32)}
    params = nets.from_torch(net, extended, ignore=r"aux[12]\..*").params
    jax.tree.map(np.testing.assert_array_equal, params, nets.from_torch(net, tensors).params)


def test_files_that_are_none_are_said(small, tmp_path):
    net, tensors = small
    with pytest.raises(BadInput, match="does not exist"):
        nets.from_torch(net, tmp_path / "absent.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "net.pth")
    with pytest.raises(BadInput, match="not a safetensors file.*save_file"):
        nets.from_torch(net, tmp_path / "net.pth")
    whole = safetensors.numpy.save(tensors)
    (tmp_path / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="not a safetensors file"):
        nets.from_torch(net, tmp_path / "torn.safetensors")
