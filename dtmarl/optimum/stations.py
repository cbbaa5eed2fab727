"""The links of users with several base stations, and their sets."""

from __future__ import annotations

from typing import NamedTuple

from dtmarl.backend import Array
from dtmarl.optimum.problem import namespace, total

SET_LINKS = 4
"""Sets are formed of each user's fastest links, at most this many, as their number doubles."""


class Links(NamedTuple):
    """Each user's links, fastest first, so that the arrays are as narrow as associations are.

    Values of links that are not usable, and of users without any, are harmless constants.

    Attributes:
        usable_mask: [E, A, N].
        overhead_s: [E, A, N] a.
        transfer_s: [E, A, N] b.
        floor_s: [E, N] smallest possible L_n, at least every a.
        local_s: [E, N] D.
        work_flop: [E, N] W.
        retrain_work: [E, N] κ.
        order: [E, M, N] the base station of each link.
        inverse: [E, M, N] the link of each base station.
    """

    usable_mask: Array
    overhead_s: Array
    transfer_s: Array
    floor_s: Array
    local_s: Array
    work_flop: Array
    retrain_work: Array
    order: Array
    inverse: Array

    def first(self, number: int) -> Links:
        """Only that many links of each user."""
        return self._replace(
            usable_mask=self.usable_mask[:, :number],
            overhead_s=self.overhead_s[:, :number],
            transfer_s=self.transfer_s[:, :number],
        )

    def with_sets(self) -> Links:
        """The same with an axis of length one for sets of links, [E, 1, ...]."""
        return Links(*(values[:, None, ...] for values in self))

    def zeros(self) -> Array:
        """Zeros [E, A, N]."""
        return namespace(self.transfer_s).zeros_like(self.transfer_s)

    def spread(self, per_station: Array) -> Array:
        """Each link's value of its base station, [E, A, N] from [E, M]."""
        xp = namespace(per_station)
        values = xp.broadcast_to(per_station[:, :, None], self.order.shape)
        return xp.take_along_axis(values, self.order[:, : self.transfer_s.shape[1]], axis=1)

    def of_station(self, price: Array) -> Array:
        """μ·W of each link, [E, A, N], from prices [E, M] in seconds per FLOP/s."""
        return self.spread(price) * self.work_flop[:, None, :]

    def to_stations(self, per_link: Array) -> Array:
        """Values by base station, [E, M, N] from [E, A, N]."""
        xp = namespace(per_link)
        missing = self.order.shape[1] - per_link.shape[1]
        if missing:
            rest = xp.zeros_like(per_link[:, :1, :])
            rest = xp.broadcast_to(rest, (rest.shape[0], missing, rest.shape[2]))
            per_link = xp.concat([per_link, rest], axis=1)
        return xp.take_along_axis(per_link, self.inverse, axis=1)

    def station_total(self, per_link: Array) -> Array:
        """Sum over the users of each base station, [E, M] from [E, A, N]."""
        return total(self.to_stations(per_link), -1)


def compact_links(
    usable_mask: Array,
    overhead_s: Array,
    transfer_s: Array,
    floor_s: Array,
    local_s: Array,
    work_flop: Array,
    retrain_work: Array,
) -> Links:
    """Links of arrays [E, M, N] and [E, N]."""
    xp = namespace(local_s)
    order = xp.argsort(xp.where(usable_mask, transfer_s, xp.inf), axis=1)
    most = int(xp.max(xp.sum(xp.astype(usable_mask, xp.int64), axis=1)))
    helped = xp.any(usable_mask, axis=1)

    def narrow(values: Array) -> Array:
        return xp.take_along_axis(values, order[:, : max(most, 1)], axis=1)

    return Links(
        narrow(usable_mask),
        narrow(xp.where(usable_mask, overhead_s, 0.0)),
        narrow(xp.where(usable_mask, transfer_s, 1.0)),
        xp.where(helped, floor_s, 0.0),
        xp.where(helped, local_s, 1.0),
        xp.where(helped, work_flop, 1.0),
        retrain_work,
        order,
        xp.argsort(order, axis=1),
    )


def set_masks(usable_mask: Array) -> Array:
    """Every non-empty set of the first links, without links that are not usable, [E, S, A, N]."""
    xp = namespace(usable_mask)
    width = usable_mask.shape[1]
    none = usable_mask[:, 0, :] & ~usable_mask[:, 0, :]
    sets = [
        xp.stack([usable_mask[:, i, :] if number >> i & 1 else none for i in range(width)], axis=1)
        for number in range(1, 2 ** min(width, SET_LINKS))
    ]
    return xp.stack(sets, axis=1)


def whole_sets(usable_mask: Array) -> Array:
    """True where every link of the set is usable, in the order of `set_masks`, [E, S, N]."""
    xp = namespace(usable_mask)
    every = usable_mask[:, 0, :] | ~usable_mask[:, 0, :]
    sets = []
    for number in range(1, 2 ** min(usable_mask.shape[1], SET_LINKS)):
        whole = every
        for index in range(min(usable_mask.shape[1], SET_LINKS)):
            if number >> index & 1:
                whole = whole & usable_mask[:, index, :]
        sets.append(whole)
    return xp.stack(sets, axis=1)
