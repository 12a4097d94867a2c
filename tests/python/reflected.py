"""A gRPC server of any .proto file, with reflection: reflected.py PORT FILE.proto [hidden]

Every unary method answers with the fields of its request that its answer has too, and, where there is a field `served_by`,
with its own name in it. Other methods are not served. `hidden` leaves reflection out.
"""

import os
import sys
import time
from concurrent import futures

import grpc
from grpc_reflection.v1alpha import reflection

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
port, path = int(sys.argv[1]), os.path.abspath(sys.argv[2])
sys.path[:0] = [os.path.dirname(path), os.path.join(ROOT, "proto", "proto")]
module = grpc.protos(os.path.basename(path))


def answer(name, request, answers):
    reply = answers()
    for field in request.DESCRIPTOR.fields:
        twin = reply.DESCRIPTOR.fields_by_name.get(field.name)
        if twin and twin.type == field.type and not twin.is_repeated and not twin.message_type:
            setattr(reply, field.name, getattr(request, field.name))
    if "served_by" in reply.DESCRIPTOR.fields_by_name:
        reply.served_by = name
    return reply


def handler(method):
    from google.protobuf import message_factory

    takes = message_factory.GetMessageClass(method.input_type)
    gives = message_factory.GetMessageClass(method.output_type)
    return grpc.unary_unary_rpc_method_handler(
        lambda request, context: answer(method.name, request, gives),
        request_deserializer=takes.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
names = []
for service in module.DESCRIPTOR.services_by_name.values():
    names.append(service.full_name)
    methods = {method.name: handler(method) for method in service.methods if not method.server_streaming}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, methods)])
if "hidden" not in sys.argv:
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
bound = server.add_insecure_port(f"127.0.0.1:{port}")
server.start()
print(f"ready 127.0.0.1:{bound}", flush=True)
while True:
    time.sleep(3600)
