"""From a snapshot of files to documents: plain YAML and JSON, read in a confined child process.

No cluster, no remote, no credentials.
"""
