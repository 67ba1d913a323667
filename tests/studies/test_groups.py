"""The table of channel groups on the command line."""

import pytest

from jax_prune import cli

OWN = """
from flax import nnx

class Own(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(8, rngs=nnx.Rngs(0))
        self.mixed = nnx.LayerNorm(6, rngs=nnx.Rngs(0))
        self.middle = nnx.Linear(8 * 16, 6, rngs=nnx.Rngs(0))
        self.head = nnx.Linear(6, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.head(self.mixed(self.middle(self.norm(self.conv(x)).reshape(x.shape[0], -1))))
"""


def test_a_net_of_the_zoo(capsys):
    assert cli.main(["groups", "--config.net=lenet5", "--config.shape=28,28,1", "--config.dtype=uint8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "conv1      20  conv1/kernel[3], conv1/bias[0], conv2/kernel[2]",
        "conv2      50  conv2/kernel[3], conv2/bias[0], ip1/kernel[0] x16",
        "ip1       500  ip1/kernel[1], ip1/bias[0], ip2/kernel[0]",
        "frozen",
    ]
    assert "ip2        10  ip2/kernel[1], ip2/bias[0]: the network's output" in lines
    assert lines[-1] == "3 groups, 570 units can be cut"


@pytest.mark.parametrize("train", [False, True])
def test_a_net_of_ones_own(capsys, tmp_path, monkeypatch, train):
    (tmp_path / f"own_{train}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    command = ["groups", f"--config.net=own_{train}:Own", "--config.shape=4,4,3", f"--config.train={train}"]
    assert cli.main(command) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "conv 8 conv/kernel[3], conv/bias[0], middle/kernel[0] x16, norm/bias[0], norm/scale[0]" in words
    assert "state norm/mean[0], state norm/var[0]" in words
    assert "mixed/bias[0], mixed/scale[0]: reduce_sum over it" in words
    assert words.endswith("1 groups, 8 units can be cut")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config.net=lenet5", "--config.shape=9,9,1"], "cannot take an example of shape [2, 9, 9, 1]"),
        (["--config.net=lenet5", "--config.shape=28,28,1", "--config.dtype=floaty"], "give one of NumPy's"),
        (["--config.net=lenet6"], "unknown net 'lenet6'|input of lenet6 is not known"),
        (["--config.width=4"], "unknown flag"),
    ],
)
def test_bad_input_ends_in_one_line(capsys, arguments, says):
    assert cli.main(["groups", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert any(part in line for part in says.split("|"))


def test_help_lists_the_flags(capsys):
    assert cli.main(["groups", "--help"]) == 0
    assert "--config.shape" in capsys.readouterr().out
