"""What stands in the street of `street.py`: rectangles that face the camera, each with the picture of its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Masks = NDArray[np.bool_]
END_WALL, CROWN, LAMP, BOARD, PARKED, PERSON, RIDER, BIN = range(8)
TRANSPARENT = 254

_BUILDING, _POLE, _TREE, _SIGN, _CAR, _PEDESTRIAN, _BICYCLIST, _VOID = 1, 2, 5, 6, 8, 9, 10, 255


@dataclass(frozen=True)
class Objects:
    """The objects of each recording, (R, K): x of their middle, z in the first frame, metres a frame, their size."""

    kind: NDArray[np.intp]
    """(K,): the same in all recordings."""
    x: Floats
    z: Floats
    speed: Floats
    width: Floats
    height: Floats
    look: Floats
    """(R, K): in (0, 1), what a kind leaves open."""
    colour: Floats
    """(R, K, 3): of paint, clothes or walls."""


def place(
    draw: Callable[[tuple[int, ...], int], Floats],
    lane: Floats,
    plots: tuple[Masks, Floats, Floats],
    across: tuple[float, float, float],
    plot: float,
) -> Objects:
    """The objects of each recording, by chance.

    `lane` (R,) is the side that the camera drives on, −1 or 1, `plots` are as `street` makes them, `across` is |x| of
    the road's edge, of the buildings' fronts and of their backs, and `plot` the length of a plot.
    """
    kerb, front, back = across
    built, height, walls = plots
    count, places = built.shape[0], built.shape[2]
    rows: list[tuple[int, Floats, Floats, Floats, Floats, Floats, Floats, Floats]] = []
    nowhere = np.float32(-1000)

    def add(kind: int, sides: Floats, z: Floats, there: Masks, **own: Any) -> None:
        """Objects (R, n) of a kind; `own` may hold x (without its sign), speed, width, height, look and colour."""
        shape = z.shape
        own = {"speed": np.zeros(shape, np.float32), **own}
        x, *full = (np.broadcast_to(own[name], shape) for name in ("x", "speed", "width", "height", "look"))
        rows.append((kind, sides * x, np.where(there, z, nowhere), *full, own["colour"]))

    # Walls that face the camera, where there is a gap before a building.
    begins = built & ~np.concatenate([np.ones_like(built[..., :1]), built[..., :-1]], axis=-1)
    side = np.repeat(np.array([-1, 1], np.float32), places)
    edge = np.broadcast_to(np.tile(np.arange(places, dtype=np.float32) * np.float32(plot), 2), (count, 2 * places))
    add(
        END_WALL,
        side,
        edge,
        begins.reshape(count, -1),
        x=np.float32((front + back) / 2),
        width=np.float32(back - front),
        height=height.reshape(count, -1),
        look=np.float32(0),
        colour=walls.reshape(count, -1, 3) * np.float32(0.85),
    )

    def some(kind: int, n: int, stream: int, share: float, spacing: float) -> tuple[Floats, Floats, Floats, Masks]:
        """Chance (R, n, 8), sides, z of n places at a distance of about `spacing`, and which of them are taken."""
        chance = draw((n, 8), stream)
        sides = np.where(np.arange(n) % 2 == 0, np.float32(1), np.float32(-1))
        z = np.float32(spacing) * (np.arange(n, dtype=np.float32) // 2 + np.float32(0.8) * chance[..., 0] + 1)
        return chance, sides, z.astype(np.float32), chance[..., 1] < share

    c, sides, z, there = some(CROWN, 20, 10, 0.6, 9)
    green = np.stack([0.14 + 0.14 * c[..., 5], 0.27 + 0.13 * c[..., 6], 0.08 + 0.06 * c[..., 7]], axis=-1)
    add(CROWN, sides, z, there, x=front - 1.5 + 0.8 * c[..., 2], width=2.8 + 1.4 * c[..., 3],
        height=4.6 + 2 * c[..., 4], look=c[..., 7], colour=green)  # fmt: skip
    c, sides, z, there = some(LAMP, 14, 11, 0.85, 12)
    grey = np.repeat(0.3 + 0.15 * c[..., 5:6], 3, axis=-1)
    add(LAMP, sides, z, there, x=kerb + 0.4 + 0.2 * c[..., 2], width=np.float32(1.8), height=5 + 1.2 * c[..., 4],
        look=c[..., 7], colour=grey)  # fmt: skip
    c, sides, z, there = some(BOARD, 14, 12, 0.75, 11)
    add(BOARD, sides, z, there, x=kerb + 0.9 + 0.4 * c[..., 2], width=0.9 + 0.4 * c[..., 3],
        height=2.9 + 0.4 * c[..., 4], look=c[..., 7], colour=c[..., 4:7])  # fmt: skip
    c, sides, z, there = some(PARKED, 18, 13, 0.5, 9)
    add(PARKED, sides, z, there, x=kerb - 0.95 + 0 * c[..., 2], width=1.75 + 0.15 * c[..., 3],
        height=1.45 + 0.5 * c[..., 4] ** 2, look=c[..., 7], colour=_paint_of(c))  # fmt: skip
    c, sides, z, there = some(PARKED, 6, 14, 0.8, 18)
    ahead = sides > 0
    add(PARKED, np.where(ahead, lane[:, None], -lane[:, None]), np.where(ahead, 9 + z * np.float32(0.6), 2 * z), there,
        x=1.45 + 0.2 * c[..., 2], speed=np.where(ahead, 0.3 + 0.2 * c[..., 3], -0.3 - 0.2 * c[..., 3]),
        width=np.float32(1.8), height=1.45 + 0.7 * c[..., 4] ** 2, look=c[..., 7], colour=_paint_of(c))  # fmt: skip
    c, sides, z, there = some(PERSON, 18, 15, 0.75, 8)
    add(PERSON, sides, z, there, x=kerb + 0.5 + 2.4 * c[..., 2], speed=0.1 * (c[..., 3] - 0.5), width=np.float32(0.62),
        height=1.55 + 0.3 * c[..., 4], look=c[..., 7], colour=0.08 + 0.75 * c[..., 4:7] ** 2)  # fmt: skip
    c, sides, z, there = some(RIDER, 8, 16, 0.75, 13)
    add(RIDER, sides, z, there, x=kerb - 1.9 + 0.6 * c[..., 2], speed=0.1 + 0.1 * c[..., 3], width=np.float32(0.8),
        height=1.7 + 0.2 * c[..., 4], look=c[..., 7], colour=0.1 + 0.8 * c[..., 4:7])  # fmt: skip
    c, sides, z, there = some(BIN, 8, 17, 0.5, 16)
    add(BIN, sides, z, there, x=kerb + 0.8 + 1.8 * c[..., 2], width=np.float32(0.7), height=1 + 0.3 * c[..., 4],
        look=c[..., 7], colour=0.1 + 0.4 * c[..., 4:7])  # fmt: skip

    kinds = np.concatenate([np.full(z.shape[1], kind) for kind, _, z, *_ in rows])
    columns = [np.concatenate([row[i] for row in rows], axis=1).astype(np.float32) for i in range(1, 8)]
    return Objects(kinds, *columns)


def _paint_of(chance: Floats) -> Floats:
    """Car paint: mostly grey, some in a colour."""
    grey = 0.1 + 0.75 * chance[..., 5:6] + np.zeros(3, np.float32)
    tint = 0.1 + 0.65 * chance[..., 4:7]
    mixed: Floats = np.where(chance[..., 6:7] < 0.5, grey, tint)
    return mixed


def paint(
    objects: Objects, recording: NDArray[np.intp], thing: NDArray[np.intp], u: Floats, y: Floats, texture: Floats
) -> tuple[Floats, NDArray[np.uint8]]:
    """Colour (P, 3) and class (P,) of points of objects, `TRANSPARENT` beside a kind's picture.

    u is from 0 at the left to 1 at the right, y the height above the road, `texture` about −1 … 1.
    """
    colour = objects.colour[recording, thing].copy()
    height, look = objects.height[recording, thing], objects.look[recording, thing]
    label = np.full(len(thing), TRANSPARENT, np.uint8)
    kind = objects.kind[thing]
    for number, picture in enumerate(_PICTURES):
        where = np.nonzero(kind == number)[0]
        parts = picture(
            np.abs(u[where] - np.float32(0.5)), u[where], y[where], height[where], look[where], texture[where]
        )
        shade = np.ones((len(where), 3), np.float32)
        own = label[where]
        value = colour[where]
        for mask, part_class, part_colour in parts:
            own[mask] = part_class
            if part_colour is not None:
                value[mask] = np.array(part_colour, np.float32)
        if number == END_WALL:
            value = facade(value, u[where] * 8, y[where], height[where])
        shade *= (1 + np.float32(_ROUGH[number]) * texture[where])[:, None]
        colour[where], label[where] = value * shade, own
    return colour, label


def facade(wall: Floats, along: Floats, y: Floats, top: Floats) -> Floats:
    """Colours (P, 3) of points of a front: its wall's colours (P, 3), with windows, a shop and a cornice."""
    column, row = fraction(along / np.float32(2)), fraction(y / np.float32(2.9))
    window = (np.abs(column - 0.5) < 0.24) & (np.abs(row - 0.55) < 0.28) & (y > 2.9) & (top - y > 0.9)
    frame = (np.abs(column - 0.5) < 0.3) & (np.abs(row - 0.55) < 0.35) & (y > 2.9) & (top - y > 0.9)
    shop = (np.abs(column - 0.5) < 0.4) & (y > 0.4) & (y < 2.3)
    glass = (0.2 + 0.12 * fraction(np.floor(along / 2) * np.float32(0.37) + np.floor(y / np.float32(2.9)) * 0.21))[
        :, None
    ]
    colour: Floats = wall.copy()
    colour[y < 2.7] *= np.float32(0.8)
    colour[top - y < 0.45] *= np.float32(0.7)
    colour[frame] *= np.float32(1.18)
    tint = np.array([0.8, 0.95, 1.2], np.float32)
    colour[window | shop] = (glass * tint)[window | shop].astype(np.float32)
    return colour


