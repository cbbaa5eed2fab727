"""outage-v0: a base station fails and returns.

| agents         | observation         | action                                         |
|----------------|---------------------|------------------------------------------------|
| ``bs_0…bs_2``  | 44 float32, order 1 | 10 weights: shares of free compute (FLOP/s)    |
| ``mu_0…mu_9``  | 36 float32, order 1 | 4 weights: split of the task (bytes), local first |

For robustness: `paper-v0` in which one base station, drawn at the reset, is away for three frames.
Tasks of users that are associated with it stay local; the twin hears of it with the next report.

Versions
    v0: first release.
"""

from dtmarl.config import OutageConfig, ScenarioConfig

CONFIG = ScenarioConfig(
    name="outage", version=0, outage=OutageConfig(enabled=True, duration_frames=3)
)
