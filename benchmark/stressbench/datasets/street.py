"""A renderer of street scenes: a pinhole camera drives along a straight street, and each pixel's surface is known.

Lengths are in metres; x is to the right of the street's middle, y up from the road, z along the street. All arithmetic
is that which IEEE 754 rounds exactly (no exp, no sin), on arrays, so that every machine renders the same bytes.

Three kinds of surface are told apart for all pixels of all frames at once: the road with what lies beside it, the
fronts of the buildings, and trees behind gaps. Everything that stands in the street faces the camera; the pixels of
all these rectangles are one list, painted from the farthest to the nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stressbench.datasets.street_objects import TRANSPARENT, Objects, facade, fraction, paint, place

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(CLASSES))
VOID = 255

SIZE = (96, 128)
FOCAL = 96.0  # pixels
EYE = 1.6  # height of the camera
FAR = 60.0  # no depth from here on
KERB, FRONT, BEHIND = 4.2, 7.5, 15.5  # |x| of the road's edge, of the buildings' fronts, and of the trees behind gaps
PLOT, PLOTS = 8.0, 14  # length of a plot of land, and how many there are on each side

Floats = NDArray[np.floating[Any]]
# Uniform numbers in (0, 1) for each recording, (R, *shape), from a stream of this number.
Draw = Callable[[tuple[int, ...], int], Floats]


@dataclass(frozen=True)
class Frames:
    """Rendered frames, one recording after the other."""

    pixels: NDArray[np.uint8]
    """(N, 3, H, W)."""
    classes: NDArray[np.uint8]
    """(N, H, W): indices of `CLASSES`, or `VOID`."""
    depth: Floats
    """(N, H, W): z relative to the camera, NaN where it is not below `FAR` or there is no surface."""


@dataclass(frozen=True)
class Camera:
    """Where the camera is in each frame, (N,) each."""

    recording: NDArray[np.intp]
    frame: Floats
    x: Floats
    z: Floats
    column: Floats
    """The column that it drives towards; the direction swings a little."""
    row: Floats
    """The row of the horizon."""


def render(draw: Draw, recordings: int, frames: int) -> Frames:
    camera = _drive(draw, recordings, frames)
    noise = _noise(draw)
    # What each recording looks like: its light, its haze and the colour of its sky.
    look = draw((6,), 1)
    light = 0.75 + 0.4 * look[:, 0]
    sky = np.stack([0.55 + 0.3 * look[:, 1], 0.66 + 0.22 * look[:, 1], 0.86 - 0.06 * look[:, 1]], axis=1)
    haze = 60 + 200 * look[:, 2]  # at this distance half of the light is the haze's
    kind, height, walls = _plots(draw)
    pick = camera.recording

    colour, classes, depth = _surfaces(camera, noise, kind, height, walls, light, sky, look[:, 3])
    objects = place(draw, _lane(draw), (kind, height, walls), (KERB, FRONT, BEHIND), PLOT)
    _paint_objects(objects, camera, noise, light, colour, classes, depth)

    endless = np.isinf(depth)
    finite = np.where(endless, 0, depth)
    veil = finite / (finite + haze[pick, None, None])
    veil[endless & (classes != SKY)] = 0.75
    colour += (sky[pick, None, None, :] - colour) * veil[..., None]
    _own_car(colour, classes, depth)
    depth[depth >= FAR] = np.nan
    return Frames(_exposed(colour, draw, frames), classes, depth)


def _drive(draw: Draw, recordings: int, frames: int) -> Camera:
    chance = draw((6,), 0)
    recording = np.repeat(np.arange(recordings), frames)
    frame = np.tile(np.arange(frames, dtype=np.float32), recordings)
    own = chance[recording]
    speed = 0.3 + 0.2 * own[:, 0]  # metres a frame: 32 to 54 km/h at 30 frames a second
    swing = _triangle(frame / 23 + own[:, 1])
    return Camera(
        recording,
        frame,
        x=np.float32(1.5) * _lane(draw)[recording] + 0.2 * _triangle(frame / 31 + own[:, 3]),
        z=speed * frame,
        column=SIZE[1] / 2 + 5 * swing + 10 * (own[:, 4] - 0.5),
        row=40 + 6 * (own[:, 5] - 0.5) + 0.8 * _triangle(frame / 5 + own[:, 1]),
    )


def _lane(draw: Draw) -> Floats:
    """The side that a recording's camera drives on, −1 or 1."""
    lane: Floats = np.sign(draw((6,), 0)[:, 2] - np.float32(0.4))
    return lane


