from . import bijectors as bijectors, distributions as distributions, mcmc as mcmc
