"""Registries of images: which tags there are, and what stands behind one.

Belongs here: the OCI distribution protocol, its answers, credentials for it. Does not belong here: which tag is wanted
(`core.images`), and when to ask (the engine). What a registry says is believed as far as a digest proves it.
"""
