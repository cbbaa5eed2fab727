"""Counter-based noise: distributions, independence, and what its numbers depend on."""

import numpy as np
import pytest
import torch
from scipy import stats

import dtmarl
from dtmarl.counter_noise import CounterStreams, hashed, standard_normal, unit_uniform
from dtmarl.randomness import EnvironmentStreams

CONFIG = dtmarl.scenario("paper-v0")


def words(count, start=0):
    return hashed(hashed(torch.arange(start, start + count, dtype=torch.int32)) ^ 77)


def test_the_distributions_are_right():
    bits = words(200_000)
    uniform = unit_uniform(bits, torch.float32).numpy()
    normal = standard_normal(bits, torch.float32).numpy()
    assert 0.0 < uniform.min() < uniform.max() < 1.0
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    np.testing.assert_allclose(normal, stats.norm.ppf(uniform.astype(np.float64)), atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_the_range_are_finite(dtype):
    ends = torch.tensor([0, -1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    for convert in (unit_uniform, standard_normal):
        assert torch.isfinite(convert(ends, dtype)).all()


def test_every_block_has_the_shape_of_the_other_streams():
    ours = CounterStreams(CONFIG, [1, 2], torch.float32, "cpu")
    theirs = EnvironmentStreams(CONFIG, [1, 2])
    for name in ("draw_reset", "draw_frame"):
        expected = getattr(theirs, name)()
        got = getattr(ours, name)()
        assert {key: tuple(block.shape) for key, block in got.items()} == {
            key: block.shape for key, block in expected.items()
        }


def test_blocks_draws_slots_and_environments_are_uncorrelated():
    streams = CounterStreams(CONFIG, range(400), torch.float64, "cpu")
    frames = [streams.draw_frame() for _ in range(3)]
    base = frames[0]["fading"][0].reshape(400, -1)
    others = {
        "next draw": frames[1]["fading"][0].reshape(400, -1),
        "next slot": frames[0]["fading"][1].reshape(400, -1),
        "next environment": base.roll(1, 0),
        "next place": base.roll(1, 1),
        "other block": frames[0]["update"].swapaxes(0, 1).reshape(400, -1)[:, : base.shape[1]],
    }
    for name, other in others.items():
        correlation = float(torch.corrcoef(torch.stack([base.ravel(), other.ravel()]))[0, 1])
        assert abs(correlation) < 5.0 / base.numel() ** 0.5, name
    block = frames[0]["fading"][:]
    assert len(torch.unique(block)) > 0.9 * block.numel()


def test_an_environment_depends_on_its_seed_alone():
    alone = CounterStreams(CONFIG, [9], torch.float32, "cpu")
    among = CounterStreams(CONFIG, [3, 9, 4], torch.float32, "cpu")
    for _ in range(2):
        one, many = alone.draw_frame(), among.draw_frame()
        for name, block in one.items():
            assert torch.equal(block[:][:, 0], many[name][:][:, 1])
            assert not torch.equal(many[name][:][:, 0], many[name][:][:, 1])


def test_slots_made_one_by_one_are_those_of_the_block():
    block = CounterStreams(CONFIG, [9, 2], torch.float32, "cpu").draw_frame()["fading"]
    assert torch.equal(block[3], block[:][3])
    assert torch.equal(block[2:5], block[:][2:5])
    assert torch.equal(block[-2:], block[:][-2:])
    assert torch.equal(block[-1], block[:][-1])
    assert torch.equal(torch.stack(list(block)), block[:])
    with pytest.raises(IndexError):
        block[CONFIG.slots_per_frame]
    with pytest.raises(ValueError, match="one after the other"):
        block[::2]
    assert tuple(block[:].shape) == block.shape
