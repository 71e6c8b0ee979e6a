from drakkar_flow.sinks.kafka import SPEC

SPECS = {"kafka": SPEC}
