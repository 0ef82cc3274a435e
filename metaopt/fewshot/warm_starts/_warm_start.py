"""Starts of new problems from the solutions of old ones."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Inexact, Int, PRNGKeyArray, PyTree

from ..._core import AbstractTask
from ..._core.arrays._kernels import correlations
from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import all_finite, compute_dtype, path_name, select
from ._kernel_ridge import KernelRidge
from ._predictor import AbstractPredictor
from ._transfer import Rule, Rules, check_structure, checked_rules, transfer


class Prediction(eqx.Module):
    """What a memory says about the solution of a new problem.

    - `params`: the predicted parameters; `None` in the place of leaves that are not inexact arrays.
    - `deviation`: the standard deviation of each entry.
    - `uncertainty`: the same without scale: 0 is certain, 1 is what one knows without features.
    - `similarity`: of the most similar problem in memory, between 0 and 1.
    """

    params: PyTree
    deviation: PyTree
    uncertainty: Float[Array, ""]
    similarity: Float[Array, ""]


class Start(eqx.Module):
    """Where a problem starts, after both starts were looked at.

    - `params`: the better start.
    - `value`: the value there.
    - `warm`: whether it is the warm one.
    """

    params: PyTree
    value: Float[Array, ""]
    warm: Bool[Array, ""]


class WarmStart(eqx.Module):
    r"""Start new problems from the solutions of similar ones.

    A memory of solved problems, from features $z$ that describe a problem (a regularization weight, coefficients of an
    equation, a time) to its parameters $\theta$. For a new problem the predictor makes $\hat\theta$ of them, and

    $$\theta_0 = \begin{cases}
        \theta_\mathrm{cold} + \alpha \, (\hat\theta(z) - \theta_\mathrm{cold}) &
          \text{if } \max_i \exp\left(-\tfrac12 \lVert (z - z_i) / \ell \rVert^2\right) \ge c \\
        \theta_\mathrm{cold} & \text{otherwise}
      \end{cases}$$

    Everything is pure and of fixed size: a memory is a pytree that may be carried through `jax.jit` and
    `jax.lax.scan`. When it is full, the oldest solution makes room. The start is for the `params` of
    [`metaopt.minimize`][], or the `initial` of a [`metaopt.Learner`][].

    **Arguments:**

    - `like`: parameters of the kind that are stored. Only inexact arrays are kept, in their dtypes.
    - `features`: how many numbers describe a problem.
    - `capacity`: how many solutions are kept.
    - `predictor`: by default [`metaopt.fewshot.KernelRidge`][].
    - `scales`: $\ell$, the distance at which problems are similar by $e^{-1/2}$; one number, or one per feature. See
        [`metaopt.fewshot.WarmStart.tuned`][].
    - `threshold`: $c$; 0 trusts all predictions.
    - `fraction`: $\alpha$, the share of the prediction.
    - `rules`: what to do if the new problem has another size, by paths; see [`metaopt.fewshot.transfer`][].

    **Raises:**

    - `ValueError`: if `like` has no inexact array, `features` or `capacity` is below 1, `scales` has another length,
        a number is out of range, or a rule is unknown.
    """

    features: Float[Array, "capacity d"]
    params: PyTree
    count: Int[Array, ""]
    predictor: AbstractPredictor
    scales: Float[Array, " d"]
    threshold: Float[Array, ""]
    fraction: Float[Array, ""]
    rules: Rules = eqx.field(static=True)

    def __init__(
        self,
        like: PyTree,
        features: int,
        *,
        capacity: int = 64,
        predictor: AbstractPredictor | None = None,
        scales: float | Float[Array, " d"] = 1.0,
        threshold: float | Float[Array, ""] = 0.5,
        fraction: float | Float[Array, ""] = 1.0,
        rules: Mapping[str, Rule] | Rules = (),
    ):
        check_counts(features=features, capacity=capacity)
        for name, share in (("threshold", threshold), ("fraction", fraction)):
            if isinstance(share, float | int) and not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be between 0 and 1, but {share} was given.")
        if isinstance(scales, float | int) and not scales > 0:
            raise ValueError(f"`scales` must be positive, but {scales} was given.")
        kept = eqx.filter(like, eqx.is_inexact_array)
        if not jtu.tree_leaves(kept):
            raise ValueError("`like` has no inexact array, so there is nothing to remember.")
        dtype = jnp.result_type(float)
        lengths = jnp.asarray(scales, dtype)
        if lengths.shape not in ((), (features,)):
            raise ValueError(f"`scales` must be one number or {features}, but has shape {lengths.shape}.")
        self.features = jnp.zeros((capacity, features), dtype)
        self.params = jtu.tree_map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), kept)
        self.count = jnp.zeros((), jnp.int32)
        self.predictor = KernelRidge() if predictor is None else predictor
        self.scales = jnp.broadcast_to(lengths, (features,))
        self.threshold = jnp.asarray(threshold, dtype)
        self.fraction = jnp.asarray(fraction, dtype)
        self.rules = checked_rules(rules)

    def add(self, features: Float[Array, " d"], params: PyTree) -> "WarmStart":
        """Remember a solved problem. One with a number that is not finite is not remembered.

        **Arguments:**

        - `features`: what describes the problem.
        - `params`: its solution.

        **Returns:**

        The new memory.

        **Raises:**

        - `ValueError`: if there are more or fewer features, or the parameters differ in structure or shape.
        """
        features, given = self._checked(features), eqx.filter(params, eqx.is_inexact_array)
        check_structure("params", given, self.params)

        def put(path: Any, old: Inexact[Array, "..."], new: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
            if new.shape != old.shape[1:]:
                name = path_name(path)
                raise ValueError(
                    f"`{name}` has shape {new.shape}, but solutions of shape {old.shape[1:]} are stored. Bring it to "
                    "that shape with `metaopt.fewshot.transfer`, or use a memory of its own for each size."
                )
            return old.at[self.count % self._capacity].set(jnp.asarray(new, old.dtype))

        fine = all_finite((features, given))
        stored = jtu.tree_map_with_path(put, self.params, given)
        rows = self.features.at[self.count % self._capacity].set(features)
        new = (rows, stored, self.count + 1)
        kept = select(fine, new, (self.features, self.params, self.count))
        return eqx.tree_at(lambda x: (x.features, x.params, x.count), self, kept)

    def predict(self, features: Float[Array, " d"]) -> Prediction:
        """Predict the solution of a new problem.

        **Arguments:**

        - `features`: what describes the problem.

        **Returns:**

        A [`metaopt.fewshot.Prediction`][], in the structure, shapes and dtypes of what is stored.

        **Raises:**

        - `ValueError`: if there are more or fewer features.
        - A runtime error (of `equinox`) if the memory is empty.
        """
        features = eqx.error_if(
            self._checked(features), self.count == 0, "The memory is empty: `add` a solved problem before you predict."
        )
        return self._predict(features, self._filled)

    def start(self, features: Float[Array, " d"], cold: PyTree) -> PyTree:
        """Where a new problem starts. With an empty memory, that is the cold start.

        **Arguments:**

        - `features`: what describes the problem.
        - `cold`: where it would start otherwise. Its structure, shapes, dtypes and leaves that are not inexact arrays
            are those of the result.

        **Returns:**

        The start.

        **Raises:**

        - `ValueError`: if there are more or fewer features, the structure differs, or a tensor has another size and
            no rule.
        """
        prediction = self._predict(self._checked(features), self._filled)
        trusted = (prediction.similarity >= self.threshold) & (self.count > 0) & all_finite(prediction.params)
        warm = transfer(prediction.params, cold, fraction=self.fraction, rules=self.rules)
        return select(trusted, warm, cold)

    def guarded_start(
        self,
        features: Float[Array, " d"],
        cold: PyTree,
        objective: AbstractTask[Any, Any] | Callable[[Any], Float[Array, ""]],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Start:
        """Where a new problem starts, with one look at the warm and at the cold start to keep the better.

        However misleading the memory is, the start is no worse than the cold one, for one evaluation more.

        **Arguments:**

        - `features`, `cold`: as for [`metaopt.fewshot.WarmStart.start`][].
        - `objective`: a task, or a function of the parameters that returns a scalar.
        - `key`: draws the minibatch of a task, the same for both.

        **Returns:**

        A [`metaopt.fewshot.Start`][]; the cold start if the values are the same.

        **Raises:**

        - `ValueError`: as [`metaopt.fewshot.WarmStart.start`][].
        """
        return keep_better(objective, cold, self.start(features, cold), key=key)

    def tuned(self, factors: Float[Array, " factors"] | None = None) -> "WarmStart":
        r"""Choose the scales by leaving each solved problem out and predicting it from the others.

        $$\min_c \sum_i \frac{\lVert \hat\theta_{-i}(z_i; c \, \ell) - \theta_i \rVert^2}{\sum_j s_j^2}$$

        over factors $c$ of all scales, tensor by tensor relative to its variance $s^2$ in memory. All predictions are
        computed anew for each factor, which costs about (number of factors) x (capacity) solves.

        **Arguments:**

        - `factors`: $c$; by default 13 from 1/8 to 32.

        **Returns:**

        The same memory with other scales; unchanged if it holds fewer than two problems.
        """
        factors = jnp.asarray(2.0 ** jnp.linspace(-3.0, 5.0, 13)) if factors is None else factors
        variances = jtu.tree_leaves(self._variance(self._filled))
        totals = [jnp.maximum(jnp.sum(x), jnp.finfo(x.dtype).tiny) for x in variances]

        def miss(scaled: "WarmStart", index: Int[Array, ""]) -> Float[Array, ""]:
            others = self._filled & (jnp.arange(self._capacity) != index)
            found = scaled._predict(self.features[index], others).params
            pairs = zip(jtu.tree_leaves(found), jtu.tree_leaves(self.params), totals, strict=True)
            errors = [
                (jnp.sum(_squared((a - b[index]).astype(t.dtype))) / t).astype(factors.dtype) for a, b, t in pairs
            ]
            return jnp.where(self._filled[index], jnp.sum(jnp.stack(errors)), 0.0)

        def score(factor: Float[Array, ""]) -> Float[Array, ""]:
            scaled = eqx.tree_at(lambda x: x.scales, self, self.scales * factor.astype(self.scales.dtype))
            return jnp.sum(jax.lax.map(lambda i: miss(scaled, i), jnp.arange(self._capacity)))

        scores = jax.lax.map(score, factors)
        best = factors[jnp.argmin(jnp.where(jnp.isfinite(scores), scores, jnp.inf))].astype(self.scales.dtype)
        scales = jnp.where(self.count >= 2, self.scales * best, self.scales)
        return eqx.tree_at(lambda x: x.scales, self, scales)

    @property
    def _capacity(self) -> int:
        return self.features.shape[0]

    @property
    def _filled(self) -> Bool[Array, " capacity"]:
        return jnp.arange(self._capacity) < self.count

    def _checked(self, features: Float[Array, "..."]) -> Float[Array, " d"]:
        given, wanted = jnp.shape(features), self.features.shape[1:]
        if given != wanted:
            raise ValueError(f"`features` must have shape {wanted}, as the memory was made for, but has {given}.")
        return jnp.asarray(features, self.features.dtype)

    def _predict(self, features: Float[Array, " d"], filled: Bool[Array, " capacity"]) -> Prediction:
        rows, query = self.features / self.scales[None], features / self.scales
        likeness = jnp.where(filled, correlations(rows, query[None])[:, 0], 0.0)
        found = self.predictor.weigh(rows, filled, query)
        # The mean takes what is left of the weights, and one solution alone is returned as it is.
        rest = (1.0 - jnp.sum(found.weights)) / jnp.maximum(jnp.sum(filled), 1).astype(found.weights.dtype)
        shares = jnp.where(filled, found.weights + rest, 0.0)
        uncertainty = jnp.sqrt(jnp.maximum(found.variance, 0.0))

        def combine(stored: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
            dtype = compute_dtype(stored.dtype)
            weights = shares.astype(jnp.finfo(dtype).dtype).astype(dtype)
            return _weighted(weights, stored.astype(dtype)).astype(stored.dtype)

        deviation = jtu.tree_map(lambda v: jnp.sqrt(v) * uncertainty.astype(v.dtype), self._variance(filled))
        return Prediction(jtu.tree_map(combine, self.params), deviation, uncertainty, jnp.max(likeness))

    def _variance(self, filled: Bool[Array, " capacity"]) -> PyTree:
        """The variance of each entry over the solved problems."""
        total = jnp.sum(filled)

        def one(stored: Inexact[Array, "..."]) -> Float[Array, "..."]:
            dtype = compute_dtype(stored.dtype)
            real = jnp.finfo(dtype).dtype
            stored, shares = stored.astype(dtype), filled.astype(real) / jnp.maximum(total, 1).astype(real)
            middle = _weighted(shares.astype(dtype), stored)
            return _weighted(shares, _squared(stored - middle[None])) * (total / jnp.maximum(total - 1, 1)).astype(real)

        return jtu.tree_map(one, self.params)


def keep_better(
    objective: AbstractTask[Any, Any] | Callable[[Any], Float[Array, ""]],
    cold: PyTree,
    warm: PyTree,
    *,
    key: PRNGKeyArray | None = None,
) -> Start:
    """Look at two starts once, and keep the better.

    **Arguments:**

    - `objective`: a task, or a function of the parameters that returns a scalar.
    - `cold`, `warm`: the starts, of the same structure, shapes and dtypes.
    - `key`: draws the minibatch of a task, the same for both.

    **Returns:**

    A [`metaopt.fewshot.Start`][]; the cold start if the values are the same, or the warm one is not finite.
    """
    key = jr.key(0) if key is None else key

    def look(params: PyTree) -> Float[Array, ""]:
        if isinstance(objective, AbstractTask):
            return objective.evaluate(params, key=key)[0]
        return jnp.asarray(objective(params))

    old, new = look(cold), look(warm)
    better = (new < old) | (jnp.isfinite(new) & jnp.isnan(old))
    return Start(select(better, warm, cold), jnp.where(better, new, old), better)


def _squared(x: Inexact[Array, "*s"]) -> Float[Array, "*s"]:
    return jnp.square(jnp.abs(x))


def _weighted(weights: Inexact[Array, " n"], stacked: Inexact[Array, "n *s"]) -> Inexact[Array, "*s"]:
    """The sum over the leading axis, in full precision on every device."""
    return jnp.tensordot(weights, stacked, axes=1, precision="highest")
