//! `agent backup` and `agent restore`.
