"""depot.v1.Depot served by grpcio: tells on stdout, one JSON object a line, what it gets to see. See depot.proto.

With --descriptors FILE it writes its own FileDescriptorSet and ends.
"""

import hashlib
import json
import os
import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "proto", "proto")]
pb, rpc = grpc.protos_and_services("depot.proto")
httpbody_pb2 = grpc.protos("google/api/httpbody.proto")
status_pb2 = grpc.protos("google/rpc/status.proto")


def descriptors():
    known, found = set(), descriptor_pb2.FileDescriptorSet()

    def add(file):
        if file.name in known:
            return
        known.add(file.name)
        for other in file.dependencies:
            add(other)
        found.file.append(descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb))

    add(pb.DESCRIPTOR)
    return found.SerializeToString()


if sys.argv[1:2] == ["--descriptors"]:
    with open(sys.argv[2], "wb") as out:
        out.write(descriptors())
    sys.exit()

lock = threading.Lock()


def tell(**what):
    with lock:
        print(json.dumps(what), flush=True)


def begin(method, context):
    metadata = [[key, value if isinstance(value, str) else value.hex()] for key, value in context.invocation_metadata()]
    remaining = context.time_remaining()
    tell(event="call", method=method, metadata=metadata, remaining=remaining if remaining and remaining < 1e6 else None)


def fail(context, code, message):
    detail = any_pb2.Any()
    detail.Pack(duration_pb2.Duration(seconds=7))
    unknown = any_pb2.Any(type_url="type.googleapis.com/depot.v1.Nowhere", value=b"\x00\xff")
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail, unknown])
    context.set_trailing_metadata((("x-depot-trailing", "late"), ("grpc-status-details-bin", status.SerializeToString())))
    context.abort(code, message)


class Depot(rpc.DepotServicer):
    def Echo(self, request, context):
        begin("Echo", context)
        initial = [("x-depot-initial", "early"), ("x-depot-bytes-bin", b"\x00\x01\xfe")]
        if request.code.isascii() and request.code.isdigit():
            initial.append(("x-http-code", request.code))
        context.send_initial_metadata(initial)
        if request.fail:
            fail(context, grpc.StatusCode.INVALID_ARGUMENT, request.fail)
        context.set_trailing_metadata((("x-depot-trailing", "late"),))
        return request

    def Fill(self, requests, context):
        begin("Fill", context)
        summary = pb.Summary()
        try:
            for request in requests:
                tell(event="item", name=request.name, note=request.note, number=request.number)
                summary.name = summary.name or request.name
                summary.messages += 1
                summary.number += request.number
        finally:
            tell(event="ended", method="Fill")
        return summary

    def Chat(self, requests, context):
        begin("Chat", context)
        try:
            for request in requests:
                tell(event="item", name=request.name, note=request.note, number=request.number)
                if request.fail:
                    fail(context, grpc.StatusCode.INVALID_ARGUMENT, request.fail)
                yield request
        finally:
            tell(event="ended", method="Chat")

    def Watch(self, request, context):
        begin("Watch", context)
        gone = threading.Event()
        context.add_callback(gone.set)
        try:
            for number in range(1, (request.count or 1_000_000) + 1):
                if request.fail_after and number > request.fail_after:
                    fail(context, grpc.StatusCode.UNAVAILABLE, "the depot is gone")
                yield pb.Item(name=request.name, number=number, note="x" * request.size)
                if gone.wait(request.interval_ms / 1000):
                    return
        finally:
            tell(event="ended", method="Watch")

    def Upload(self, requests, context):
        begin("Upload", context)
        return self.sum_up(requests)

    def Store(self, request, context):
        begin("Store", context)
        return self.sum_up([request])

    def sum_up(self, requests):
        summary, hashed = pb.Summary(), hashlib.sha256()
        for request in requests:
            summary.messages += 1
            summary.name = summary.name or request.shelf
            summary.version = summary.version or request.version
            summary.content_type = summary.content_type or request.file.content_type
            summary.bytes += len(request.file.data)
            summary.longest = max(summary.longest, len(request.file.data))
            hashed.update(request.file.data)
        summary.sha256 = hashed.hexdigest()
        return summary

    def Download(self, request, context):
        begin("Download", context)
        for number in range(request.count):
            if request.fail_after and number >= request.fail_after:
                fail(context, grpc.StatusCode.UNAVAILABLE, "the depot is gone")
            kind = (request.content_type or "application/pdf") if number == 0 else "ignored/later"
            yield httpbody_pb2.HttpBody(content_type=kind, data=bytes([65 + number % 26]) * request.size)

    def Bare(self, request, context):
        begin("Bare", context)
        return request

    def Fetch(self, request, context):
        begin("Fetch", context)
        return httpbody_pb2.HttpBody(content_type=request.content_type, data=b"<p>" + request.name.encode() + b"</p>")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
rpc.add_DepotServicer_to_server(Depot(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"ready 127.0.0.1:{port}", flush=True)
while True:
    time.sleep(3600)
