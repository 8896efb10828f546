"""One Kubernetes API server: connect, discover, read, watch, apply, delete, and the inventory kept there.

What is to be applied or deleted is decided in core.
"""
