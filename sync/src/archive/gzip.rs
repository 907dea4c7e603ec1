//! A gzip member that says in its header what it holds and how long it is.
//!
//! RFC 1952 lets a header carry fields that readers pass over. Ours is the only one, `SI1 SI2` = `t0`, 20 bytes: what
//! the member holds ([`Id`], 16 bytes) and the length of the whole member (4 bytes, little endian). By these an index
//! of an archive is rebuilt without unpacking it.

use std::io;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use super::plan::Id;

/// Bytes of a member's header: ten that every gzip has, two for the length of the extra fields, and our field.
pub(super) const HEADER: usize = 12 + FIELD.len() + VALUE;
/// The beginning of our field: its name, and the length of its value.
const FIELD: [u8; 4] = [b't', b'0', 20, 0];
const VALUE: usize = 20;
/// Where the value begins.
const AT: usize = HEADER - VALUE;
/// What every member begins with: deflate, extra fields and nothing else, no time, quickly compressed, no system.
const START: [u8; 12] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 24, 0];

/// Begins a member in `buffer`, which is emptied.
pub(super) fn begin(mut buffer: Vec<u8>) -> GzEncoder<Vec<u8>> {
    buffer.clear();
    let extra = [&FIELD[..], &[0; VALUE]].concat();
    GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .extra(extra)
        .write(buffer, Compression::new(3))
}

/// Ends a member and gives its bytes and their number.
pub(super) fn end(gzip: GzEncoder<Vec<u8>>, id: Id) -> io::Result<(Vec<u8>, u32)> {
    let mut bytes = gzip.finish()?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let value = &mut bytes[AT..HEADER];
    value[..16].copy_from_slice(&id.0.to_le_bytes());
    value[16..].copy_from_slice(&length.to_le_bytes());
    Ok((bytes, length))
}

/// What a member's header says; `None` if it is not one of ours.
pub(super) fn parse(header: &[u8; HEADER]) -> Option<(Id, u32)> {
    let ours = header.starts_with(&START) && header[START.len()..].starts_with(&FIELD);
    let (mut id, mut length) = ([0; 16], [0; 4]);
    id.copy_from_slice(&header[AT..AT + 16]);
    length.copy_from_slice(&header[AT + 16..]);
    let length = u32::from_le_bytes(length);
    (ours && length as usize > HEADER).then(|| (Id(u128::from_le_bytes(id)), length))
}
