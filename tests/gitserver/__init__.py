"""A real Git server for tests: `git http-backend` behind a small web server on loopback, with faults to switch on.

`server` is the web server, `repository` makes and changes repositories with the real git, `certificates` makes a CA.
"""
