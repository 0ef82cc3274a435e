"""Energies of exchange and correlation per volume, from densities of both spins and their gradients.

Named after what they are in the literature. All numbers are in atomic units.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


Field = Float[Array, " points"]

# Where there is less than this, there is nothing.
SPARSE = 1e-12
# f''(0) of f(z) = ((1 + z)^(4/3) + (1 - z)^(4/3) - 2) / (2^(4/3) - 2), which interpolates between spin polarizations.
_F2 = 4 / (9 * (2 ** (1 / 3) - 1))
_THIRD = 1 / 3


def slater(up: Field, down: Field) -> Field:
    """Exchange of the uniform gas."""
    return -1.5 * (3 / (4 * math.pi)) ** _THIRD * (up ** (4 / 3) + down ** (4 / 3))


def _polarization(up: Field, down: Field) -> tuple[Field, Field, Field]:
    """The total density, the radius of an electron, and the spin polarization."""
    total = up + down
    radius = (3 / (4 * math.pi * total)) ** _THIRD
    return total, radius, jnp.clip((up - down) / total, -1 + 1e-14, 1 - 1e-14)


def _interpolation(zeta: Field) -> Field:
    return ((1 + zeta) ** (4 / 3) + (1 - zeta) ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)


def _vwn_fit(x: Field, a: float, x0: float, b: float, c: float) -> Field:
    q = math.sqrt(4 * c - b * b)
    whole, at_zero = x * x + b * x + c, x0 * x0 + b * x0 + c
    angle = jnp.arctan(q / (2 * x + b))
    first = jnp.log(x * x / whole) + 2 * b / q * angle
    second = jnp.log((x - x0) ** 2 / whole) + 2 * (b + 2 * x0) / q * angle
    return a * (first - b * x0 / at_zero * second)


def vwn5(up: Field, down: Field) -> Field:
    """Correlation of the uniform gas, fit V of Vosko, Wilk and Nusair."""
    total, radius, zeta = _polarization(up, down)
    x = jnp.sqrt(radius)
    paired = _vwn_fit(x, 0.0310907, -0.10498, 3.72744, 12.9352)
    aligned = _vwn_fit(x, 0.01554535, -0.32500, 7.06042, 18.0578)
    stiffness = _vwn_fit(x, -1 / (6 * math.pi**2), -0.0047584, 1.13107, 13.0045)
    f, fourth = _interpolation(zeta), zeta**4
    return total * (paired + stiffness * f / _F2 * (1 - fourth) + (aligned - paired) * f * fourth)


def vwn_rpa(up: Field, down: Field) -> Field:
    """The same, fitted to the random phase approximation."""
    total, radius, zeta = _polarization(up, down)
    x = jnp.sqrt(radius)
    paired = _vwn_fit(x, 0.0310907, -0.409286, 13.0720, 42.7198)
    aligned = _vwn_fit(x, 0.01554535, -0.743294, 20.1231, 101.578)
    return total * (paired + (aligned - paired) * _interpolation(zeta))


def _pw_fit(radius: Field, a: float, alpha: float, b1: float, b2: float, b3: float, b4: float) -> Field:
    root = jnp.sqrt(radius)
    below = 2 * a * root * (b1 + root * (b2 + root * (b3 + root * b4)))
    return -2 * a * (1 + alpha * radius) * jnp.log1p(1 / below)


def _pw92(radius: Field, zeta: Field) -> Field:
    """Correlation per electron of the uniform gas, after Perdew and Wang."""
    paired = _pw_fit(radius, 0.0310907, 0.21370, 7.5957, 3.5876, 1.6382, 0.49294)
    aligned = _pw_fit(radius, 0.01554535, 0.20548, 14.1189, 6.1977, 3.3662, 0.62517)
    stiffness = -_pw_fit(radius, 0.0168869, 0.11125, 10.357, 3.6231, 0.88026, 0.49671)
    f, fourth = _interpolation(zeta), zeta**4
    return paired + stiffness * f / _F2 * (1 - fourth) + (aligned - paired) * f * fourth


def pbe_exchange(up: Field, down: Field, up_slope: Field, down_slope: Field) -> Field:
    """Exchange of Perdew, Burke and Ernzerhof; slopes are squares of gradients."""
    kappa, mu = 0.804, 0.2195149727645171

    def one(density: Field, slope: Field) -> Field:
        whole = 2 * density
        momentum = (3 * math.pi**2 * whole) ** _THIRD
        reduced = 4 * slope / (2 * momentum * whole) ** 2
        factor = 1 + kappa - kappa / (1 + mu * reduced / kappa)
        return -0.5 * 0.75 * (3 / math.pi) ** _THIRD * whole ** (4 / 3) * factor

    return one(up, up_slope) + one(down, down_slope)


def pbe_correlation(up: Field, down: Field, slope: Field) -> Field:
    """Correlation of Perdew, Burke and Ernzerhof; `slope` is the square of the gradient of the total density."""
    beta, gamma = 0.06672455060314922, (1 - math.log(2)) / math.pi**2
    total, radius, zeta = _polarization(up, down)
    uniform = _pw92(radius, zeta)
    phi = 0.5 * ((1 + zeta) ** (2 / 3) + (1 - zeta) ** (2 / 3))
    screening = 4 * (3 * math.pi**2 * total) ** _THIRD / math.pi
    t = slope / (4 * phi**2 * screening * total**2)
    a = beta / gamma / jnp.expm1(-uniform / (gamma * phi**3))
    inside = t * (1 + a * t) / (1 + a * t + (a * t) ** 2)
    return total * (uniform + gamma * phi**3 * jnp.log1p(beta / gamma * inside))


def b88(up: Field, down: Field, up_slope: Field, down_slope: Field) -> Field:
    """Exchange of Becke; slopes are squares of gradients."""
    beta = 0.0042

    def one(density: Field, slope: Field) -> Field:
        power = density ** (4 / 3)
        # Its derivative at zero is infinite, but nothing depends on it there to first order.
        x = jnp.sqrt(jnp.maximum(slope, 1e-40)) / power
        return -beta * power * x**2 / (1 + 6 * beta * x * jnp.arcsinh(x))

    return slater(up, down) + one(up, up_slope) + one(down, down_slope)


def lyp(up: Field, down: Field, up_slope: Field, down_slope: Field, slope: Field) -> Field:
    """Correlation of Lee, Yang and Parr, as rewritten by Miehlich and others; slopes are squares of gradients."""
    a, b, c, d = 0.04918, 0.132, 0.2533, 0.349
    fermi = 0.3 * (3 * math.pi**2) ** (2 / 3)
    total = up + down
    small = total**-_THIRD
    below = 1 / (1 + d * small)
    omega = jnp.exp(-c * small) * below * total ** (-11 / 3)
    delta = c * small + d * small * below
    both = up * down
    kinetic = 2 ** (11 / 3) * fermi * (up ** (8 / 3) + down ** (8 / 3))
    inner = kinetic + (47 - 7 * delta) / 18 * slope - (45 - delta) / 18 * (up_slope + down_slope)
    inner = inner - (delta - 11) / 9 * (up * up_slope + down * down_slope) / total
    square = 2 / 3 * total**2
    rest = -square * slope + (square - up**2) * down_slope + (square - down**2) * up_slope
    return -4 * a * below * both / total - a * b * omega * (both * inner + rest)
