"""The demo: a real control plane, a Git server and the daemon on this machine, to try things on or to watch.

    python -m tests.demo                    the daemon's log on the terminal, and things to try, until Ctrl-C
    DEMO_SCRIPT=1 python -m tests.demo      the things to try, played and checked; exit code 1 if one is not so

`world` starts and ends things, `addons` are the parts that a cluster of simulated nodes lacks, `watch`, `log` and
`audit` are the witnesses, `steps_*` the things to try, `script` plays them. `app` is the example application.
"""
