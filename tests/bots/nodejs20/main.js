// Counts: the count goes on where the last run ended.
const { mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");

const file = `${process.env.STATE_DIR}/count.json`;

function load() {
  try {
    return JSON.parse(readFileSync(file));
  } catch {
    return 0;
  }
}

exports.main = async (id, config) => {
  let count = load();
  console.log(`bot ${id} counts ${config.symbol} from ${count}`);
  process.on("SIGTERM", () => {
    console.log(`bot ${id} ends at ${count}`);
    process.exit(7);
  });
  mkdirSync(process.env.STATE_DIR, { recursive: true });
  for (;;) {
    count += 1;
    writeFileSync(file, JSON.stringify(count));
    await setTimeout(100);
  }
};
