"""The flow of `across`, which stops for a failure."""

from across import flow as words

from drakkar_flow import KafkaSink, StreamFlow

flow = StreamFlow("words", nodes=words.nodes[:-1]).route(KafkaSink("out"), on_error="fail")
