"""Requests to merge on GitHub, GitLab and Gitea, by their HTTP APIs."""
