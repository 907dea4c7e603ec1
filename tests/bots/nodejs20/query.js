// Answers /count, on a port or, where it is asked one question, in a file.
const { createServer } = require("node:http");
const { readFileSync, writeFileSync } = require("node:fs");

function count() {
  try {
    return JSON.parse(readFileSync(`${process.env.STATE_DIR}/count.json`));
  } catch {
    return 0;
  }
}

function answer(path) {
  const known = path === "/count";
  return [known, JSON.stringify(known ? { status: "ok", data: { count: count() } } : { status: "error", error: "No handler" })];
}

if (process.env.QUERY_PATH) {
  const [known, said] = answer(process.env.QUERY_PATH);
  writeFileSync("/query/result.json", said);
  process.exit(known ? 0 : 1);
}

createServer((request, response) => {
  const [known, said] = answer(new URL(request.url, "http://bot").pathname);
  response.writeHead(known ? 200 : 404, { "content-type": "application/json" });
  response.end(said);
}).listen(Number(process.env.THE0_QUERY_PORT ?? 9476), "127.0.0.1");
