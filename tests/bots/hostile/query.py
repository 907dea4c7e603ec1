"""The query program of the same bot: asked for /look, it looks for the same needles from where it runs."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import processes
import report
from needles import Needles
from report import Deadline, Tally


def look():
    needles, tally = Needles(json.loads(os.environ["BOT_CONFIG"]).get("needles", [])), Tally()
    for name, value in os.environb.items():
        needles.look(value, "environment", name.decode())
    processes.look(needles, tally, Deadline(20))
    return {"found": needles.found, "looked": tally.counts, "environment": sorted(os.environ)}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.split("?")[0] != "/look":
            return self.send_error(404)
        body = json.dumps({"status": "ok", "data": look()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    report.quiet = True
    HTTPServer(("127.0.0.1", int(os.environ.get("THE0_QUERY_PORT", "9476"))), Answers).serve_forever()
