"""Solutions of the problems of `pinn-accuracy`: closed forms, quadrature, and small solvers."""

import functools as ft
from typing import Any

import numpy as np
from jaxtyping import Float


Points = Float[np.ndarray, "n 2"]
Values = Float[np.ndarray, "n m"]


def poisson(x: Points) -> Values:
    return np.prod(np.sin(np.pi * x), axis=1)[:, None]


def helmholtz(x: Points) -> Values:
    return np.prod(np.sin(4 * np.pi * x), axis=1)[:, None]


def heat(x: Points) -> Values:
    return (np.exp(-0.4 * np.pi**2 * x[:, 1]) * np.sin(np.pi * x[:, 0]))[:, None]


def wave(x: Points) -> Values:
    s, t = x[:, 0], x[:, 1]
    first = np.sin(np.pi * s) * np.cos(2 * np.pi * t)
    return (first + 0.5 * np.sin(4 * np.pi * s) * np.cos(8 * np.pi * t))[:, None]


def kovasznay(x: Any, numpy: Any = np) -> Any:
    """Kovasznay's flow behind a grid, Reynolds number 20: velocities and pressure."""
    rate = 10 - np.sqrt(100 + 4 * np.pi**2)
    growth, angle = numpy.exp(rate * x[:, 0]), 2 * np.pi * x[:, 1]
    u = 1 - growth * numpy.cos(angle)
    v = rate / (2 * np.pi) * growth * numpy.sin(angle)
    return numpy.stack([u, v, 0.5 * (1 - growth**2)], axis=1)


def _l_basis(x: Points) -> Float[np.ndarray, "n k"]:
    """Harmonic functions: those of the re-entrant corner, polynomials, and one that goes with each corner."""
    r, theta = np.hypot(x[:, 0], x[:, 1]), np.mod(np.arctan2(x[:, 1], x[:, 0]), 2 * np.pi)
    k = np.arange(1, 41) * 2 / 3
    singular = r[:, None] ** k * np.sin(k * theta[:, None])
    n = np.arange(0, 21)
    z = (x[:, 0] + 1j * x[:, 1])[:, None] ** n
    resonant = np.stack([_resonant(x, corner, cut) for corner, cut in _CUTS], axis=1)
    return np.concatenate([singular, z.real, z.imag[:, 1:], resonant], axis=1)


# Each corner, and a direction that leads out of the domain there.
_CUTS = [((-1, -1), 225), ((0, -1), -45), ((0, 0), -45), ((1, 0), -45), ((1, 1), 45), ((-1, 1), 135)]


def _resonant(x: Points, corner: tuple[int, int], cut: float) -> Float[np.ndarray, " n"]:
    """Im((z - c)^2 log(z - c)): what a constant right-hand side adds at every corner."""
    z = x[:, 0] - corner[0] + 1j * (x[:, 1] - corner[1])
    turn = np.exp(1j * np.deg2rad(cut - 180))
    safe = np.where(z == 0, 1, z / turn)
    return np.imag(z**2 * (np.log(safe) + np.log(turn)))


@ft.cache
def _l_coefficients() -> Float[np.ndarray, " k"]:
    corners = np.array([(-1, -1), (0, -1), (0, 0), (1, 0), (1, 1), (-1, 1)], float)
    t = (1 - np.cos(np.linspace(0, np.pi, 200))) / 2
    edges = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    x = np.concatenate([a + t[:, None] * (b - a) for a, b in edges])
    # The angle of the edge x > 0, y = 0 is zero and not a full turn.
    x[np.abs(x) < 1e-15] = 0.0
    return np.linalg.lstsq(_l_basis(x), np.sum(x**2, axis=1) / 4, rcond=1e-13)[0]


def poisson_l(x: Points) -> Values:
    """$-\\Delta u = 1$ in the L-shape: harmonic functions make $-|x|^2 / 4$ vanish on the boundary."""
    return (_l_basis(x) @ _l_coefficients() - np.sum(x**2, axis=1) / 4)[:, None]


def burgers(x: Points) -> Values:
    """The transformation of Cole and Hopf, by the trapezoidal rule."""
    viscosity = 0.01 / np.pi
    s, t = x[:, 0], np.maximum(x[:, 1], 1e-12)
    z = np.linspace(-9, 9, 2001)
    y = s[:, None] - 2 * np.sqrt(viscosity * t)[:, None] * z
    exponent = -np.cos(np.pi * y) / (2 * np.pi * viscosity) - z**2
    weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return -(np.sum(np.sin(np.pi * y) * weight, axis=1) / np.sum(weight, axis=1))[:, None]


@ft.cache
def _allen_cahn_solution() -> Any:
    from scipy.integrate import solve_ivp
    from scipy.interpolate import BarycentricInterpolator

    n = 400
    j = np.arange(n + 1)
    x = np.cos(np.pi * j / n)
    c = np.where((j == 0) | (j == n), 2.0, 1.0) * (-1.0) ** j
    d = np.outer(c, 1 / c) / (x[:, None] - x[None] + np.eye(n + 1))
    d -= np.diag(d.sum(axis=1))
    d2 = d @ d

    def rate(_: float, u: np.ndarray) -> np.ndarray:
        new = 0.001 * (d2 @ u) + 5 * (u - u**3)
        new[[0, -1]] = 0
        return new

    start = x**2 * np.cos(np.pi * x)
    times = np.linspace(0, 1, 101)
    solution = solve_ivp(rate, (0, 1), start, "BDF", times, rtol=1e-9, atol=1e-10)
    return x, times, solution.y, BarycentricInterpolator


def allen_cahn(x: Points) -> Values:
    """Chebyshev collocation in space, an implicit method in time; read at hundredths of the time."""
    nodes, times, values, interpolator = _allen_cahn_solution()
    at = np.rint(x[:, 1] * 100).astype(int)
    if not np.allclose(times[at], x[:, 1]):
        raise ValueError("The reference is known at hundredths of the time only.")
    out = np.empty(x.shape[0])
    for k in np.unique(at):
        out[at == k] = interpolator(nodes, values[:, k])(x[at == k, 0])
    return out[:, None]
