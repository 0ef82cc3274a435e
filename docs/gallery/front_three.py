"""A front of three objectives found by `pareto_front`: an eighth of a sphere."""

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from _style import BLUE, GRAY, save

from metaopt.multiobjective import make_problem, pareto_front


front = pareto_front(make_problem("dtlz2"), num_solutions=91, key=jr.key(0))
figure = plt.figure(figsize=(5.0, 4.2))
plot = figure.add_subplot(projection="3d", computed_zorder=False)
angle, height = np.meshgrid(np.linspace(0, np.pi / 2, 12), np.linspace(0, np.pi / 2, 12))
sphere = np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.sin(height)
plot.plot_wireframe(*sphere, color=GRAY, lw=0.4)
plot.scatter(*np.asarray(front.values).T, color=BLUE, s=14, depthshade=False)
for name, coordinate in zip(("first", "second", "third"), "xyz", strict=True):
    axis = getattr(plot, f"{coordinate}axis")
    axis.set_pane_color((0, 0, 0, 0))
    axis.line.set_color(GRAY)
    axis.set_label_text(f"{name} objective")
    axis.set_ticks([0, 0.5, 1])
plot.grid(False)
plot.view_init(25, 45)
plot.set_title("DTLZ2, 12 variables")
save(figure, "front_three")
