"""Association solvers: one file each, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from dtmarl.frame.association.algorithm_1 import algorithm_1
from dtmarl.frame.association.enumeration import enumeration
from dtmarl.frame.association.exact import exact
from dtmarl.frame.association.local_search import local_search
from dtmarl.frame.association.problem import AssociationProblem, AssociationResult
from dtmarl.frame.association.rules import nearest, strongest

Solver = Callable[[AssociationProblem], AssociationResult]

SOLVERS: dict[str, Solver] = {
    "algorithm-1": algorithm_1,
    "exact": exact,
    "local-search": local_search,
    "enumerate": enumeration,
    "nearest": nearest,
    "strongest": strongest,
}
"""Association solvers by the name that a controller takes, and what their bounds certify.

- ``exact``, ``local-search`` and ``enumerate`` minimise the delay of the frame's expected slot
  with congestion (`frame_objective`). No association with one base station per user is below their
  bound; ``exact`` and ``enumerate`` close it, ``local-search`` does not.
- ``algorithm-1`` is the paper's: it minimises the linear objective (12), λ and Q fixed. Its value
  and bound are of that objective, and say nothing about the delay with congestion.
- ``strongest`` and ``nearest`` optimise nothing; their bound is -inf.

None certifies anything about true slots, which the twin can only expect.
"""
