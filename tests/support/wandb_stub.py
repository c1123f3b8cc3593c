"""A W&B server on loopback that takes whatever it is given, so that W&B's own reader can run."""

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """What came is in ``asked`` (GraphQL: operation, variables) and ``sent`` (path -> bytes)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.sent, self.streamed = [], {}, []

    def handle_error(self, *_):
        pass  # a client that ends leaves its connections

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def variables(self, operation):
        return [variables for name, variables in self.asked if name == operation]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_PUT(self):
        self.server.sent[self.path.removeprefix("/up/")] = self._body()
        self._answer({})

    def do_POST(self):
        body = self._body()
        if self.path.endswith("/file_stream"):
            self.server.streamed.append(json.loads(body))
            self._answer({})
        else:
            asked = json.loads(body)
            name = asked["query"].split("(")[0].split("{")[0].split()[-1]
            variables = asked.get("variables") or {}
            self.server.asked.append((name, variables))
            self._answer({"data": self._data(name, variables)})

    def do_GET(self):
        self._answer({})

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _upload(self, name):
        return {"id": "f", "uploadUrl": f"{self.server.url}/up/{name}", "uploadHeaders": []}

    def _data(self, name, given):
        entity = {"id": "e", "name": "somebody"}
        project = {"id": "p", "internalId": "p", "name": "enginebench", "entity": entity}
        project |= {
            "entityName": "somebody",
            "user": None,
            "createdAt": "2026-01-01T00:00:00Z",
            "isBenchmark": False,
        }
        manifest = {"artifactManifest": {"id": "m", "file": self._upload("manifest")}}
        if name == "UpsertBucket":
            bucket = {"id": "r", "name": given.get("name"), "displayName": "", "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": f} | self._upload(f"run/{f}") for f in given["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if name == "CreateArtifact":
            sequence = {"id": "s", "latestArtifact": None}
            made = {"id": given["input"]["artifactCollectionName"], "state": "PENDING"}
            return {"createArtifact": {"artifact": made | {"artifactSequence": sequence}}}
        if name == "CreateArtifactFiles":
            nodes = [
                self._upload(f"{f['artifactID']}/{f['name']}") | {"artifact": {"id": "a"}}
                for f in given["input"]["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": n} for n in nodes]}}}
        viewer = {"id": "u", "entity": "somebody", "username": "somebody", "flags": "{}"}
        page = {"endCursor": None, "hasNextPage": False}
        view = {"id": "v", "name": "v", "displayName": "", "type": "runs", "project": project}
        return {
            "CreateArtifactManifest": {"createArtifactManifest": manifest},
            "UpdateArtifactManifest": {"updateArtifactManifest": manifest},
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
            "GetDefaultEntity": {"viewer": viewer},
            "Viewer": {"viewer": viewer | {"teams": {"edges": []}}},
            "ArtifactType": {"project": None},
            "GetProjects": {
                "models": {"edges": [{"node": project, "cursor": ""}], "pageInfo": page}
            },
            "upsertView": {"upsertView": {"view": view}},
        }.get(name, {})


@contextmanager
def serving():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
