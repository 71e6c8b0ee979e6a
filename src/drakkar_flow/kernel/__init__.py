"""Pure kernels that several rooms share: no I/O, clocks or threads."""
