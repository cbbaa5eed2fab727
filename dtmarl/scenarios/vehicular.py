"""vehicular-v0: everybody drives, comes and goes; contexts change fast.

| agents         | observation         | action                                         |
|----------------|---------------------|------------------------------------------------|
| ``bs_0…bs_2``  | 56 float32, order 1 | 13 weights: shares of free compute (FLOP/s)    |
| ``mu_0…mu_12`` | 36 float32, order 1 | 4 weights: split of the task (bytes), local first |

For forecasting and association under fast drift, and for trainers that must cope with agents that
arrive and leave. 400 m × 200 m, vehicles only, four users stay and nine more come and go at frame
boundaries; an index is used once an episode.

Versions
    v0: first release.
"""

from dtmarl.config import ChurnConfig, LearningConfig, MobilityConfig, ScenarioConfig

CONFIG = ScenarioConfig(
    name="vehicular",
    version=0,
    min_users=4,
    max_users=13,
    reference_delay_s=50.0,
    mobility=MobilityConfig(width_m=400.0, vehicle_fraction=1.0),
    learning=LearningConfig(context_switch_probability=0.02),
    churn=ChurnConfig(enabled=True, initial_fraction=0.4, mean_stay_frames=4.0),
)
