// Answers /count.
const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");

function count() {
  try {
    return JSON.parse(readFileSync(`${process.env.STATE_DIR}/count.json`));
  } catch {
    return 0;
  }
}

createServer((request, response) => {
  const known = new URL(request.url, "http://bot").pathname === "/count";
  response.writeHead(known ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(known ? { status: "ok", data: { count: count() } } : { status: "error", error: "No handler" }));
}).listen(Number(process.env.THE0_QUERY_PORT ?? 9476), "127.0.0.1");
