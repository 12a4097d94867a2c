// Makes calls to market.v1.Quotes with @connectrpc/connect-node. Reads {"descriptors": file, "calls": [...]} from stdin,
// writes a JSON list of outcomes.
//
// A call: {"target": "http://host:port", "protocol": "connect" | "grpc-web" | "grpc", "json", "get", "gzip", "http": "1.1",
//          "method", "requests": [...], "headers": {...}, "timeoutMs", "cancelAfter": n}
// An outcome: {"code", "message", "details": [...], "replies": [...], "header": {...}, "trailer": {...}}

import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";

const asked = JSON.parse(await text(process.stdin));
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(asked.descriptors)));
const service = registry.getService("market.v1.Quotes");

function transport(call) {
  const options = {
    baseUrl: call.target,
    httpVersion: call.http ?? "2",
    useBinaryFormat: !call.json,
    useHttpGet: call.get ?? false,
    jsonOptions: { registry },
    ...(call.gzip ? { sendCompression: compressionGzip, compressMinBytes: 0 } : {}),
  };
  switch (call.protocol) {
    case "connect":
      return createConnectTransport(options);
    case "grpc-web":
      return createGrpcWebTransport(options);
    case "grpc":
      return createGrpcTransport(options);
  }
  throw new Error(`no protocol ${call.protocol}`);
}

async function* each(messages) {
  yield* messages;
}

function pairs(headers) {
  return headers ? Object.fromEntries(headers.entries()) : {};
}

async function make(call) {
  const method = service.method[call.method[0].toLowerCase() + call.method.slice(1)];
  const client = createClient(service, transport(call));
  const messages = call.requests.map((request) => fromJson(method.input, request));
  const stop = new AbortController();
  const outcome = { code: "ok", message: "", details: [], replies: [] };
  const options = {
    headers: call.headers,
    timeoutMs: call.timeoutMs ?? 10_000,
    signal: stop.signal,
    onHeader: (header) => (outcome.header = pairs(header)),
    onTrailer: (trailer) => (outcome.trailer = pairs(trailer)),
  };
  const take = (message) => outcome.replies.push(toJson(method.output, message, { registry }));
  const run = client[method.localName];
  try {
    switch (method.methodKind) {
      case "unary":
        take(await run(messages[0], options));
        break;
      case "client_streaming":
        take(await run(each(messages), options));
        break;
      default:
        for await (const message of run(method.methodKind === "server_streaming" ? messages[0] : each(messages), options)) {
          take(message);
          if (outcome.replies.length === call.cancelAfter) stop.abort();
        }
    }
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    outcome.code = Code[error.code];
    outcome.message = error.rawMessage;
    outcome.details = error.details.map((detail) => ({
      type: detail.type ?? detail.desc.typeName,
      value: Buffer.from(detail.value).toString("base64"),
    }));
    outcome.metadata = pairs(error.metadata);
  }
  return outcome;
}

const outcomes = [];
for (const call of asked.calls) outcomes.push(await make(call));
// Sessions are kept open for calls that do not come.
process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
