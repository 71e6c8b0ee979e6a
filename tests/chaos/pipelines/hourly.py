"""Counts visits of a user, forgotten an hour after the last one, and reports an hour after the first of a row."""

from drakkar_flow import KafkaSink, StreamFlow


def count(visits: int | None, user: str) -> tuple[object, ...]:
    """One more visit."""
    now = (visits or 0) + 1
    return (now, f"{user} {now}", 3600) if now == 1 else (now, f"{user} {now}")


def report(visits: int | None, user: str) -> tuple[int | None, str]:
    """An hour has passed."""
    return visits, f"{user} reported"


flow = (
    StreamFlow("hourly")
    .decode(str)
    .stateful(count, key=str, state=int, ttl_s=5400, on_timer=report)
    .route(KafkaSink("out"))
)
