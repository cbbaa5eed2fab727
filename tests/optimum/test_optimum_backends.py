from __future__ import annotations

import numpy as np
import pytest
from slot_cases import KINDS, one_environment, random_problem

from dtmarl.optimum import SlotProblem, slot_optimum, system_delay

torch = pytest.importorskip("torch")

RESULTS = ("delay_s", "lower_bound_s", "split", "allocation")


def in_torch(problem: SlotProblem) -> SlotProblem:
    values = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    return SlotProblem(
        **{k: v if isinstance(v, float) else torch.tensor(v) for k, v in values.items()}
    ).validated()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("several", [False, True])
def test_torch_finds_the_same_optimum(kind: str, several: bool) -> None:
    problem = random_problem(
        3, num_environments=3, num_stations=3, num_users=7, kind=kind, several=several
    )
    expected = slot_optimum(problem)
    optimum = slot_optimum(in_torch(problem))
    # A choice of links that are equally good may come out differently.
    relative = 1e-3 if several else 1e-6
    for name in RESULTS:
        assert isinstance(getattr(optimum, name), torch.Tensor)
    np.testing.assert_allclose(optimum.delay_s.numpy(), expected.delay_s, rtol=relative)
    np.testing.assert_allclose(optimum.lower_bound_s.numpy(), expected.lower_bound_s, rtol=relative)
    delay = system_delay(problem, optimum.split.numpy(), optimum.allocation.numpy())
    np.testing.assert_allclose(delay, optimum.delay_s.numpy(), rtol=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_a_torch_row_does_not_depend_on_its_batch(several: bool) -> None:
    problem = random_problem(
        5, num_environments=4, num_stations=3, num_users=9, kind="congested", several=several
    )
    together = slot_optimum(in_torch(problem))
    for e in range(4):
        alone = slot_optimum(in_torch(one_environment(problem, e)))
        for name in RESULTS:
            assert torch.equal(getattr(together, name)[e : e + 1], getattr(alone, name)), name


def test_validated_reads_tensors() -> None:
    problem = in_torch(random_problem(0))
    values = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    values["task_bytes"] = -values["task_bytes"]
    with pytest.raises(ValueError, match=r"task_bytes.*non-negative"):
        SlotProblem(**values).validated()
