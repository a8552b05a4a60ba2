"""How much happens in a history: mostly little, sometimes a lot.

Most faults of a control plane need one deployment, two replicas and two operations that meet, so a thousand short
histories find more of them than the one long history that takes the same time. What needs more than that is found by
the few that are long.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sim.fakes import Faults


@dataclass(frozen=True)
class Size:
    """Bounds of a history.

    Attributes:
        name: for figures.
        share: how many histories of a thousand are of this size.
        busy_s: how long operations go on.
        operation_s: mean time between them: shorter than most of what they set off, so that they meet.
        apps: names of applications.
        deployments: of an application, at most.
        replicas: of a deployment, at most.
        actors: how many the replicas of a deployment share.
        faults: kinds of faults, at most.
        proxies: where they run; None for no proxies.
        grids_s: how much is heard at once: little, so that everything has its own turn, or much, so that turns have a
            lot to do.
    """

    name: str
    share: int
    busy_s: float
    operation_s: float
    apps: tuple[str, ...]
    deployments: int
    replicas: int
    actors: tuple[int, ...]
    faults: int
    proxies: tuple[str | None, ...]
    grids_s: tuple[float, ...]


SMALL = Size(
    name="small",
    share=940,
    busy_s=2.0,
    operation_s=1.0,
    apps=("a",),
    deployments=1,
    replicas=2,
    actors=(0, 0, 0, 0, 0, 0, 0, 1),
    faults=1,
    proxies=(None, None, "HeadOnly"),
    grids_s=(0.5, 1.0),
)
MIDDLING = Size(
    name="middling",
    share=50,
    busy_s=8.0,
    operation_s=1.5,
    apps=("a", "b"),
    deployments=2,
    replicas=3,
    actors=(0, 0, 1),
    faults=2,
    proxies=(None, "Disabled", "EveryNode"),
    grids_s=(0.25, 0.5),
)
LARGE = Size(
    name="large",
    share=10,
    busy_s=16.0,
    operation_s=2.0,
    apps=("a", "b"),
    deployments=3,
    replicas=5,
    actors=(0, 0, 1, 2),
    faults=6,
    proxies=("EveryNode", "HeadOnly"),
    grids_s=(0.125, 0.25, 0.5),
)
SIZES = (SMALL, MIDDLING, LARGE)

_FAULTS: dict[str, tuple[float, ...]] = {
    "launch_fails": (0.1, 0.3),
    "constructor_fails": (0.1, 0.3),
    "reconfigure_fails": (0.1, 0.5),
    "check_fails": (0.1, 0.4),
    "lost_answer": (0.1, 0.3),
    "life_s": (10, 60, 300),
}


def draw_size(rng: Random) -> Size:
    """The size of one history."""
    return rng.choices(SIZES, weights=[size.share for size in SIZES])[0]


def draw_faults(rng: Random, size: Size) -> Faults:
    """What goes wrong in it, and how often."""
    kinds = rng.sample(tuple(_FAULTS), rng.randint(0, size.faults))
    return Faults(**{kind: rng.choice(_FAULTS[kind]) for kind in kinds})
