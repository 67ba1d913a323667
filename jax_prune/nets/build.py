"""A network by name, as the command line gives it: one of the zoo, or a user's own factory."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import nnx

from jax_prune.errors import BadInput, said
from jax_prune.nets import alexnet, densenet, resnet, vgg
from jax_prune.nets.alexnet import AlexNet
from jax_prune.nets.densenet import DenseNet
from jax_prune.nets.from_nnx import from_nnx
from jax_prune.nets.googlenet import GoogLeNet
from jax_prune.nets.har import HAR
from jax_prune.nets.lenet import LeNet5, LeNet300
from jax_prune.nets.resnet import ResNet
from jax_prune.nets.vgg import VGG
from jax_prune.types import Net


class Entry(NamedTuple):
    """A module, the shape of one example and the options that make it the network named.

    Images [H, W, C] are as published; windows [T, C] may have any length.
    """

    module: type[Any]  # an nnx.Module that takes options and rngs
    shape: tuple[int, ...]
    options: Mapping[str, Any] = {}


DIGITS, SMALL, LARGE = (28, 28, 1), (32, 32, 3), (224, 224, 3)
WINDOW = (128, 6)  # 2.56 s of three axes of acceleration and three of rotation at 50 Hz
ZOO = {
    "lenet300": Entry(LeNet300, DIGITS),
    "lenet5": Entry(LeNet5, DIGITS),
    "alexnet": Entry(AlexNet, (227, 227, 3)),
    "alexnet_2014": Entry(AlexNet, LARGE, alexnet.KRIZHEVSKY_2014),
    "alexnet_cifar": Entry(AlexNet, SMALL, alexnet.CIFAR),
    "vgg16": Entry(VGG, LARGE),
    "vgg19": Entry(VGG, LARGE, {"depths": vgg.E}),
    "vgg16_bn": Entry(VGG, LARGE, {"batch_norm": True}),
    "vgg19_bn": Entry(VGG, LARGE, {"depths": vgg.E, "batch_norm": True}),
    "vgg16_cifar": Entry(VGG, SMALL, vgg.CIFAR),
    "vgg19_cifar": Entry(VGG, SMALL, vgg.CIFAR | {"depths": vgg.E}),
    "resnet18": Entry(ResNet, LARGE),
    "resnet50": Entry(ResNet, LARGE, {"depths": (3, 4, 6, 3), "bottleneck": True}),
    "resnet20": Entry(ResNet, SMALL, resnet.CIFAR | {"depths": (3, 3, 3)}),
    "resnet56": Entry(ResNet, SMALL, resnet.CIFAR | {"depths": (9, 9, 9)}),
    "densenet121": Entry(DenseNet, LARGE),
    "densenet169": Entry(DenseNet, LARGE, {"depths": (6, 12, 32, 32)}),
    "densenet40": Entry(DenseNet, SMALL, densenet.CIFAR_PLAIN),
    "densenet100_bc": Entry(DenseNet, SMALL, densenet.CIFAR),
    "googlenet": Entry(GoogLeNet, LARGE),
    "lstm": Entry(HAR, WINDOW, {"cell": "lstm"}),
    "bilstm": Entry(HAR, WINDOW, {"cell": "lstm", "bidirectional": True}),
    "gru": Entry(HAR, WINDOW, {"cell": "gru"}),
    "bigru": Entry(HAR, WINDOW, {"cell": "gru", "bidirectional": True}),
    "cnn_lstm": Entry(HAR, WINDOW, {"cell": "lstm", "convolutions": True}),
    "cnn_bilstm": Entry(HAR, WINDOW, {"cell": "lstm", "bidirectional": True, "convolutions": True}),
    "cnn_gru": Entry(HAR, WINDOW, {"cell": "gru", "convolutions": True}),
    "cnn_bigru": Entry(HAR, WINDOW, {"cell": "gru", "bidirectional": True, "convolutions": True}),
}


def build(name: str, seed: int = 0, **options: Any) -> Net:
    """The Net that ``name`` stands for: a key of ZOO, or ``package.module:factory``.

    ``options`` go to what makes it: of the zoo all but the LeNets take ``num_classes``, image networks ``width``,
    AlexNet and VGG ``size``, recurrent ones ``units`` and ``features``. A factory is called with ``seed=`` where it
    takes one; it returns a Net or an nnx.Module, trained or not. Nothing is computed under ``jax.eval_shape``, which
    gives the Net's shapes. Raises BadInput for a name that leads nowhere, or an option that the network does not take.
    """
    if ":" in name:
        return _from_factory(name, seed, options)
    if name not in ZOO:
        close = difflib.get_close_matches(name, ZOO, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(ZOO)}, or package.module:factory"
        raise BadInput(f"unknown net '{name}': {hint}")
    entry = ZOO[name]
    taken = [option for option in inspect.signature(entry.module.__init__).parameters if option not in ("self", "rngs")]
    if unknown := [option for option in options if option not in taken]:
        raise BadInput(f"net '{name}' takes no option '{unknown[0]}': it takes {', '.join(taken) or 'none'}")
    return from_nnx(entry.module(rngs=nnx.Rngs(seed), **{**entry.options, **options}))


def _from_factory(name: str, seed: int, options: dict[str, Any]) -> Net:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # whatever the user's module does when imported
        raise BadInput(
            f"net '{name}': {said(error)}; give it as package.module:factory, its folder being the current one or on "
            "PYTHONPATH"
        ) from error
    if not callable(factory):
        raise BadInput(f"net '{name}': {attribute} is not callable; name a function that returns a Net or nnx.Module")
    try:
        net = factory(**({"seed": seed} if _takes_seed(factory) else {}), **options)
    except (Exception, SystemExit) as error:
        raise BadInput(f"net '{name}': the factory raised {said(error)}") from error
    if isinstance(net, nnx.Module):
        net = from_nnx(net)
    if not isinstance(net, Net):
        raise BadInput(
            f"net '{name}': the factory gave a {type(net).__name__}; return an nnx.Module, "
            "or nets.from_linen(module, variables)"
        )
    return net


def _takes_seed(factory: object) -> bool:
    try:
        return "seed" in inspect.signature(factory).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
