"""HTTP towards people and monitoring: health, metrics, status, webhooks and the local command socket.

It shows what is known and passes on "look again"; it decides nothing.
"""
