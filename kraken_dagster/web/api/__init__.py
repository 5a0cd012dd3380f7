"""REST: `web.queries` and the steps of operators over HTTP, and what describes it (OpenAPI)."""
