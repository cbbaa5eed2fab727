"""The certified optimum of a slot, problem P3 with full knowledge, and its lower bound."""

from dtmarl.optimum.problem import SlotOptimum, SlotProblem, system_delay
from dtmarl.optimum.solve import slot_optimum

__all__ = ["SlotOptimum", "SlotProblem", "slot_optimum", "system_delay"]
