"""From a snapshot of files to manifests: plain YAML, and kustomize and Helm as confined child processes.

No cluster, no remote, no credentials.
"""
