// What runs in the browser: calls to market.v1.Quotes from a page of another origin, with @connectrpc/connect-web and with
// grpc-web. `window.make(edge, descriptors)` gives back how each ended.

import { createFileRegistry, fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";

const pairs = (headers) => (headers ? Object.fromEntries(headers.entries()) : {});

async function connect(service, registry, transport, method, request, headers) {
  const outcome = { code: "ok", message: "", replies: [], arrivals: 0 };
  const client = createClient(service, transport);
  const options = {
    headers,
    onHeader: (header) => (outcome.header = pairs(header)),
    onTrailer: (trailer) => (outcome.trailer = pairs(trailer)),
  };
  const { input, output, localName, methodKind } = service.method[method];
  const message = fromJson(input, request);
  try {
    if (methodKind === "unary") {
      outcome.replies.push(toJson(output, await client[localName](message, options), { registry }));
    } else {
      for await (const reply of client[localName](message, options)) {
        outcome.replies.push(toJson(output, reply, { registry }));
      }
    }
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    outcome.code = Code[error.code];
    outcome.message = error.rawMessage;
    outcome.details = error.details.map((detail) => detail.type);
  }
  return outcome;
}

async function grpcWeb(service, registry, edge, format, method, request, headers) {
  const outcome = { code: "ok", message: "", replies: [] };
  const { input, output, methodKind } = service.method[method];
  const client = new GrpcWebClientBase({ format });
  const url = `${edge}/${service.typeName}/${service.method[method].name}`;
  const descriptor = new MethodDescriptor(
    url,
    methodKind === "unary" ? MethodType.UNARY : MethodType.SERVER_STREAMING,
    Object,
    Object,
    (message) => toBinary(input, message),
    (bytes) => fromBinary(output, bytes),
  );
  const message = fromJson(input, request);
  const take = (reply) => outcome.replies.push(toJson(output, reply, { registry }));
  const fail = (error) => {
    outcome.code = Code[error.code];
    outcome.message = error.message;
  };
  if (methodKind === "unary") {
    await client.unaryCall(url, message, headers, descriptor).then(take, fail);
    return outcome;
  }
  await new Promise((resolve) => {
    const stream = client.serverStreaming(url, message, headers, descriptor);
    stream.on("data", take);
    stream.on("status", (status) => (outcome.trailer = status.metadata));
    stream.on("error", (error) => {
      fail(error);
      resolve();
    });
    stream.on("end", resolve);
  });
  return outcome;
}

window.make = async (edge, descriptors) => {
  const bytes = Uint8Array.from(atob(descriptors), (letter) => letter.charCodeAt(0));
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  const service = registry.getService("market.v1.Quotes");
  const transports = {
    connect: createConnectTransport({ baseUrl: edge, useBinaryFormat: true }),
    "connect, JSON": createConnectTransport({ baseUrl: edge, jsonOptions: { registry } }),
    "connect, GET": createConnectTransport({ baseUrl: edge, useHttpGet: true, jsonOptions: { registry } }),
    "grpc-web by connect-web": createGrpcWebTransport({ baseUrl: edge }),
  };
  const asked = [
    ["getQuote", { symbol: "ACME" }],
    ["streamQuotes", { symbol: "ACME", count: 3 }],
    ["getQuote", { symbol: "RICH" }],
  ];
  const outcomes = [];
  for (const [method, request] of asked) {
    const headers = { "x-colour": "blue" };
    for (const [client, transport] of Object.entries(transports)) {
      const outcome = await connect(service, registry, transport, method, request, headers);
      outcomes.push({ client, method, ...outcome });
    }
    for (const format of ["text", "binary"]) {
      if (format === "binary" && method === "streamQuotes") continue; // grpc-web streams in text only
      const outcome = await grpcWeb(service, registry, edge, format, method, request, headers);
      outcomes.push({ client: `grpc-web, ${format}`, method, ...outcome });
    }
  }
  return outcomes;
};
