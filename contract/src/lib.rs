//! What two of the programs must agree on: names, documents and files. No clients, no policy.
//!
//! ```text
//!            launch (variables or a document on stdin)
//!   agent ─────────────────────────────────────────────▶ supervisor
//!     ▲                                                   │  ▲
//!     │ status.json  runs.jsonl  query.json               │  │ synced.json
//!     └───────────── /var/the0 ◀──────────────────────────┘  │
//!                        │ done  done.json  logs/            │
//!                        └───────────────▶ sync ─────────────┘
//! ```
//!
//! Programs talk through files because files work across the containers of a Pod, survive each of the
//! programs, and can be looked at by a person. Each file has one writer, and is replaced whole
//! ([`file::replace`]) or appended to by lines, so a reader never sees half of one.

pub mod exit;
pub mod file;
pub mod id;
pub mod journal;
pub mod last_words;
pub mod launch;
pub mod logs;
pub mod params;
pub mod paths;
pub mod record;
pub mod result;
pub mod runtime;
pub mod secret;
pub mod stage;
pub mod vars;

pub use id::{BotId, Digest, ObjectKey};
pub use launch::{BotType, Launch, LaunchError};
pub use paths::Paths;
pub use runtime::Runtime;
pub use secret::Secret;
