"""Pipelines for `python -m bytewax.run terse` and `terse:sleepers`."""

from precomputed import flow as stream
from stubborn import flow as stubborn

from drakkar_flow import dataflow

flow = dataflow(stream)
sleepers = dataflow(stubborn)
