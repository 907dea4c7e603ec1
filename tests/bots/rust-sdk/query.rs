//! Tells the count, and tries to write.

use serde_json::json;
use the0_sdk::{query, state};

fn main() {
    query::handler("/count", |request| {
        json!({"count": state::get_or("count", 0), "symbol": request.get_or("symbol", "none")})
    });
    query::handler("/set", |_| json!({"is_set": state::set("count", &8).is_ok()}));
    query::run();
}
