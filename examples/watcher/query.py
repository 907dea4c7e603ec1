"""Answers questions about the watcher while it runs.

The protocol by hand, to show that it is small: an HTTP server on THE0_QUERY_PORT, a path per question, answers as
`{"status": "ok", "data": ..}`. With the SDK the whole file is two functions with `@query.handler("/prices")` and
`@query.handler("/alerts")`, and `query.run()`.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


def state():
    try:
        with open(os.path.join(os.environ["STATE_DIR"], "watch.json"), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"seen": 0, "symbols": {}, "alerts": []}


def prices(params):
    symbols = state()["symbols"]
    return {params["symbol"]: symbols[params["symbol"]]} if "symbol" in params else symbols


def alerts(params):
    return state()["alerts"][-int(params.get("limit", 10)):]


QUESTIONS = {
    "/prices": prices,
    "/alerts": alerts,
    "/health": lambda params: None,
    "/info": lambda params: {"available_queries": list(QUESTIONS)},
}


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        url = urlsplit(self.path)
        if url.path not in QUESTIONS:
            return self.send(404, {"status": "error", "error": f"No handler for path: {url.path}", "available": list(QUESTIONS)})
        try:
            # The same parameters also come as a JSON body; an SDK reads one or the other.
            data = QUESTIONS[url.path](dict(parse_qsl(url.query)))
        except Exception as error:
            return self.send(500, {"status": "error", "error": f"{type(error).__name__}: {error}"})
        return self.send(200, {"status": "ok"} if data is None else {"status": "ok", "data": data})

    do_GET = do_POST

    def send(self, code, body):
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(os.environ.get("THE0_QUERY_PORT", "9476"))
    ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
