"""A conformance kit for PettingZoo `ParallelEnv`s: anyone's, not only this package's.

It is stricter than PettingZoo's own tests: values are held against spaces exactly, whole episodes
are repeated and compared bit by bit, and what a caller may do to arrays must not reach the
environment. Each rule has a name and can be run, or left out, on its own:

    check_parallel_env(make_env)                     # raises ConformanceError at the first failure
    run_rules(make_env, skip=["unseeded_reset"])     # a list of RuleResult
    RULES["spaces"](Setting(make_env))               # one rule
    check_across_processes("package.module:factory") # independence from PYTHONHASHSEED
"""

from dtmarl.testing.kit import RULES, check_parallel_env, run_rules
from dtmarl.testing.outcome import ConformanceError, Rule, RuleResult
from dtmarl.testing.processes import check_across_processes, load_factory
from dtmarl.testing.setting import Setting

__all__ = [
    "RULES",
    "ConformanceError",
    "Rule",
    "RuleResult",
    "Setting",
    "check_across_processes",
    "check_parallel_env",
    "load_factory",
    "run_rules",
]
