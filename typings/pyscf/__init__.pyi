from . import df as df, dft as dft, gto as gto, scf as scf
