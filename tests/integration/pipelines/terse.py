"""The precomputed pipeline for `python -m bytewax.run terse`."""

from precomputed import flow as stream

from drakkar_flow import dataflow

flow = dataflow(stream)
