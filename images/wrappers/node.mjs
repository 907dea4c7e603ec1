// Starts a JavaScript bot: `node node.mjs`, in the folder of its code.
//
// Calls the function the file SCRIPT_PATH exports, `module.exports = fn`, `.main` or `.default`, of a CommonJS or
// ES module, with (id, config), and awaits it. Exit code: 1 when it throws or rejects, when there is no function,
// or when BOT_CONFIG is not a JSON object; n for `process.exit(n)`. A bot that returns with timers or sockets
// open goes on running until they are closed. SIGTERM ends it unless it has a handler of its own. At its end
// `result.json` in the folder of the code tells how it went, the returned value in `data`, unless the bot or its
// SDK has written one; one left from an earlier run is removed first.

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const resultPath = path.join('/', process.env.CODE_MOUNT_DIR ?? 'bot', 'result.json');
let result = { status: 'success', message: 'the bot has run to its end' };

function storedResult() {
  try {
    return JSON.parse(fs.readFileSync(resultPath, 'utf8'));
  } catch {
    return undefined;
  }
}

function removeOldResult() {
  try {
    fs.rmSync(resultPath, { force: true });
  } catch (error) {
    say(`the0: an old result.json cannot be removed: ${error.code ?? error.message}`);
  }
}

function writeResult(given) {
  const code = process.exitCode ?? given; // Node sets 13 here for a main that waits when nothing can happen any more
  if (code !== 0 && result.status !== 'error') {
    const why = code === 13 ? ': main awaits a promise that nothing is left to settle' : '';
    result = { status: 'error', message: `the bot ended with code ${code}${why}` };
  }
  const stored = storedResult();
  // What the bot said stands, but a success it announced before it failed does not.
  if (stored !== undefined && !(stored?.status === 'success' && result.status === 'error')) return;
  try {
    fs.writeFileSync(resultPath, asJson(result));
  } catch (error) {
    say(`the0: result.json: ${error.code ?? error.message}`);
  }
}

function asJson(value) {
  try {
    return JSON.stringify(value);
  } catch { // what the bot returned cannot be said in JSON
    return JSON.stringify({ status: value.status, message: String(value.message ?? '') });
  }
}

function say(text) {
  try {
    fs.writeSync(2, `${text}\n`);
  } catch {
    // Standard error is full or gone; the exit code still tells.
  }
}

function fail(reason) {
  say(`the0: ${reason}`);
  result = { status: 'error', message: reason };
  process.exit(1);
}

function describe(error) {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

// Told of what nobody caught before Node prints it and exits.
function note(error) {
  result = { status: 'error', message: describe(error) };
}

function variable(name) {
  return process.env[name] || fail(`${name} is not set: a bot is started by the supervisor, which sets it`);
}

function readConfig() {
  let config;
  try {
    config = JSON.parse(process.env.BOT_CONFIG || '{}');
  } catch {
    fail('BOT_CONFIG is not JSON: give a JSON object'); // the engine's own message would quote it
  }
  if (config === null || typeof config !== 'object' || Array.isArray(config)) {
    fail('BOT_CONFIG is JSON but not an object: give a JSON object');
  }
  return config;
}

function exported(module) {
  const candidates = [module.default, module.default?.main, module.default?.default, module.main];
  return candidates.find((candidate) => typeof candidate === 'function');
}

async function load(script) {
  const file = path.resolve(script);
  if (!fs.existsSync(file)) fail(`the entrypoint ${script} is not in the bot's code`);
  process.argv[1] = file;
  const module = await import(pathToFileURL(file));
  return exported(module) ?? fail(`${script} exports no function: set module.exports = async function (id, config) { .. }`);
}

removeOldResult();
process.on('exit', writeResult);
process.on('uncaughtExceptionMonitor', note);

const [id, script, config] = [variable('BOT_ID'), variable('SCRIPT_PATH'), readConfig()];
try {
  const main = await load(script);
  const value = await main(id, config);
  if (typeof value?.status === 'string') result = value;
  else if (value !== undefined) result.data = value;
} catch (error) {
  note(error);
  say(error?.stack ?? describe(error));
  process.exit(1);
}
