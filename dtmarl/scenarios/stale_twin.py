"""stale-twin-v0: the paper's network behind a poor twin.

| agents         | observation         | action                                         |
|----------------|---------------------|------------------------------------------------|
| ``bs_0…bs_2``  | 44 float32, order 1 | 10 weights: shares of free compute (FLOP/s)    |
| ``mu_0…mu_9``  | 36 float32, order 1 | 4 weights: split of the task (bytes), local first |

For decisions on wrong and old information: `paper-v0` with a report every fifth slot that takes
three slots to arrive and is lost three times in ten, with 10 m and 4 dB of noise, and with task
sizes announced to within 20 % and lost as often.

Versions
    v0: first release.
"""

from dtmarl.config import ScenarioConfig, TwinConfig

CONFIG = ScenarioConfig(
    name="stale-twin",
    version=0,
    twin=TwinConfig(
        sync_period_slots=5,
        sync_delay_slots=3,
        sync_loss=0.3,
        position_noise_m=10.0,
        gain_noise_db=4.0,
        task_noise=0.2,
        task_loss=0.3,
    ),
)
