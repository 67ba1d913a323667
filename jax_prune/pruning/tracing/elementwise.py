"""Operations that take values position by position: their operands' units are one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax_prune.pruning.tracing.labels import FREE, Value
from jax_prune.pruning.tracing.ledger import Ledger

Rule = Callable[[Ledger, Any, list[Value]], list[Value]]

# zero where one operand is; where all are; where the first is; nowhere for certain
ANY_ZERO = {"mul", "and"}
ALL_ZERO = {"add", "add_any", "sub", "max", "min", "or", "xor"}
FIRST_ZERO = [
    "div", "rem", "neg", "abs", "sign", "sqrt", "cbrt", "square", "sin", "tan", "asin", "atan", "sinh", "tanh",
    "asinh", "atanh", "erf", "erf_inv", "expm1", "log1p", "floor", "ceil", "round", "real", "imag", "conj",
    "convert_element_type", "reduce_precision", "copy", "copy_p", "stop_gradient", "integer_pow", "name",
    "sharding_constraint", "device_put", "mesh_cast", "reshard", "pvary", "shift_left",
    "shift_right_arithmetic", "shift_right_logical",
]  # fmt: skip
NOT_ZERO = [
    "exp", "exp2", "log", "cos", "acos", "cosh", "acosh", "logistic", "rsqrt", "pow", "atan2", "nextafter",
    "erfc", "lgamma", "digamma", "not", "eq", "ne", "lt", "le", "gt", "ge", "is_finite", "clamp", "complex",
    "population_count", "clz", "bessel_i0e", "bessel_i1e", "igamma", "igammac", "regularized_incomplete_beta", "mulhi",
    "polygamma", "zeta",
]  # fmt: skip
ENDLESS = {  # these make inf or NaN of a masked operand, which times zero is NaN: operand by operand
    "div": (1,),
    "rem": (1,),
    "log": (0,),
    "rsqrt": (0,),
    "pow": (0,),
    "lgamma": (0,),
    "digamma": (0,),
    "acosh": (0,),
}


def positionwise(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """Operands have the output's shape but for what is repeated, or no axes at all."""
    name = equation.primitive.name
    values = _repeated(ledger, equation, values)
    _guard(ledger, equation, values)
    axes = tuple(
        ledger.join([value.axes[axis] for value in values if value.axes], name, _zero(name, values, axis))
        for axis in range(equation.outvars[0].aval.ndim)
    )
    data = any(value.data for value in values)
    return [Value(axes, data, _zero_throughout(name, values))]


def select(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """The predicate comes first and says nothing of zero."""
    values = _repeated(ledger, equation, values)
    joined = [value for value in values if value.axes]
    axes = tuple(
        ledger.join([value.axes[axis] for value in joined], "select_n", all(v.zero_along(axis) for v in values[1:]))
        for axis in range(equation.outvars[0].aval.ndim)
    )
    return [Value(axes, any(value.data for value in values), all(value.zero for value in values[1:]))]


def each(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """As many results as operands, each as it came."""
    return list(values)


def _repeated(ledger: Ledger, equation: Any, values: list[Value]) -> list[Value]:
    """``values``, their axes of one position that the others repeat being constant along."""
    shape = equation.outvars[0].aval.shape
    results = []
    for atom, value in zip(equation.invars, values, strict=True):
        for axis, size, whole in zip(value.axes, atom.aval.shape, shape, strict=False):
            if size != whole:
                ledger.freeze(axis, f"{equation.primitive.name} repeats one of them")
        sides = zip(value.axes, atom.aval.shape, shape, strict=False)
        results.append(value._replace(axes=tuple(axis if size == whole else FREE for axis, size, whole in sides)))
    return results


def _zero(name: str, values: list[Value], axis: int) -> bool:
    known = [value.zero_along(axis) for value in values]
    if name in ANY_ZERO:
        return any(known)
    if name in ALL_ZERO:
        return all(known)
    return name in FIRST_ZERO and known[0]


def _zero_throughout(name: str, values: list[Value]) -> bool:
    known = [value.zero for value in values]
    if name in ANY_ZERO:
        return any(known)
    if name in ALL_ZERO:
        return all(known)
    return name in FIRST_ZERO and known[0]


def _guard(ledger: Ledger, equation: Any, values: list[Value]) -> None:
    name = equation.primitive.name
    places: tuple[int, ...] = ENDLESS.get(name, ())
    if name == "integer_pow" and equation.params["y"] < 0:
        places = (0,)
    for place in places:
        for axis in values[place].axes:
            if axis.zero:
                ledger.freeze(axis, f"{name} of parameters that a mask makes zero")


RULES: dict[str, Rule] = {
    **dict.fromkeys([*ANY_ZERO, *ALL_ZERO, *FIRST_ZERO, *NOT_ZERO], positionwise),
    "select_n": select,
    "optimization_barrier": each,
}
