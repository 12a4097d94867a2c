"""A kazoo session as a conversation: one JSON operation a line on stdin, one JSON answer a line on stdout.

The session, and with it every ephemeral node made here, ends with stdin.
"""

import json
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException

client = KazooClient(hosts=sys.argv[1], timeout=4)
client.start(timeout=20)


def show(stat):
    return {"version": stat.version, "ephemeral": stat.ephemeralOwner != 0, "owner": stat.ephemeralOwner, "mtime": stat.mtime}


def answer(op):
    path = op.get("path")
    data = op.get("data", "").encode() if "data" in op else bytes.fromhex(op.get("hex", ""))
    match op["op"]:
        case "get":
            data, stat = client.get(path)
            return {"data": data.decode(errors="replace"), "stat": show(stat)}
        case "children":
            return {"children": sorted(client.get_children(path))}
        case "exists":
            stat = client.exists(path)
            return {"stat": show(stat) if stat else None}
        case "create":
            client.create(path, data, ephemeral=op.get("ephemeral", False), makepath=True)
            return {}
        case "set":
            return {"stat": show(client.set(path, data, version=op.get("version", -1)))}
        case "delete":
            client.delete(path, recursive=True)
            return {}
        case other:
            return {"error": f"no such operation: {other}"}


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except KazooException as error:
        reply = {"error": type(error).__name__}
    print(json.dumps(reply), flush=True)
client.stop()
