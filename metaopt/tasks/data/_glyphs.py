"""Hand-drawn letters of made-up alphabets."""

import math
from itertools import combinations, takewhile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._common import check_at_least, check_choice, rows
from ._classes import AbstractClasses, ClassSplit


# A letter is any three of the six strokes of its alphabet.
_INVENTORY, _STROKES = 6, 3
_LETTERS = math.comb(_INVENTORY, _STROKES)
_ALPHABETS: dict[str, int] = {"train": 20, "validation": 5, "held_out": 10}
# Places per stroke where ink is put down.
_POINTS = 24
# A letter fills the square from -1 to 1 before it is deformed; images reach so far.
_REACH = 1.3


class Glyphs(AbstractClasses):
    r"""Letters of made-up alphabets, twenty in each.

    An alphabet has six strokes, cubic Bezier curves; a letter is any three of them, so that letters of an alphabet are
    alike. An example is drawn by an unsteady hand: the control points move by $N(0, \sigma^2)$, and the whole letter
    is turned, sheared, stretched, scaled and shifted a little; the width $s$ of the pen varies, too. Ink is laid down
    along the curves $c$,

    $$I(x) = 1 - \exp\!\left(-\frac{1.5}{\sqrt{2 \pi} s} \int e^{-|x - c(l)|^2 / 2 s^2} \, \mathrm{d}l\right),$$

    so that edges are smooth. Nothing is stored: a class is a number, an example a random key. The 400 letters of
    `"train"`, the 100 of `"validation"` and the 200 of `"held_out"` come from different alphabets; training sees each
    alphabet in four orientations, as different ones, as is the custom with Omniglot.

    **Arguments:**

    - `split`: which classes.
    - `size`: the side of the images.
    - `jitter`: $\sigma$, where a letter is two units wide.
    - `deformation`: the standard deviation of the angle in radians, of the shear, of the logarithms of scale, stretch
        and width of the pen, and twice that of the shift.
    - `rotations`: whether letters turned by 90, 180 and 270 degrees are classes, too; by default in training only.
    - `seed`: of the alphabets.

    **Raises:**

    - `ValueError`: if there is no such split, or a number is out of range.

    ??? cite "Reference"

        ```bibtex
        @article{lake2015human,
            title={Human-level concept learning through probabilistic program induction},
            author={Lake, Brenden M. and Salakhutdinov, Ruslan and Tenenbaum, Joshua B.},
            journal={Science},
            volume={350},
            number={6266},
            pages={1332--1338},
            year={2015},
        }
        ```
    """

    split: ClassSplit = eqx.field(static=True, default="train")
    size: int = eqx.field(static=True, default=16)
    jitter: float = eqx.field(static=True, default=0.1)
    deformation: float = eqx.field(static=True, default=0.2)
    rotations: bool | None = eqx.field(static=True, default=None)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        check_choice("split", self.split, ClassSplit)
        check_at_least("size", self.size, 4)
        check_at_least("jitter", self.jitter, 0)
        check_at_least("deformation", self.deformation, 0)

    @property
    def count(self) -> int:
        return _ALPHABETS[self.split] * _LETTERS * self._turns

    @property
    def group(self) -> int:
        return _LETTERS

    @property
    def inputs(self) -> int:
        return self.size**2

    @property
    def side(self) -> int:
        return self.size

    @property
    def fewest(self) -> None:
        return None

    def draw(
        self, numbers: Int[Array, " ways"], examples: int, *, key: PRNGKeyArray
    ) -> Float[Array, "ways {examples} inputs"]:
        keys = jr.split(key, numbers.shape[0])
        return jax.vmap(lambda number, key: self._examples(number, examples, key=key))(numbers, keys)

    @property
    def _turns(self) -> int:
        turned = self.split == "train" if self.rotations is None else self.rotations
        return 4 if turned else 1

    def _examples(
        self, number: Int[Array, ""], examples: int, *, key: PRNGKeyArray
    ) -> Float[Array, "{examples} inputs"]:
        turn, place = jnp.divmod(number, _ALPHABETS[self.split] * _LETTERS)
        before = sum(_ALPHABETS[name] for name in takewhile(lambda name: name != self.split, _ALPHABETS))
        alphabet, letter = jnp.divmod(place, _LETTERS)
        shape = _letter(jr.fold_in(jr.key(self.seed), before + alphabet), letter)
        shape = shape @ _rotation((math.pi / 2) * turn.astype(shape.dtype))
        # One draw for all: every random draw is a program of its own to compile.
        drawn = jr.normal(key, (examples, shape.size + 7))
        moved = shape[None] + self.jitter * drawn[:, :-7].reshape(examples, *shape.shape)
        angle, shear, stretch, size, *shift, pen = self.deformation * jnp.moveaxis(drawn[:, -7:], 1, 0)
        maps = jax.vmap(_affine)(angle, shear, stretch, size)
        moved = jnp.einsum("nsij,njk->nsik", moved, maps) + 0.5 * jnp.stack(shift, axis=1)[:, None, None]
        widths = 0.45 * 2 * _REACH / self.size * jnp.exp(pen)
        return jax.vmap(lambda shape, width: _ink(shape, width, self.size).ravel())(moved, widths)


