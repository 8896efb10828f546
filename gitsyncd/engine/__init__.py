"""When: asyncio loops over model, core and the ports they need.

No arithmetic of its own, and nothing here knows Git, Kubernetes or HTTP.
"""
