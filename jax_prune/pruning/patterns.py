"""Entries of a kernel that are ranked together: tiles that live or die whole, and N of every M inputs.

Kernels are read as matrices [inputs, outputs] (see ``layouts``). Both patterns cut them into tiles, r x c for blocks,
M x 1 for N:M (N of every M consecutive inputs of an output, as sparse tensor cores want it; Mishra et
al. 2021), and rank so that ``masks.from_kept`` cuts between tiles, or between places in all tiles at once, wherever a
count is a whole number of steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax.numpy as jnp

from jax_prune.errors import BadInput
from jax_prune.types import Array, Pattern

Matrices = Sequence[tuple[int, int]]  # inputs and outputs of each kernel


def block(sides: tuple[int, int], matrices: Matrices, name: str) -> Pattern:
    """Tiles of rows x columns over kernels of these sizes. Raises BadInput where they do not divide one."""
    return _tiled(sides, matrices, True, f"block={'x'.join(map(str, sides))} of {name}")


def every(nm: str, matrices: Matrices, name: str) -> Pattern:
    """N of every M, ``nm`` as ``per_block`` reads it. Raises BadInput where M does not divide a kernel's inputs."""
    _, among = per_block(nm)
    return _tiled((among, 1), matrices, False, f"nm={nm} of {name}")


def per_block(nm: str) -> tuple[int | None, int]:
    """'2:4' as (2, 4); 'n:4', where the search chooses n, as (None, 4). Raises BadInput for anything else."""
    read = re.fullmatch(r"(n|\d+):(\d+)", nm)
    count, among = (read[1], int(read[2])) if read else ("0", 0)
    if among < 2 or (count != "n" and not 1 <= int(count) <= among):
        raise BadInput(f"nm is '{nm}': write 2:4 to keep 2 of every 4 inputs, or n:4 to let the search choose")
    return None if count == "n" else int(count), among


def step(pattern: Pattern | None) -> int:
    """Entries between two counts that fit the pattern."""
    if pattern is None:
        return 1
    width = math.prod(pattern.tile)
    return width if pattern.together else sum(map(math.prod, pattern.shapes)) // width


def rank(score: Array, pattern: Pattern) -> Array:
    """Rank of every entry int32 [n], a permutation: 0 is the weakest, ties go by index.

    Tiles that live together are ordered by their summed scores. Else the places within the tiles come first: all
    weakest entries of a tile rank below all second weakest ones, and by score among themselves.
    """
    tiles = _tiles(score, pattern)
    count, width = tiles.shape
    if pattern.together:
        ranks = _ranks(tiles.sum(axis=1), 0)[:, None] * width + jnp.arange(width)
    else:
        place = _ranks(tiles, 1)
        among = _ranks(jnp.sort(tiles, axis=1), 0)
        ranks = place * count + jnp.take_along_axis(among, place, axis=1)
    return _entries(ranks.astype(jnp.int32), pattern)


def _tiled(tile: tuple[int, int], matrices: Matrices, together: bool, said: str) -> Pattern:
    if min(tile) < 1:
        raise BadInput(f"{said}: give sides of 1 or more")
    for rows, columns in matrices:
        if rows % tile[0] or columns % tile[1]:
            raise BadInput(f"{said} does not fit {rows} inputs x {columns} outputs: give what divides them")
    return Pattern(tuple(matrices), tile, together)


def _ranks(values: Array, axis: int) -> Array:
    return jnp.argsort(jnp.argsort(values, axis=axis, stable=True), axis=axis)


def _tiles(entries: Array, pattern: Pattern) -> Array:
    """Entries [n] as rows of tiles [K, r c]."""
    tiles, start, (rows, columns) = [], 0, pattern.tile
    for inputs, outputs in pattern.shapes:
        matrix = entries[start : start + inputs * outputs]
        cut = matrix.reshape(inputs // rows, rows, outputs // columns, columns)
        tiles.append(cut.transpose(0, 2, 1, 3).reshape(-1, rows * columns))
        start += inputs * outputs
    return jnp.concatenate(tiles)


def _entries(tiles: Array, pattern: Pattern) -> Array:
    """The inverse of ``_tiles``."""
    entries, start, (rows, columns) = [], 0, pattern.tile
    for inputs, outputs in pattern.shapes:
        count = inputs * outputs // (rows * columns)
        cut = tiles[start : start + count].reshape(inputs // rows, outputs // columns, rows, columns)
        entries.append(cut.transpose(0, 2, 1, 3).reshape(-1))
        start += count
    return jnp.concatenate(entries)
