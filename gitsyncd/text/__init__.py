"""What people read on a terminal: plans, diffs and status, aligned, and coloured where that is wanted.

Only wording and layout belong here; the facts are those of `--output json`, and how they are asked for is the caller's.
"""
