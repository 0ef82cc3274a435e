from . import jax as jax
