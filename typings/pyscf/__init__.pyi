from . import df as df, gto as gto, scf as scf
