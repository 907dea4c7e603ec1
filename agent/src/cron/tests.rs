//! The dialect as a table.
