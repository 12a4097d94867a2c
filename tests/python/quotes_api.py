"""The generated code of market.v1, compiled from the example's .proto files when it is imported."""

import os
import sys

import grpc

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "examples", "proto"), os.path.join(ROOT, "proto", "proto")]

# grpcio looks for imports of .proto files along sys.path; the annotations come from the mesh's own copy.
pb, rpc = grpc.protos_and_services("market/v1/quotes.proto")
