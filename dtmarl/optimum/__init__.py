"""The certified optimum of a slot, problem P3 with full knowledge, and lower bounds."""

from dtmarl.optimum.clairvoyant import clairvoyant_bound_s
from dtmarl.optimum.problem import SlotOptimum, SlotProblem, system_delay
from dtmarl.optimum.solve import slot_optimum

__all__ = ["SlotOptimum", "SlotProblem", "clairvoyant_bound_s", "slot_optimum", "system_delay"]
