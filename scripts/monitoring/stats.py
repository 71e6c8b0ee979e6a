"""Single values: small panels in the head of a dashboard."""

from __future__ import annotations

from scripts.monitoring.grafana import Color, Panel, Query

__all__ = ["stat"]


def stat(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    legend: str = "",
    steps: tuple[tuple[float | None, Color], ...] = (),
    texts: tuple[tuple[int, str, Color], ...] = (),
    only_name: bool = False,
) -> Panel:
    """Return a panel with the last value of one query; six of them fill a line."""
    return Panel(
        title,
        description,
        unit,
        (Query(expr, legend),),
        kind="stat",
        width=4,
        height=4,
        steps=steps,
        texts=texts,
        only_name=only_name,
    )
