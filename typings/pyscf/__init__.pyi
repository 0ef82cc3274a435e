from . import gto as gto
