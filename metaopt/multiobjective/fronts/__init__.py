"""Pareto fronts: the solver, measures of a front, and test problems."""
