"""paper-v0: the paper's simulation (Table I), three base stations and five to ten users.

| agents         | observation         | action                                         |
|----------------|---------------------|------------------------------------------------|
| ``bs_0…bs_2``  | 44 float32, order 1 | 10 weights: shares of free compute (FLOP/s)    |
| ``mu_0…mu_9``  | 36 float32, order 1 | 4 weights: split of the task (bytes), local first |

For comparing with the paper, and the default everywhere. 10 frames of 10 slots; between 5 and 10
users, drawn at the reset; pedestrians (1.5 m/s) and vehicles (15 m/s) on 200 m × 200 m; tasks of
10 to 20 MB; models drift when users enter another place and by chance.

Versions
    v0: first release.
"""

from dtmarl.config import ScenarioConfig

CONFIG = ScenarioConfig(name="paper", version=0)
