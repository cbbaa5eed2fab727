"""Batches on torch: order in memory, which loops are innermost, and what replaces torch's own."""

import numpy as np
import pytest
import torch

from dtmarl import backend_torch as xp
from dtmarl.compiling import nearest_step_first
from dtmarl.memory_order import along_environments, concat, stack
from dtmarl.types import Action

E = 50


def batch(*shape, axis=0):
    """Random numbers whose memory runs along one axis."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))
    return values.movedim(axis, -1).contiguous().movedim(-1, axis)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_stack_has_torchs_values_and_keeps_the_environments_side_by_side(axis):
    parts = [batch(E, 3), batch(E, 3) + 1.0, torch.ones(1, 1).expand(E, 3)]
    joined = stack(parts, axis)
    assert torch.equal(joined, torch.stack(parts, axis))
    assert joined.stride(joined.shape.index(E)) == 1


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat_has_torchs_values_and_keeps_the_environments_side_by_side(axis):
    parts = [torch.zeros(1).expand(4, E, 3), batch(4, E, 3, axis=1)]
    joined = concat(parts, axis)
    assert torch.equal(joined, torch.cat(parts, axis))
    assert joined.stride(1) == 1


def test_what_lies_row_by_row_stays_so():
    rows = [torch.rand(4, 5), torch.rand(4, 5)]
    assert stack(rows, 0).is_contiguous()
    assert concat(rows, 0).is_contiguous()


def test_masks_are_stacked_as_masks():
    masks = [batch(E, 3) > 0.5, batch(E, 3) > 0.2]
    joined = stack(masks, 0)
    assert joined.dtype == torch.bool
    assert torch.equal(joined, torch.stack(masks))


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_reductions_have_torchs_values_and_keep_the_environments_side_by_side(axis):
    values = batch(4, E, 3, axis=1)
    for ours, theirs in ((xp.sum, torch.sum), (xp.mean, torch.mean)):
        torch.testing.assert_close(ours(values, axis=axis), theirs(values, dim=axis))
        torch.testing.assert_close(
            ours(values, axis=axis, keepdims=True), theirs(values, dim=axis, keepdim=True)
        )
        left = ours(values, axis=axis)
        assert left.stride(left.shape.index(E)) == 1
        torch.testing.assert_close(ours(values, axis=(0, 2)), theirs(values, dim=(0, 2)))
        torch.testing.assert_close(ours(values), theirs(values))


def test_along_environments_changes_no_value():
    action = Action(torch.rand(E, 3, 4), torch.rand(E, 4, 4))
    tree = {"action": action, "slots": (torch.rand(2, E), torch.rand(7)), "slot": 3}
    moved = along_environments(tree, E)
    assert isinstance(moved["action"], Action)
    assert moved["slot"] == 3
    for before, after in zip(
        (*action, *tree["slots"]), (*moved["action"], *moved["slots"]), strict=True
    ):
        assert torch.equal(before, after)
    assert all(array.stride(0) == 1 for array in moved["action"])


def test_the_axis_with_the_nearest_step_is_innermost():
    # A position [S, E, 1, N] and a base station [1, E, M, 1] with E innermost: no operand has all
    # axes, so that comparing them pair by pair leads round in a circle.
    sizes = (10, 1024, 3, 5)
    strides = [(5120, 1, 0, 1024), (0, 1, 1024, 0)]
    assert nearest_step_first(strides, sizes)[0] == 1
    assert sorted(nearest_step_first(strides, sizes)) == [0, 1, 2, 3]
    assert nearest_step_first([(20, 4, 1)], (3, 5, 4)) == [2, 1, 0]
    assert nearest_step_first([(20, 4, 1)], (3, 5, 1)) == [1, 0, 2]
    assert nearest_step_first([(1, 8), (8, 1)], (8, 8), priority=[0]) == [0, 1]


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 4e-16), (torch.float32, 2e-7)])
def test_log1p_is_right_to_the_last_digits(dtype, digits):
    x = torch.cat([torch.logspace(-20, 9, 2000, dtype=dtype), torch.zeros(1, dtype=dtype)])
    expected = np.log1p(x.numpy().astype(np.float64))
    np.testing.assert_allclose(xp.log1p(x).numpy(), expected, rtol=4.0 * digits)


def test_argmin_gives_the_first_of_the_smallest():
    values = torch.tensor([[3.0, 1.0, 1.0], [0.0, 0.0, 2.0]])
    assert xp.argmin(values, axis=1).tolist() == [1, 0]
    assert xp.argmin(values, axis=0).tolist() == [1, 1, 0]
    assert int(xp.argmin(values)) == 3
