from . import psd_kernels as psd_kernels
