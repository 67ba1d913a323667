"""A packed net loads back exactly, and nothing but a packed net loads."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_prune.deploy import packed
from jax_prune.errors import BadInput
from jax_prune.pruning import costs

SPEC = {"net": "lenet300", "dataset": "mnist"}


def draw(seed, densities, shapes=((30, 17), (9,), (3, 3, 2, 5), (700,))):
    rng = np.random.default_rng(seed)
    names = [f"layer{i}" for i in range(len(shapes))]
    masks = {n: {"w": rng.random(s) < d} for n, s, d in zip(names, shapes, densities, strict=True)}
    params = {
        n: {"w": np.where(masks[n]["w"], rng.normal(size=s), 0).astype(np.float32)}
        for n, s in zip(names, shapes, strict=True)
    }
    return params, masks


@pytest.mark.compat
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 99),
    densities=st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.3, 0.9, 1.0]), min_size=4, max_size=4),
)
def test_round_trip_is_exact(tmp_path_factory, seed, densities):
    path = tmp_path_factory.mktemp("packed") / "net.jaxprune"
    params, masks = draw(seed, densities)
    state = {"norm": {"mean": np.arange(3.0, dtype=np.float32)}}
    size = packed.write_packed(path, SPEC, params, state, masks, {"seed": seed})
    held = packed.read_packed(path)
    assert size == path.stat().st_size and held.spec == SPEC and held.meta == {"seed": seed}
    for found, expected in ((held.params, params), (held.state, state), (held.masks, masks)):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_order_of_dicts_changes_no_byte(tmp_path):
    params, masks = draw(3, [0.1, 0.5, 1.0, 0.01])
    turned = dict(reversed(params.items()))
    packed.write_packed(tmp_path / "a", SPEC, params, {}, masks, {})
    packed.write_packed(tmp_path / "b", SPEC, turned, {}, masks, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_long_gap_crosses_delta_digits(tmp_path):
    mask = np.zeros(100_000, bool)
    mask[[0, 14, 15, 16, 31, 46, 300, 555, 556, 60_000, 99_999]] = True
    assert costs.packed_size(mask).encoding.startswith("delta")
    params = {"w": np.where(mask, np.arange(100_000), 0).astype(np.float32)}
    packed.write_packed(tmp_path / "n", SPEC, params, {}, {"w": mask}, {})
    np.testing.assert_array_equal(packed.read_packed(tmp_path / "n").masks["w"], mask)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "net.jaxprune"
    params, masks = draw(0, [0.1, 0.5, 1.0, 0.01])
    packed.write_packed(path, SPEC, params, {}, masks, {})
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_truncated_files_are_refused(tmp_path, written, share):
    (tmp_path / "cut").write_bytes(written[: int(share * len(written))])
    with pytest.raises(BadInput, match="not a packed net|truncated or altered"):
        packed.read_packed(tmp_path / "cut")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_altered_byte_is_noticed(tmp_path_factory, written, data):
    place = data.draw(st.integers(0, len(written) - 1))
    altered = bytearray(written)
    altered[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("altered") / "net"
    path.write_bytes(altered)
    with pytest.raises(BadInput):
        packed.read_packed(path)


def test_absent_foreign_and_newer_files_say_so(tmp_path, written):
    with pytest.raises(BadInput, match="cannot read"):
        packed.read_packed(tmp_path / "absent")
    (tmp_path / "text").write_text("hello " * 50)
    with pytest.raises(BadInput, match="not a packed net"):
        packed.read_packed(tmp_path / "text")
    (tmp_path / "newer").write_bytes(written[:8] + (9).to_bytes(4, "little") + written[12:])
    with pytest.raises(BadInput, match="version 9"):
        packed.read_packed(tmp_path / "newer")


def test_leaves_without_axes_come_back_as_they_were(tmp_path):
    params, state = {"layer": {"kernel": np.eye(3, dtype=np.float32)}, "scale": np.float32(2)}, {"count": np.int32(3)}
    masks = jax.tree.map(lambda leaf: np.ones(np.shape(leaf), bool), params)
    packed.write_packed(tmp_path / "net", {}, params, state, masks, {})
    held = packed.read_packed(tmp_path / "net")
    for found, written in ((held.params, params), (held.state, state), (held.masks, masks)):
        assert jax.tree.map(lambda leaf: (np.shape(leaf), leaf.dtype), found) == jax.tree.map(
            lambda leaf: (np.shape(leaf), leaf.dtype), written
        )
