from ._pyscf import PySCF as PySCF
