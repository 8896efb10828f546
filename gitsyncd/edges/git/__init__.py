"""Git remotes and their mirrors: refs, fetches, ancestry, signatures, trees read from the object store.

Never a checkout.
"""
