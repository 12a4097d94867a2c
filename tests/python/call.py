"""Makes calls to market.v1.Quotes with grpcio. Reads a JSON list of calls from stdin, writes a JSON list of outcomes.

A call: {"target", "authority", "method", "requests": [...], "metadata": [[k, v]...], "timeout": s, "cancel_after": n}
An outcome: {"code", "message", "replies": [...], "initial": [[k, v]...], "trailing": [[k, v]...]}
"""

import base64
import json
import sys

import grpc
from google.protobuf import json_format

import quotes_api as market

STREAMING_REQUEST = {"RecordTrades", "Converse"}
STREAMING_REPLY = {"StreamQuotes", "Converse"}
REQUESTS = {
    "GetQuote": market.pb.GetQuoteRequest,
    "ListQuotes": market.pb.ListQuotesRequest,
    "PlaceOrder": market.pb.PlaceOrderRequest,
    "StreamQuotes": market.pb.StreamQuotesRequest,
    "RecordTrades": market.pb.Trade,
    "Converse": market.pb.GetQuoteRequest,
}


def pairs(metadata):
    def text(value):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    return [[key, text(value)] for key, value in metadata or ()]


def make(call):
    options = [("grpc.default_authority", call.get("authority", "market.quotes")), ("grpc.enable_retries", 0)]
    method = call["method"]
    with grpc.insecure_channel(call["target"], options) as channel:
        stub = market.rpc.QuotesStub(channel)
        requests = [json_format.ParseDict(r, REQUESTS[method]()) for r in call["requests"]]
        argument = iter(requests) if method in STREAMING_REQUEST else requests[0]
        more = {"metadata": [tuple(p) for p in call.get("metadata", [])], "timeout": call.get("timeout", 10)}
        replies = []
        if method in STREAMING_REPLY:
            running = getattr(stub, method)(argument, **more)
            try:
                for reply in running:
                    replies.append(reply)
                    if len(replies) == call.get("cancel_after"):
                        running.cancel()
            except grpc.RpcError:
                pass
        else:
            running = getattr(stub, method).future(argument, **more)
            if "cancel_after_s" in call:
                try:
                    running.result(timeout=call["cancel_after_s"])
                except grpc.FutureTimeoutError:
                    running.cancel()
            if not running.cancelled() and running.exception() is None:
                replies.append(running.result())
        cancelled = running.cancelled()
        return {
            "code": "CANCELLED" if cancelled else running.code().name,
            "message": "" if cancelled else running.details(),
            "replies": [json_format.MessageToDict(reply) for reply in replies],
            "initial": [] if cancelled else pairs(running.initial_metadata()),
            "trailing": [] if cancelled else pairs(running.trailing_metadata()),
        }


json.dump([make(call) for call in json.load(sys.stdin)], sys.stdout)
