"""A real catalogue for a world: users' profiles, authors and content clusters of published tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from validation.worlds.base import Floats, Ints, World

AnyWorld = TypeVar("AnyWorld", bound=World)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """R real profiles and I real items.

    profiles: profile columns of `users/`, R rows. x_RP: what of them drives exposure and outcome, standardised.
    item_I, author_I: ids as published. cluster_I: 0 .. K−1.
    """

    profiles: pa.Table
    x_RP: Floats
    item_I: Ints
    author_I: Ints
    cluster_I: Ints

    def sized(self, world: AnyWorld) -> AnyWorld:
        """The world with this catalogue's numbers of clusters, items, authors and profile columns."""
        return replace(
            world,
            clusters=int(self.cluster_I.max()) + 1,
            items=len(self.item_I),
            authors=len(np.unique(self.author_I)),
            profile_dim=self.x_RP.shape[1],
        )