def _rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cosine, sine]), jnp.stack([-sine, cosine])])


def _affine(
    angle: Float[Array, ""], shear: Float[Array, ""], stretch: Float[Array, ""], size: Float[Array, ""]
) -> Float[Array, "2 2"]:
    one = jnp.ones_like(shear)
    sheared = jnp.stack([jnp.stack([one, shear]), jnp.stack([0 * one, one])])
    return sheared * jnp.exp(jnp.stack([size + stretch, size - stretch]))[None] @ _rotation(angle)


def _letter(key: PRNGKeyArray, letter: Int[Array, ""]) -> Float[Array, "strokes 4 2"]:
    """The control points of a letter of an alphabet, centered and as large as it can be."""
    ends_key, bends_key = jr.split(key)
    ends = jr.uniform(ends_key, (_INVENTORY, 2, 1, 2), minval=-1.0, maxval=1.0)
    thirds = jnp.linspace(0.0, 1.0, 4)[None, :, None]
    bends = 0.5 * jr.normal(bends_key, (_INVENTORY, 2, 2))
    strokes = ends[:, 0] * (1 - thirds) + ends[:, 1] * thirds
    strokes = strokes + jnp.pad(bends, ((0, 0), (1, 1), (0, 0)))
    shape = rows(
        strokes, rows(jnp.asarray(list(combinations(range(_INVENTORY), _STROKES)), jnp.int32), letter[None])[0]
    )
    places = _curve(shape, jnp.linspace(0.0, 1.0, _POINTS))[0]
    low, high = jnp.min(places, axis=(0, 1)), jnp.max(places, axis=(0, 1))
    return (shape - 0.5 * (low + high)[None, None]) * (2 / jnp.max(high - low))


def _curve(
    shape: Float[Array, "strokes 4 2"], times: Float[Array, " times"]
) -> tuple[Float[Array, "strokes times 2"], Float[Array, "strokes times"]]:
    """Places on Bezier curves, and how fast they are passed."""
    t, s = times, 1 - times
    bernstein = jnp.stack([s**3, 3 * s**2 * t, 3 * s * t**2, t**3])
    slopes = jnp.stack([s**2, 2 * s * t, t**2]) * 3
    places = jnp.einsum("sij,it->stj", shape, bernstein)
    velocities = jnp.einsum("sij,it->stj", shape[:, 1:] - shape[:, :-1], slopes)
    return places, jnp.sqrt(jnp.sum(jnp.square(velocities), axis=-1))


def _ink(shape: Float[Array, "strokes 4 2"], width: Float[Array, ""], size: int) -> Float[Array, "{size} {size}"]:
    places, speeds = _curve(shape, jnp.arange(0.5, _POINTS) / _POINTS)
    weights = speeds.ravel() / _POINTS
    places = places.reshape(-1, 2)
    centers = (jnp.arange(0.5, size) * (2 / size) - 1) * _REACH
    # The bell is a product of one across and one down: an image is a product of two thin matrices.
    across, down = (
        jnp.exp(-0.5 * jnp.square((centers[:, None] - x[None]) / width)) for x in (places[:, 0], places[:, 1])
    )
    return 1 - jnp.exp(-1.5 / (math.sqrt(2 * math.pi) * width) * ((down * weights[None]) @ across.T))
