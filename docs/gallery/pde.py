"""Poisson's equation on a square with a hole, solved by a network and Gauss-Newton, and its error at each point."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _style import axes, save
from matplotlib.colors import LogNorm

import metaopt
from metaopt import physics


jax.config.update("jax_enable_x64", True)


def exact(x):
    return jnp.sin(2 * x[:, 0]) * jnp.cosh(x[:, 1]) + jnp.sin(3 * x[:, 0] * x[:, 1])


def source(x):
    """Minus the Laplacian of the exact solution."""
    waves = 3 * jnp.sin(2 * x[:, 0]) * jnp.cosh(x[:, 1])
    return waves + 9 * jnp.sum(x**2, 1) * jnp.sin(3 * x[:, 0] * x[:, 1])


domain = physics.Difference(physics.rectangle((-1.0, -1.0), (1.0, 1.0)), physics.Disk((0.3, 0.2), 0.4))
task = physics.PINN(
    physics.Poisson(source),
    [physics.Dirichlet(exact)],
    domain,
    field=physics.Perceptron((2, 24, 24, 1)),
    interior=900,
    boundary=300,
)
solved = metaopt.minimize(physics.AsObjective(task), physics.GaussNewton(), steps=60, key=jr.key(0))
x, y = np.meshgrid(np.linspace(-1, 1, 240), np.linspace(-1, 1, 240))
points = jnp.stack([x.ravel(), y.ravel()], 1)
found = np.asarray(task.field.apply(solved.params["field"], points))[:, 0]
outside = (points[:, 0] - 0.3) ** 2 + (points[:, 1] - 0.2) ** 2 < 0.4**2
shown = np.where(outside, np.nan, found).reshape(x.shape)
error = np.where(outside, np.nan, np.abs(found - exact(points))).reshape(x.shape)
figure, plots = axes(2, height=3.2)
for plot, values, title, options in (
    (plots[0], shown, "solution", {}),
    (plots[1], error, "|error|", {"norm": LogNorm(1e-9, np.nanmax(error)), "cmap": "magma"}),
):
    image = plot.pcolormesh(x, y, values, rasterized=True, **options)
    plot.set(aspect="equal", title=title, xlabel="x", ylabel="y")
    figure.colorbar(image, ax=plot).outline.set_visible(False)
save(figure, "pde")