def fraction(x: Floats) -> Floats:
    part: Floats = x - np.floor(x)
    return part


# A part of a picture: where it is, its class, and its colour where that is not the object's own. Later parts cover.
Part = tuple[Masks, int, tuple[float, float, float] | None]
_ROUGH = (0.14, 0.7, 0.1, 0.05, 0.08, 0.15, 0.15, 0.1)


def _end_wall(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    return [(a < 2, _BUILDING, None)]


def _crown(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    round_ = (2 * a) ** 2 + ((y / height - 0.65) / 0.35) ** 2 < 0.8 + 0.45 * texture
    return [(((a < 0.05) & (y < 0.6 * height)), _TREE, (0.24, 0.17, 0.11)), (round_, _TREE, None)]


def _lamp(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    arm = np.where(look < 0.5, u, 1 - u) < 0.5
    return [
        (a < 0.07, _POLE, None),
        (arm & (height - y < 0.16), _POLE, None),
        (arm & (a > 0.3) & (height - y < 0.26), _POLE, (0.75, 0.75, 0.7)),
    ]


def _board(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    v = np.abs(y - height + 0.5)
    disc = (2 * a) ** 2 + (2 * v) ** 2
    warning, order, board = look < 0.35, (look >= 0.35) & (look < 0.65), look >= 0.65
    return [
        (a < 0.07, _POLE, (0.42, 0.42, 0.44)),
        (warning & (disc < 1), _SIGN, (0.8, 0.08, 0.08)),
        (warning & (disc < 0.5), _SIGN, (0.92, 0.92, 0.9)),
        (order & (disc < 1), _SIGN, (0.08, 0.22, 0.75)),
        (order & (disc < 0.6) & (a < 0.12), _SIGN, (0.92, 0.92, 0.95)),
        (board & (v < 0.45), _SIGN, (0.9, 0.72, 0.05)),
        (board & (v < 0.25) & (a < 0.35) & (np.abs(v - 0.12) > 0.06), _SIGN, (0.1, 0.1, 0.1)),
    ]


def _car(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    v = y / height
    cabin = a < 0.5 - 0.28 * (v - 0.55)
    lights = (0.75, 0.1, 0.08)
    return [
        ((v < 0.2) & (a > 0.3) & (a < 0.48), _CAR, (0.05, 0.05, 0.05)),
        ((v > 0.12) & (v < 0.6), _CAR, None),
        ((v >= 0.6) & cabin, _CAR, None),
        ((v > 0.62) & (v < 0.92) & (a < 0.42 - 0.28 * (v - 0.55)), _CAR, (0.16, 0.2, 0.25)),
        ((v > 0.4) & (v < 0.54) & (a > 0.36) & (a < 0.48), _CAR, lights),
        ((v > 0.28) & (v < 0.38) & (a < 0.14), _CAR, (0.85, 0.83, 0.7)),
        ((v > 0.1) & (v < 0.2) & (a < 0.46), _CAR, (0.1, 0.1, 0.1)),
    ]


def _person(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    v = y / height
    dark = (0.1, 0.11, 0.17)
    return [
        ((v < 0.5) & (a < 0.28) & (a > 0.06 - 0.06 * v), _PEDESTRIAN, dark),
        ((v >= 0.45) & (v < 0.85) & (a < 0.36 + 0.1 * (0.6 - v)), _PEDESTRIAN, None),
        (((a / 0.2) ** 2 + ((v - 0.92) / 0.08) ** 2 < 1), _PEDESTRIAN, (0.72, 0.52, 0.42)),
        (((a / 0.2) ** 2 + ((v - 0.95) / 0.06) ** 2 < 1) & (v > 0.94), _PEDESTRIAN, (0.15, 0.1, 0.07)),
    ]


def _rider(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    v = y / height
    return [
        ((v < 0.4) & (a < 0.09), _BICYCLIST, (0.05, 0.05, 0.06)),
        ((v > 0.2) & (v < 0.55) & (a > 0.08) & (a < 0.3), _BICYCLIST, (0.14, 0.14, 0.2)),
        ((v > 0.56) & (v < 0.61), _BICYCLIST, (0.1, 0.1, 0.1)),
        ((v >= 0.5) & (v < 0.84) & (a < 0.34), _BICYCLIST, None),
        (((a / 0.18) ** 2 + ((v - 0.91) / 0.09) ** 2 < 1), _BICYCLIST, (0.9, 0.85, 0.2)),
    ]


def _bin(a: Floats, u: Floats, y: Floats, height: Floats, look: Floats, texture: Floats) -> list[Part]:
    return [(a < 0.5, _VOID, None), (y > 0.85 * height, _VOID, (0.08, 0.08, 0.08))]


_PICTURES = (_end_wall, _crown, _lamp, _board, _car, _person, _rider, _bin)
