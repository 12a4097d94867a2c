"""market.v1.Quotes served by grpcio: an app that tells on stdout, one JSON object a line, all it gets to see.

Symbols decide what it does: SLOW waits for as long as the caller does, DETAILS fails with error details that are none,
RICH with some that are, GZIP is answered compressed, HALT streams two quotes and then fails like RICH, all others are
answered, with metadata at both ends.
"""

import json
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2, duration_pb2

import quotes_api as market

lock = threading.Lock()


def tell(**what):
    with lock:
        print(json.dumps(what), flush=True)


def status(code, message, detail):
    """google.rpc.Status, by hand: 1 is the code, 2 the message, 3 a detail."""

    def field(number, value):
        return bytes([number << 3 | 2, len(value)]) + value

    return bytes([1 << 3, code]) + field(2, message.encode()) + field(3, detail.SerializeToString())


def begin(method, context):
    metadata = [[key, value if isinstance(value, str) else value.hex()] for key, value in context.invocation_metadata()]
    remaining = context.time_remaining()
    # grpcio says "none" with a very large number.
    remaining = remaining if remaining is not None and remaining < 1e6 else None
    tell(event="call", method=method, metadata=metadata, remaining=remaining)
    context.send_initial_metadata((("x-app-initial", "first"),))
    context.set_trailing_metadata((("x-app-trailing", "last"), ("x-app-bytes-bin", b"\x00\x01\xfe")))


def close(context):
    detail = any_pb2.Any()
    detail.Pack(duration_pb2.Duration(seconds=7))
    context.set_trailing_metadata(
        (("x-app-trailing", "last"), ("grpc-status-details-bin", status(9, "market is closed", detail)))
    )
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "market is closed")


class Quotes(market.rpc.QuotesServicer):
    def GetQuote(self, request, context):
        begin("GetQuote", context)
        if request.symbol == "SLOW":
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(30)
            tell(event="ended", method="GetQuote", active=context.is_active())
            return market.pb.Quote()
        if request.symbol == "DETAILS":
            detail = any_pb2.Any()
            detail.Pack(duration_pb2.Duration(seconds=7))
            context.set_trailing_metadata(
                (("x-app-trailing", "last"), ("grpc-status-details-bin", detail.SerializeToString()))
            )
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "market is closed: 50% off — später")
        if request.symbol == "RICH":
            close(context)
        if request.symbol == "GZIP":
            context.set_compression(grpc.Compression.Gzip)
            return market.pb.Quote(symbol="GZIP" * 1000, served_by="grpcio")
        return market.pb.Quote(symbol=request.symbol, served_by="grpcio")

    def StreamQuotes(self, request, context):
        begin("StreamQuotes", context)
        gone = threading.Event()
        context.add_callback(gone.set)
        for sequence in range(1, (request.count or 1000) + 1):
            if request.symbol == "HALT" and sequence > 2:
                close(context)
            try:
                yield market.pb.Quote(symbol=request.symbol, sequence=sequence, served_by="grpcio")
            except GeneratorExit:
                # The caller went while this message was being sent: grpcio asks for no other, and lets go.
                tell(event="ended", method="StreamQuotes", active=False)
                raise
            if gone.wait(0.005):
                tell(event="ended", method="StreamQuotes", active=False)
                return

    def RecordTrades(self, requests, context):
        begin("RecordTrades", context)
        trades = list(requests)
        return market.pb.TradeSummary(trades=len(trades), quantity=sum(t.quantity for t in trades))

    def Converse(self, requests, context):
        begin("Converse", context)
        for sequence, request in enumerate(requests, 1):
            yield market.pb.Quote(symbol=request.symbol, sequence=sequence, served_by="grpcio")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
market.rpc.add_QuotesServicer_to_server(Quotes(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"ready 127.0.0.1:{port}", flush=True)
while True:
    time.sleep(3600)
