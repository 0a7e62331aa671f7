"""`nexus compute cluster`: keys, scheduler and nodes of a cluster, what is in one, and how fast it is."""

from __future__ import annotations

import os
import sys

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, VALUE, Option, Parsed, help_text, number, parse
from nexus.system.environment import group_python

PORT = 8786
NODES = 8
ACTIONS = ("keys", "scheduler", "node", "status", "bench", "browser")
OPTIONS = [
    Option("keys", VALUE, "folder of the cluster's keys; without it only the loopback is served", "FOLDER"),
    Option("host", VALUE, "scheduler, node, browser: address to listen on (default 127.0.0.1)", "HOST"),
    Option("port", VALUE, f"scheduler, browser: port to listen on (default {PORT}, browser any)", "PORT"),
    Option("share", VALUE, "node: use only this share of a core", "SHARE"),
    Option("nodes", VALUE, f"bench: how many local nodes (default {NODES})", "N"),
    Option("size", VALUE, "bench, browser: side of the matrices (default 2048, browser 1024)", "N"),
    Option("workers", VALUE, "browser: start when so many browsers have joined (default 1)", "N"),
    Option("json", FLAG, "status, bench, browser: print JSON"),
    Option("help", FLAG, "print this help", short="h"),
]
USAGE = """\
usage: nexus compute cluster keys FOLDER          make keys; every machine of the cluster needs the folder
       nexus compute cluster scheduler [options]  be the scheduler others join
       nexus compute cluster node ADDRESS         lend this machine to a cluster
       nexus compute cluster status ADDRESS       the nodes of a cluster, and those refused
       nexus compute cluster bench [ADDRESS]      a job on all nodes beside the sum of their rates
       nexus compute cluster browser              let browsers join, and multiply matrices with them
"""


def main(arguments: list[str]) -> int:
    given = parse(arguments, OPTIONS, "compute cluster", mixed=True)
    if given.flag("help") or not given.rest:
        print(USAGE)
        print(help_text(OPTIONS))
        return 0 if given.flag("help") else 2
    action, *operands = given.rest
    if action not in ACTIONS:
        raise UsageError(f"nexus compute cluster cannot {action}", hint="nexus compute cluster --help")
    wanted = {"keys": "a folder", "node": "an address", "status": "an address"}.get(action)
    if wanted and len(operands) != 1:
        raise UsageError(f"compute cluster {action} takes {wanted}")
    if len(operands) > (action in ("keys", "node", "status", "bench")):
        raise UsageError(f"compute cluster {action} takes no {operands[-1]!r}")
    python = group_python("cluster")
    if python != sys.executable:
        os.execv(python, [python, "-m", "nexus", "compute", "cluster", *arguments])
    if action == "keys":
        from nexus.compute.cluster import keys

        keys.make(operands[0])
        print(f"{operands[0]}: keys for {keys.VALID_DAYS} days; who has them can run code on the cluster")
        return 0
    if action == "scheduler":
        from nexus.compute.cluster.scheduler import run_scheduler

        return run_scheduler(host(given), number(given, "port") or PORT, given.value("keys"))
    if action == "node":
        from nexus.compute.cluster.node import Settings, run_node

        settings = Settings(share(given), gpus=True)
        return run_node(operands[0], host(given), given.value("keys"), settings)
    if action == "status":
        return status(operands[0], given)
    if action == "bench":
        return bench(operands[0] if operands else None, given)
    return browser(given)


def host(given: Parsed) -> str:
    return given.value("host") or "127.0.0.1"


def share(given: Parsed) -> float:
    text = given.value("share")
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if text and not 0.01 <= value <= 1.0:
        raise UsageError(f"--share is a part of a core between 0.01 and 1, not {text!r}")
    return value


def status(address: str, given: Parsed) -> int:
    """Exit code 1 when no node can take part."""
    import json

    from nexus.compute.cluster.membership import Membership
    from nexus.compute.errors import ComputeError

    membership = Membership(address, given.value("keys"))
    try:
        try:
            nodes, why = membership.refresh(), ""
        except ComputeError as error:
            nodes, why = [], str(error)
        if given.flag("json"):
            rows = [{"address": node.address, **node.found} for node in nodes]
            print(json.dumps({"version": 1, "nodes": rows, "refused": membership.refused}, indent=1))
        else:
            for node in nodes:
                print(f"{node.name:<8} {node.address:<28} {node.version}")
            for refused, reason in membership.refused.items():
                print(f"refused  {refused:<28} {reason}")
            if why and not membership.refused:
                print(why)
    finally:
        membership.close()
    return 0 if nodes else 1


def bench(address: str | None, given: Parsed) -> int:
    """Exit code 1 when a result was wrong."""
    import json

    from nexus.compute.cluster.bench import measure, text

    count, size = number(given, "nodes") or NODES, number(given, "size") or 2048
    found = measure(address, given.value("keys"), count, size)
    print(json.dumps({"version": 1, **found}, indent=1) if given.flag("json") else text(found))
    return 0 if found["right"] else 1


def browser(given: Parsed) -> int:
    """Exit code 1 when the result was wrong."""
    from nexus.compute.browser.session import lend

    return lend(
        host(given),
        number(given, "port") or 0,
        given.value("keys"),
        number(given, "workers") or 1,
        number(given, "size") or 1024,
        given.flag("json"),
    )
