"""Starts a Python bot: `python3 python.py`, in the folder of its code.

Calls `main(id, config)` of the file SCRIPT_PATH names, on the main thread, so that the bot can set signal
handlers and use asyncio. An `async def main` is awaited. What the bot writes on standard output leaves line by
line. Exit code: 0 when main returns, n for `sys.exit(n)`, 1 for an exception, a bot that cannot be imported or a
BOT_CONFIG that is not a JSON object. Afterwards `result.json` in the folder of the code tells how it went,
unless the bot or its SDK has written one; one left from an earlier run is removed first.
"""

import importlib.util
import inspect
import json
import os
import sys
import traceback


def fail(reason):
    print(f"the0: {reason}", file=sys.stderr, flush=True)
    write_result({"status": "error", "message": reason})
    sys.exit(1)


def result_path():
    return "/" + os.environ.get("CODE_MOUNT_DIR", "bot").strip("/") + "/result.json"


def stored_result():
    try:
        with open(result_path(), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def remove_old_result():
    try:
        os.remove(result_path())
    except FileNotFoundError:
        pass
    except OSError as error:
        print(f"the0: an old result.json cannot be removed: {error.strerror}", file=sys.stderr, flush=True)


def write_result(result):
    stored = stored_result()
    success = isinstance(stored, dict) and stored.get("status") == "success"
    # What the bot said stands, but a success it announced before it failed does not.
    if stored is not None and not (success and result["status"] == "error"):
        return
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError):  # what the bot returned cannot be said in JSON
        text = json.dumps({"status": result["status"], "message": str(result.get("message", ""))})
    try:
        with open(result_path(), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"the0: result.json: {error.strerror}", file=sys.stderr, flush=True)


def read_config():
    try:
        config = json.loads(os.environ.get("BOT_CONFIG") or "{}")
    except ValueError as error:
        at = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        fail(f"BOT_CONFIG is not JSON{at}: give a JSON object")
    if not isinstance(config, dict):
        fail("BOT_CONFIG is JSON but not an object: give a JSON object")
    return config


def report_exception(what):
    kind, error, frames = sys.exc_info()
    own = {os.path.abspath(__file__), "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
    while frames and frames.tb_frame.f_code.co_filename in own and frames.tb_next:
        frames = frames.tb_next
    sys.stdout.flush()
    traceback.print_exception(kind, error, frames)
    sys.stderr.flush()
    write_result({"status": "error", "message": f"{what}{kind.__name__}: {error}"})
    sys.exit(1)


def load(script):
    code = os.getcwd()
    path = os.path.abspath(script)
    sys.path = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]
    for folder in (os.path.dirname(path), code, os.path.join(code, "vendor")):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    sys.argv = [path]
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or not os.path.isfile(path):
        fail(f"the entrypoint {script} is not a Python file of the bot's code")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        report_exception(f"{script} cannot be imported: ")
    if not callable(getattr(module, "main", None)):
        fail(f"{script} has no function main(id, config): define one, it is where the bot starts")
    return module.main


def call(main, bot_id, config):
    try:
        value = main(bot_id, config)
        if inspect.isawaitable(value):
            import asyncio

            async def awaited():
                return await value

            value = asyncio.run(awaited())
        return value
    except Exception:
        report_exception("")


def finish(value):
    if isinstance(value, dict) and isinstance(value.get("status"), str):
        return write_result(value)
    result = {"status": "success", "message": "the bot has run to its end"}
    if value is not None:
        result["data"] = value
    return write_result(result)


def run():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    remove_old_result()
    script, bot_id = os.environ.get("SCRIPT_PATH"), os.environ.get("BOT_ID")
    for name, value in (("SCRIPT_PATH", script), ("BOT_ID", bot_id)):
        if not value:
            fail(f"{name} is not set: a bot is started by the supervisor, which sets it")
    config = read_config()
    try:
        finish(call(load(script), bot_id, config))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code:
            write_result({"status": "error", "message": f"the bot ended with code {code}"})
        else:
            write_result({"status": "success", "message": "the bot has ended itself"})
        raise


if __name__ == "__main__":
    run()
