"""Speaks and listens at once over HTTP/1.1 (by hand) or HTTP/2 (with h2), which curl cannot. Reads a JSON plan from stdin, writes
what happened as JSON.

A plan: {"version": "1.1" | "2", "address": "host:port", "path", "headers": [[k, v]...], "steps": [...]}
Steps: {"say": text}, {"hear": lines}, {"end": true}; at the end all is heard that still comes.
An outcome: {"status", "headers": {...}, "lines": [...], "end": "complete" | "broken", "trailers": {...}}
"""

import json
import socket
import sys

import h2.config
import h2.connection
import h2.events
import h2.exceptions


class First:
    """HTTP/1.1 with chunks."""

    def __init__(self, stream, plan):
        self.stream, self.body, self.status, self.ended = stream, b"", None, None
        self.headers, self.trailers, self.raw, self.chunks = {}, {}, b"", b""
        head = [f"POST {plan['path']} HTTP/1.1", "host: x", "transfer-encoding: chunked"]
        head += [f"{k}: {v}" for k, v in plan["headers"]]
        stream.sendall(("\r\n".join(head) + "\r\n\r\n").encode())

    def say(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self):
        self.send(b"0\r\n\r\n")

    def send(self, data):
        try:
            self.stream.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer is there already

    def step(self):
        data = self.stream.recv(65536)
        self.raw += data
        if self.status is None and b"\r\n\r\n" in self.raw:
            head, self.raw = self.raw.split(b"\r\n\r\n", 1)
            first, *lines = head.decode().split("\r\n")
            self.status = int(first.split()[1])
            self.headers = dict(line.split(": ", 1) for line in lines)
        if self.status is not None and "content-length" in self.headers:
            self.body, self.raw = self.body + self.raw, b""
            if len(self.body) >= int(self.headers["content-length"]):
                self.ended = "complete"
        while self.status is not None and b"\r\n" in self.raw and self.ended is None:
            size, rest = self.raw.split(b"\r\n", 1)
            size = int(size, 16)
            if size == 0:
                if b"\r\n" not in rest:
                    break
                lines = rest.decode().split("\r\n\r\n")[0].split("\r\n")
                self.trailers = dict(line.split(": ", 1) for line in lines if line)
                self.ended = "complete"
            elif len(rest) < size + 2:
                break
            else:
                self.body += rest[:size]
                self.raw = rest[size + 2 :]
        if not data and self.ended is None:
            self.ended = "broken"


class Second:
    """HTTP/2."""

    def __init__(self, stream, plan):
        self.stream, self.body, self.status, self.ended = stream, b"", None, None
        self.headers, self.trailers = {}, {}
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        head = [(":method", "POST"), (":path", plan["path"]), (":scheme", "http"), (":authority", "x")]
        self.connection.send_headers(1, head + [tuple(pair) for pair in plan["headers"]])
        self.flush()

    def flush(self):
        self.stream.sendall(self.connection.data_to_send())

    def say(self, data):
        while data and self.ended is None:
            room = min(self.connection.local_flow_control_window(1), 16384)
            if room <= 0:
                self.step()
                continue
            try:
                self.connection.send_data(1, data[:room])
            except h2.exceptions.StreamClosedError:
                return
            data = data[room:]
            self.flush()

    def end(self):
        if self.ended is None:
            try:
                self.connection.end_stream(1)
            except h2.exceptions.StreamClosedError:
                return
            self.flush()

    def step(self):
        data = self.stream.recv(65536)
        if not data:
            self.ended = self.ended or "broken"
            return
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers = dict(event.headers)
                self.status = int(self.headers.pop(":status"))
            elif isinstance(event, h2.events.DataReceived):
                self.body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers = dict(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = "complete"
            elif isinstance(event, h2.events.StreamReset):
                self.ended = self.ended or "broken"
        self.flush()


def main(plan):
    host, port = plan["address"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as stream:
        talk = (Second if plan["version"] == "2" else First)(stream, plan)
        wanted = 0
        for step in plan["steps"]:
            if "say" in step:
                talk.say(step["say"].encode())
            elif "end" in step:
                talk.end()
            elif "hear" in step:
                wanted += step["hear"]
                while talk.body.count(b"\n") < wanted and talk.ended is None:
                    talk.step()
        while talk.ended is None:
            talk.step()
        return {
            "status": talk.status,
            "headers": talk.headers,
            "lines": talk.body.decode().splitlines(),
            "end": talk.ended,
            "trailers": talk.trailers,
        }


json.dump(main(json.load(sys.stdin)), sys.stdout)
