//! The images.
