"""HTTP server for monitoring: metrics, liveness and readiness."""
