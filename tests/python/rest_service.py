"""market.v1.Quotes as an HTTP service with Python's own server: JSON by hand, and nothing of protobuf or gRPC.

Symbols decide what it does: GONE, BROKEN and PLAIN fail in three ways, HTML answers with no JSON, EMPTY with nothing, ODD
with JSON that is no quote; streams come in the framing the symbol names: ARRAY, EVENTS, CUT (an array that breaks off), or
one a line. Tells on stdout, one JSON object a line, what it was asked.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Quotes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def tell(self, body=None):
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        print(json.dumps({"event": "call", "method": self.command, "target": self.path, "headers": headers, "body": body}), flush=True)

    def answer(self, status, content_type, body, **headers):
        body = body.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.tell()
        url = urlsplit(self.path)
        parts = url.path.split("/")
        query = parse_qs(url.query)
        if url.path == "/v1/quotes":
            listed = [{"symbol": symbol} for symbol in query.get("symbols", [])]
            return self.answer(200, "application/json", json.dumps({"quotes": listed, "nextPageToken": query.get("pageSize", [""])[0]}))
        symbol = parts[-1]
        if symbol.endswith(":stream"):
            return self.stream(symbol.removesuffix(":stream"), int(query.get("count", ["3"])[0]))
        match symbol:
            case "GONE":
                self.answer(404, "application/json", '{"code": 5, "message": "no such thing", "details": [{"@type": "type.googleapis.com/google.protobuf.Duration", "value": "7s"}]}')
            case "BROKEN":
                self.answer(503, "application/problem+json", '{"title": "Later", "detail": "come back later"}')
            case "PLAIN":
                self.answer(403, "text/plain", "go away")
            case "HTML":
                self.answer(200, "text/html", "<html>")
            case "EMPTY":
                self.answer(204, "application/json", "")
            case "ODD":
                self.answer(200, "application/json", '{"symbol": {"nested": true}}')
            case _:
                self.answer(200, "application/json; charset=utf-8", json.dumps({"symbol": symbol, "bid": 1.5, "new": 1}), x_app_initial="first")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self.tell(body)
        self.answer(201, "application/json", json.dumps({"id": "1", "request": json.loads(body)}))

    def stream(self, framing, count):
        messages = [json.dumps({"symbol": framing, "sequence": str(number)}) for number in range(1, count + 1)]
        match framing:
            case "ARRAY":
                content_type, body = "application/json", "[" + ", ".join(messages) + "]"
            case "CUT":
                content_type, body = "application/json", "[" + ", ".join(messages)
            case "EVENTS":
                content_type = "text/event-stream"
                body = ": hello\n\n" + "".join(f"id: {message}\ndata: {message}\n\n" for message in messages)
            case "FAILS":
                content_type = "application/x-ndjson"
                body = "\n".join(messages) + '\n{"error": {"code": 14, "message": "worn out"}}\n'
            case _:
                content_type, body = "application/x-ndjson", "\n".join(messages)
        self.answer(200, content_type, body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Quotes)
print(f"ready 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