def _triangle(x: Floats) -> Floats:
    """A wave of period 1 between −1 and 1."""
    wave: Floats = 4 * np.abs(x - np.floor(x) - np.float32(0.5)) - 1
    return wave


def _noise(draw: Draw) -> Floats:
    """A texture (256, 256) in about [−1, 1] that repeats: random values at four scales, smoothed."""
    values = draw((256, 256), 2)[0] - np.float32(0.5)
    total: Floats = np.zeros_like(values)
    for step in (1, 4, 16, 32):
        coarse = np.repeat(np.repeat(values[: 256 // step, : 256 // step], step, 0), step, 1)
        for axis in (0, 1):
            for shift in (1, step // 2 + 1):
                coarse = (coarse + np.roll(coarse, shift, axis)) * np.float32(0.5)
        total += coarse
    return total


def _plots(draw: Draw) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """For each recording, side and plot: whether it has a building, its height, and its wall's colour."""
    chance = draw((2, PLOTS, 4), 3)
    built = chance[..., 0] < 0.68
    height = np.where(built, 5 + 11 * chance[..., 1], 1.3 + 0.5 * chance[..., 1]).astype(np.float32)
    tone = 0.3 + 0.45 * chance[..., 2]
    warm = 0.22 * chance[..., 3]
    walls = np.stack([tone + warm, tone + 0.3 * warm, tone - 0.5 * warm], axis=-1)
    return built, height, walls


def _surfaces(
    camera: Camera,
    noise: Floats,
    built: NDArray[np.bool_],
    height: Floats,
    walls: Floats,
    light: Floats,
    sky: Floats,
    sun: Floats,
) -> tuple[Floats, NDArray[np.uint8], Floats]:
    """Colour (N, H, W, 3), class and depth of all that does not stand in the street."""
    rows, columns = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in SIZE)
    down = ((rows - camera.row[:, None]) / FOCAL)[:, :, None]  # (N, H, 1)
    right = ((columns - camera.column[:, None]) / FOCAL)[:, None, :]  # (N, 1, W)
    side = np.where(right > 0, np.float32(1), np.float32(-1))
    which = (right > 0).astype(np.intp)
    pick = camera.recording[:, None, None]
    x0, z0 = camera.x[:, None, None], camera.z[:, None, None]

    def at(distance: float) -> tuple[Floats, Floats]:
        """Depth and height at which each pixel's ray meets the planes |x| = distance."""
        far = (side * np.float32(distance) - x0) / np.where(right == 0, np.float32(1e-6), right)
        return far, EYE - down * far

    front, front_y = at(FRONT)
    behind, behind_y = at(BEHIND)
    ground = np.where(down > 0, EYE / np.where(down > 0, down, 1), np.float32(np.inf))
    ground = np.minimum(ground, np.float32(1e4))

    plot = np.clip(np.floor((front + z0) / np.float32(PLOT)), 0, PLOTS - 1).astype(np.intp)
    top = height[pick, which, plot]
    is_built = built[pick, which, plot]
    on_front = (front_y >= 0) & (front_y < top) & (front < FAR)
    slats = (front + z0) * np.float32(2.2)
    # A fence is seen through between its slats, but for its two rails; its mask is that of its outline.
    on_ground = ~on_front & (down > 0) & ((ground < behind) | (behind_y < 0))
    grain = _sample(noise, behind + z0, behind_y, 3)
    on_trees = ~on_front & ~on_ground & (behind_y < 5 + 3 * grain) & (behind < 2 * FAR)
    skyline = noise[(17 * camera.recording)[:, None] % 256, (columns.astype(np.intp) + 3)[None]][:, None, :]
    on_skyline = ~on_front & ~on_ground & ~on_trees & (-down * FOCAL < 3 + 3 * skyline)

    depth = np.select([on_front, on_ground, on_trees], [front, ground, behind], np.float32(np.inf)).astype(np.float32)
    x = np.where(on_ground, x0 + right * ground, side * np.float32(FRONT))
    across, z = np.abs(x), z0 + np.where(np.isfinite(depth), depth, 0)
    fade = np.minimum(np.float32(1), 8 / np.maximum(depth, np.float32(1)))  # far textures are averaged by the eye

    on_road = on_ground & (across < KERB)
    on_pavement = on_ground & (across >= KERB) & (across < FRONT)
    classes = np.select(
        [on_front & is_built, on_front, on_road, on_pavement, on_ground | on_trees | on_skyline],
        [BUILDING, FENCE, ROAD, PAVEMENT, TREE],
        SKY,
    ).astype(np.uint8)

    texture = _sample(noise, np.where(on_ground, x, front_y) * 12, z * 12, 0) * fade
    shape = classes.shape
    colour = np.empty((*shape, 3), np.float32)

    # The sky is paler towards the horizon, and has clouds.
    clouds = noise[
        np.clip(rows * 2, 0, 255).astype(np.intp)[None, :, None],
        (columns.astype(np.intp)[None, None, :] + 31 * pick) % 256,
    ]
    zenith = np.clip(-down * np.float32(1.6), 0, 1)
    for channel, darker in enumerate((0.3, 0.2, 0.04)):
        base = sky[pick, channel] - np.float32(darker) * zenith + np.float32(0.1) * np.maximum(clouds, 0) * zenith
        colour[..., channel] = base

    # Half of the street is in the shadow of the buildings on the sun's side.
    sunny = np.sign(sun - np.float32(0.5))[pick]
    casts = built[pick, (sunny > 0).astype(np.intp), np.clip(np.floor(z / PLOT), 0, PLOTS - 1).astype(np.intp)]
    shaded = on_ground & casts & (x * sunny > FRONT - 1.2 - 6 * np.abs(sun - np.float32(0.5))[pick] * 2)
    lit = light[pick] * np.where(shaded, np.float32(0.62), np.float32(1))
    lit = lit * np.where(on_front & (side == sunny), np.float32(0.72), np.float32(1))

    def put(where: NDArray[np.bool_], value: tuple[float, float, float], rough: float) -> None:
        shade = (1 + np.float32(rough) * texture[where]) * lit[where]
        for channel in range(3):
            colour[where, channel] = value[channel] * shade

    marked = (np.abs(x) < 0.09) & (fraction(z / 4) < 0.5) | (np.abs(across - KERB + 0.35) < 0.07)
    kerb = on_pavement & (across < KERB + 0.22)
    put(on_road, (0.33, 0.33, 0.35), 0.22)
    put(on_road & marked, (0.85, 0.85, 0.82), 0.1)
    put(on_pavement, (0.56, 0.53, 0.5), 0.15)
    joints = on_pavement & ((fraction(z / 1.2) < 0.06) | (fraction(across / 1.2) < 0.06)) & (depth < 14)
    put(joints, (0.45, 0.43, 0.4), 0.1)
    put(kerb, (0.68, 0.67, 0.65), 0.1)
    put(on_ground & (across >= FRONT), (0.3, 0.42, 0.16), 0.5)
    leaves = 1 + np.float32(0.5) * grain * np.minimum(np.float32(1), 20 / np.maximum(behind, np.float32(1)))
    for channel, value in enumerate((0.2, 0.33, 0.13)):
        colour[..., channel] = np.where(on_trees, value * leaves * lit, colour[..., channel])
    put(on_skyline, (0.25, 0.34, 0.24), 0)

    # Fronts: plaster, windows in rows and columns, a darker ground floor; fences are painted slats.
    wall = on_front & is_built
    chosen = tuple(np.broadcast_to(index, shape)[wall] for index in (pick, which, plot))
    painted = facade(walls[chosen], z[wall], front_y[wall], height[chosen])
    colour[wall] = painted * ((1 + np.float32(0.14) * texture[wall]) * lit[wall])[:, None]
    fence = on_front & ~is_built
    gap = (fraction(slats) < 0.35) & (np.abs(front_y - 0.35) > 0.1) & (np.abs(front_y - top + 0.3) > 0.1)
    put(fence & ~gap, (0.5, 0.34, 0.2), 0.15)
    put(fence & gap, (0.24, 0.2, 0.13), 0.2)
    return colour, classes, depth


def _sample(noise: Floats, a: Floats, b: Floats, scale: int) -> Floats:
    """The texture at points (a, b), in its cells times 2^scale to a metre."""
    rows = np.floor(np.clip(a, -1e4, 1e4) * (1 << scale)).astype(np.int32) & 255
    columns = np.floor(np.clip(b, -1e4, 1e4) * (1 << scale)).astype(np.int32) & 255
    found: Floats = noise[rows, columns]
    return found


def _paint_objects(
    objects: Objects,
    camera: Camera,
    noise: Floats,
    light: Floats,
    colour: Floats,
    classes: NDArray[np.uint8],
    depth: Floats,
) -> None:
    """Paint the objects that each frame sees over its surfaces, in place."""
    pick = camera.recording[:, None]
    z = objects.z[pick[:, 0]] + objects.speed[pick[:, 0]] * camera.frame[:, None] - camera.z[:, None]
    x = objects.x[pick[:, 0]] - camera.x[:, None]
    wide, high = objects.width[pick[:, 0]], objects.height[pick[:, 0]]
    seen = (z > 1.5) & (z < FAR)
    scale = FOCAL / np.where(seen, z, 1)
    left = camera.column[:, None] + (x - wide / 2) * scale
    top = camera.row[:, None] + (EYE - high) * scale
    bottom = camera.row[:, None] + EYE * scale
    first = np.stack([np.ceil(top - 0.5), np.ceil(left - 0.5)])
    last = np.stack([np.ceil(bottom - 0.5), np.ceil(left + wide * scale - 0.5)])
    limits = np.array(SIZE, np.float32)[:, None, None]
    first, last = (np.clip(edge, 0, limits).astype(np.intp) for edge in (first, last))
    extent = np.maximum(last - first, 0) * seen
    frame, thing = np.nonzero(extent[0] * extent[1])
    # The farthest first: of values that are assigned to one place, the last stays.
    order = np.argsort(-z[frame, thing], kind="stable")
    frame, thing = frame[order], thing[order]
    count = (extent[0] * extent[1])[frame, thing]
    owner = np.repeat(np.arange(len(count)), count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    f, k = frame[owner], thing[owner]
    row = first[0][f, k] + offset // extent[1][f, k]
    column = first[1][f, k] + offset % extent[1][f, k]
    far = z[f, k]
    u = ((column + np.float32(0.5) - left[f, k]) / (wide * scale)[f, k]).astype(np.float32)
    y = (EYE - (row + np.float32(0.5) - camera.row[f]) / FOCAL * far).astype(np.float32)
    recording = camera.recording[f]
    texture = _sample(noise, u * 30 + 7 * k.astype(np.float32), y * 10, 0)
    value, label = paint(objects, recording, k, u, y, texture)
    visible = (label != TRANSPARENT) & (far <= depth[f, row, column])
    place_ = (f[visible], row[visible], column[visible])
    colour[place_] = value[visible] * (light[recording[visible]] * 0.95)[:, None]
    classes[place_] = label[visible]
    depth[place_] = far[visible]


def _own_car(colour: Floats, classes: NDArray[np.uint8], depth: Floats) -> None:
    """The bonnet of the camera's own car, which is void, at the bottom of each frame."""
    rows, columns = np.arange(SIZE[0])[:, None], np.arange(SIZE[1])[None]
    bonnet = rows >= 91 + (columns - 64) ** 2 / np.float32(900)
    colour[:, bonnet] = np.array([0.12, 0.13, 0.16], np.float32) + 0.004 * (rows - 91 + 0 * columns)[bonnet][:, None]
    classes[:, bonnet] = VOID
    depth[:, bonnet] = np.nan


def _exposed(colour: Floats, draw: Draw, frames: int) -> NDArray[np.uint8]:
    """Colours as a camera stores them: a little blurred by its optics, with noise, as bytes (N, 3, H, W)."""
    image = np.ascontiguousarray(colour.transpose(0, 3, 1, 2))
    for axis in (2, 3):
        padded = np.pad(image, [(0, 0)] * axis + [(1, 1)] + [(0, 0)] * (3 - axis), mode="edge")
        ends = [np.take(padded, np.arange(image.shape[axis]) + shift, axis) for shift in (0, 2)]
        image = np.float32(0.7) * image + np.float32(0.15) * (ends[0] + ends[1])
    grain = draw((frames, 3, *SIZE), 4).reshape(image.shape)
    exposed: NDArray[np.uint8] = np.clip(image * 255 + 10 * (grain - np.float32(0.5)), 0, 255).round().astype(np.uint8)
    return exposed
