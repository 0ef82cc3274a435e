from . import bijectors as bijectors, distributions as distributions, math as math, mcmc as mcmc
