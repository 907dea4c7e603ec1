"""A price watcher: polls the feed, keeps highs, lows and alerts, prints metrics.

What is under STATE_DIR is saved within a second and is there again wherever the bot is started next. With the
SDK (`pip install the0-sdk`) `load` and `save` are `state.get` and `state.set`.
"""

import json
import os
import time
import urllib.request

STATE = os.path.join(os.environ["STATE_DIR"], "watch.json")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the feed is on this machine: no proxy


def load():
    try:
        with open(STATE, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"seen": 0, "symbols": {}, "alerts": []}


def save(state):
    """Aside and renamed: a query, and a kill in the middle, sees the old state or the new one."""
    os.makedirs(os.path.dirname(STATE), exist_ok=True)
    with open(STATE + ".tmp", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(STATE + ".tmp", STATE)


def ask(feed):
    try:
        with DIRECT.open(feed, timeout=3) as answer:
            return json.load(answer)
    except OSError as error:
        print(f"the feed does not answer ({error}), trying again", flush=True)
        return {}


def watch(state, prices, alert_percent):
    for symbol, price in prices.items():
        known = state["symbols"].setdefault(symbol, {"low": price, "high": price, "last": price})
        change = 100 * (price / known["last"] - 1)
        known.update(low=min(known["low"], price), high=max(known["high"], price), last=price)
        # A line with `_metric` is a data point for the platform's dashboards.
        print(json.dumps({"_metric": "price", "symbol": symbol, "value": price, "change_pct": round(change, 3)}))
        if abs(change) >= alert_percent:
            alert = {"symbol": symbol, "change_pct": round(change, 3), "price": price, "at": int(time.time())}
            state["alerts"] = [*state["alerts"][-99:], alert]
            print(f"ALERT {symbol} moved {change:+.2f} % to {price:.2f}")
    state["seen"] += bool(prices)


def main(id, config):
    state = load()
    print(f"{id}: going on after {state['seen']} looks at the market")
    while True:
        watch(state, ask(config["feed"]), config["alert_percent"])
        save(state)
        time.sleep(config["every_seconds"])
