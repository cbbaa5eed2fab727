"""hotspot-v0: five base stations, thirty to forty users, most of them in one place.

| agents         | observation          | action                                         |
|----------------|----------------------|------------------------------------------------|
| ``bs_0…bs_4``  | 164 float32, order 1 | 40 weights: shares of free compute (FLOP/s)    |
| ``mu_0…mu_39`` | 48 float32, order 1  | 6 weights: split of the task (bytes), local first |

For association and allocation under congestion: the nearest base station is the wrong one for
many. 70 % of the users start around a point that is drawn at the reset; nearly all are on foot.

Versions
    v0: first release.
"""

from dtmarl.config import MobilityConfig, ScenarioConfig

CONFIG = ScenarioConfig(
    name="hotspot",
    version=0,
    num_base_stations=5,
    min_users=30,
    max_users=40,
    reference_delay_s=50.0,
    mobility=MobilityConfig(vehicle_fraction=0.1, hotspot_fraction=0.7, hotspot_radius_m=20.0),
)
