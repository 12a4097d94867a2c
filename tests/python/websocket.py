"""Speaks over a WebSocket with the websockets library. Reads a JSON plan from stdin, writes what happened as JSON.

A plan: {"url", "origin", "headers": [[k, v]...], "subprotocols": [...], "steps": [...]}
Steps: {"say": text}, {"bytes": hex}, {"hear": n}, {"close": code}, {"ping": true}, {"wait": s}, and at the end all is heard
that still comes. An outcome: {"status", "subprotocol", "heard": [...], "code", "reason"}
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def main(plan):
    heard, told = [], {}
    try:
        socket = await connect(
            plan["url"],
            origin=plan.get("origin"),
            additional_headers=[tuple(pair) for pair in plan.get("headers", [])],
            subprotocols=plan.get("subprotocols"),
            open_timeout=10,
            proxy=None,
            max_size=None,
        )
    except InvalidStatus as refused:
        response = refused.response
        return {"status": response.status_code, "body": json.loads(response.body), "heard": []}
    told["status"] = 101
    told["subprotocol"] = socket.subprotocol
    try:
        for step in plan["steps"]:
            if "say" in step:
                await socket.send(step["say"])
            elif "bytes" in step:
                await socket.send(bytes.fromhex(step["bytes"]))
            elif "hear" in step:
                for _ in range(step["hear"]):
                    heard.append(await asyncio.wait_for(socket.recv(), 10))
            elif "ping" in step:
                await asyncio.wait_for(await socket.ping(), 10)
            elif "wait" in step:
                await asyncio.sleep(step["wait"])
            elif "close" in step:
                await socket.close(step["close"])
        while True:
            heard.append(await asyncio.wait_for(socket.recv(), 10))
    except ConnectionClosed:
        pass
    return {**told, "heard": heard, "code": socket.close_code, "reason": socket.close_reason}


json.dump(asyncio.run(main(json.load(sys.stdin))), sys.stdout)
