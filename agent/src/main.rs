//! x
#![allow(dead_code)]
mod document; mod launch; mod pack; mod plan; mod store;
fn main() {}
