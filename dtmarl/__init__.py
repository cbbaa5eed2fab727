"""Multi-agent environments for two-timescale, digital-twin-assisted edge computing."""

from dtmarl import testing
from dtmarl.config import ScenarioConfig
from dtmarl.envs.make import (
    env,
    gymnasium_vector_env,
    parallel_env,
    raw_env,
    register_with_pettingzoo,
    vector_env,
)
from dtmarl.evaluation import Report, evaluate
from dtmarl.frame.controller import SCHEMES, Controller, Scheme
from dtmarl.optimum import SlotOptimum, SlotProblem, slot_optimum
from dtmarl.policies import POLICIES, Policy
from dtmarl.scenarios import scenario, scenarios
from dtmarl.types import FrameDecision, SlotOutcome, TwinView

__version__ = "0.1.0"

__all__ = [
    "POLICIES",
    "SCHEMES",
    "Controller",
    "FrameDecision",
    "Policy",
    "Report",
    "ScenarioConfig",
    "Scheme",
    "SlotOptimum",
    "SlotOutcome",
    "SlotProblem",
    "TwinView",
    "env",
    "evaluate",
    "gymnasium_vector_env",
    "parallel_env",
    "raw_env",
    "scenario",
    "scenarios",
    "slot_optimum",
    "testing",
    "vector_env",
]

register_with_pettingzoo()
