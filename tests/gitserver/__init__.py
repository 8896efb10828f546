"""Real Git servers for tests, on loopback: over HTTP and over SSH, with faults to switch on.

`server` is `git http-backend` behind a small web server, `ssh` is `git upload-pack` behind asyncssh, `openssh` the same
behind OpenSSH's own server where the machine has it. `repository` makes and changes repositories with the real git,
`certificates` makes a CA.
"""
