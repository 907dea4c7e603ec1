//! A bot that is none: for what an engine makes before it is anybody's, or only to see whether it could.

use contract::Runtime;
use serde_json::json;

use crate::document::Bot;

/// One of this id, with a query program. `None` if the id is none.
pub fn blank(id: &str, runtime: Runtime) -> Option<Bot> {
    let document = json!({
        "id": id, "config": {},
        "custom": {"filePath": id, "config": {
            "name": id, "type": "realtime", "runtime": runtime.to_string(), "version": "0",
            "entrypoints": {"bot": "none", "query": "none"}}}
    });
    Bot::from_document(&document).ok()
}
