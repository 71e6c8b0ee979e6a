"""Pure kernels that several packages share: no I/O, clocks or threads."""
