"""The channel groups of a network as a table: what can be cut, where it appears, and why the rest stays."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from jax_prune.errors import BadInput
from jax_prune.studies.options import option
from jax_prune.types import Slot

WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Config:
    """What ``jax-prune groups`` takes; each is a flag ``--config.NAME``."""

    net: str = option("lenet5", "a network's name, or package.module:factory giving a Net or nnx.Module")
    shape: tuple[int, ...] | None = option(
        None, "of one input, without its batch, e.g. 32,32,3; default: the network's own"
    )
    dtype: str = option("float32", "of the input, e.g. uint8, or int32 for words")
    train: bool = option(False, "read the program of training, with batch statistics")


def table(config: Config) -> str:
    """The table as lines of text. Raises BadInput for a network or an input that does not go together."""
    import jax
    import jax.numpy as jnp

    from jax_prune import nets
    from jax_prune.pruning import groups

    # of the zoo shapes alone: drawing weights would take longer than tracing
    own = ":" in config.net
    net = nets.build(config.net) if own else jax.eval_shape(lambda: nets.build(config.net))
    shape = config.shape or getattr(nets.ZOO.get(config.net), "shape", None)
    if shape is None:
        raise BadInput(f"the input of {config.net} is not known: give its shape, e.g. --config.shape=28,28,1")
    try:
        dtype = jnp.dtype(config.dtype)
    except TypeError:
        raise BadInput(f"dtype is '{config.dtype}': give one of NumPy's, such as float32 or int32") from None
    example = jax.ShapeDtypeStruct((2, *shape), dtype)
    traced = groups.traced(net, example, train=config.train)
    return text(traced)


def text(traced: Any) -> str:
    """A ``groups.Traced`` as lines: first what can be cut, then what stays."""
    entries = [(group, "") for group in traced.groups] + [(entry.group, entry.reason) for entry in traced.frozen]
    name = max([len(group.name) for group, _ in entries] + [len("group")])
    lines = [f"{'group':<{name}}  {'units':>6}  where they appear: leaf[axis]"]
    for place, (group, reason) in enumerate(entries):
        if place == len(traced.groups):
            lines.append("frozen")
        where = ", ".join(map(_slot, group.slots)) + (f": {reason}" if reason else "")
        head = f"{group.name:<{name}}  {group.size:>6}  "
        lines.append(
            textwrap.fill(
                where, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
                break_on_hyphens=False,
            )
        )  # fmt: skip
    units = sum(group.size for group in traced.groups)
    lines.append(f"{len(traced.groups)} groups, {units:,} units can be cut")
    return "\n".join(lines)


def _slot(slot: Slot) -> str:
    """leaf[axis], from which position on, in which steps, and how often a unit is there."""
    parts = [f"{'state ' if slot.state else ''}{slot.path}[{slot.axis}]"]
    parts += [f"from {slot.starts[0]}"] * (slot.starts[0] > 0)
    parts += [f"step {slot.step}"] * (slot.step != 1)
    parts += [f"x{len(slot.starts)}"] * (len(slot.starts) > 1)
    return " ".join(parts)
