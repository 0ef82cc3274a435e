from . import gen_grid as gen_grid, numint as numint
