//! Writing zips byte by byte, so that both headers of an entry, and the end, may lie.

use std::io::Write;

/// What the local and the central header of an entry both say.
#[derive(Debug, Clone)]
pub struct Said {
    /// The name.
    pub name: Vec<u8>,
    /// Bit 0: encrypted; 3: sizes follow the data; 11: the name is UTF-8.
    pub flags: u16,
    /// 0: stored, 8: deflated.
    pub method: u16,
    /// Time of the day, in the format's own way.
    pub time: u16,
    /// Checksum of the content.
    pub crc: u32,
    /// Bytes in the archive.
    pub packed: u32,
    /// Bytes of the content.
    pub size: u32,
    /// Extra fields.
    pub extra: Vec<u8>,
}

impl Said {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for short in [self.flags, self.method, self.time, 0x21] {
            out.extend(short.to_le_bytes());
        }
        for long in [self.crc, self.packed, self.size] {
            out.extend(long.to_le_bytes());
        }
        for length in [self.name.len(), self.extra.len()] {
            out.extend(u16::try_from(length).expect("fits").to_le_bytes());
        }
        out
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Zipped {
    /// In front of the data.
    pub local: Said,
    /// In the list at the end.
    pub central: Said,
    /// As it is in the archive.
    pub data: Vec<u8>,
    /// What follows the data.
    pub after: Vec<u8>,
    /// Kind and permissions, as Unix has them.
    pub mode: u32,
    /// What wrote it; 3 is Unix.
    pub system: u8,
    /// Where the list says that it begins, where it does not begin there.
    pub start: Option<u32>,
}

/// A stored entry.
pub fn stored(name: impl AsRef<[u8]>, mode: u32, content: &[u8]) -> Zipped {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let size = u32::try_from(content.len()).expect("fits");
    let said = Said {
        name: name.as_ref().to_vec(),
        flags: 0,
        method: 0,
        time: 0,
        crc: crc.sum(),
        packed: size,
        size,
        extra: Vec::new(),
    };
    Zipped {
        local: said.clone(),
        central: said,
        data: content.to_vec(),
        after: Vec::new(),
        mode,
        system: 3,
        start: None,
    }
}

/// A deflated entry.
pub fn deflated(name: impl AsRef<[u8]>, mode: u32, content: &[u8]) -> Zipped {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(content).expect("memory takes all");
    let data = deflate.finish().expect("memory takes all");
    let packed = u32::try_from(data.len()).expect("fits");
    stored(name, mode, content)
        .both(|said| {
            said.method = 8;
            said.packed = packed;
        })
        .holding(data)
}

impl Zipped {
    /// With both headers changed.
    pub fn both(mut self, change: impl Fn(&mut Said)) -> Self {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    /// With this data.
    pub fn holding(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    /// With sizes and checksum after the data instead of before it, as who writes a stream does.
    pub fn described(mut self) -> Self {
        let said = self.local.clone();
        self = self.both(|said| said.flags |= 8);
        (self.local.crc, self.local.packed, self.local.size) = (0, 0, 0);
        self.after = descriptor(said.crc, said.packed, said.size);
        self
    }

    fn local_bytes(&self) -> Vec<u8> {
        let head = b"PK\x03\x04\x14\x00".as_slice();
        let (said, local) = (self.local.bytes(), &self.local);
        [
            head,
            &said,
            &local.name,
            &local.extra,
            &self.data,
            &self.after,
        ]
        .concat()
    }

    fn central_bytes(&self, start: u32) -> Vec<u8> {
        let mut out = vec![b'P', b'K', 1, 2, 0x14, self.system, 0x14, 0];
        out.extend(self.central.bytes());
        out.extend([0; 6]);
        out.extend((self.mode << 16).to_le_bytes());
        out.extend(self.start.unwrap_or(start).to_le_bytes());
        out.extend(&self.central.name);
        out.extend(&self.central.extra);
        out
    }
}

/// What follows the data of an entry whose sizes do.
pub fn descriptor(crc: u32, packed: u32, size: u32) -> Vec<u8> {
    let mut out = b"PK\x07\x08".to_vec();
    for long in [crc, packed, size] {
        out.extend(long.to_le_bytes());
    }
    out
}

/// An extra field.
pub fn extra(id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("fits");
    [&id.to_le_bytes()[..], &length.to_le_bytes(), content].concat()
}

/// The extra field that gives a name in UTF-8 instead of `name`.
pub fn unicode_path(name: &[u8], instead: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    extra(
        0x7075,
        &[&[1], &crc.sum().to_le_bytes()[..], instead].concat(),
    )
}

/// The parts of a zip, to be put together honestly or not.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Entries' own headers and data.
    pub locals: Vec<u8>,
    /// The list of entries.
    pub list: Vec<u8>,
    /// How many there are.
    pub count: u16,
    /// What is between the list and the end record.
    pub before_end: Vec<u8>,
    /// The comment at the end.
    pub comment: Vec<u8>,
}

impl Parts {
    /// Of these entries.
    pub fn of(entries: &[Zipped]) -> Self {
        let (mut locals, mut list) = (Vec::new(), Vec::new());
        for entry in entries {
            let start = u32::try_from(locals.len()).expect("fits");
            list.extend(entry.central_bytes(start));
            locals.extend(entry.local_bytes());
        }
        Self {
            locals,
            list,
            count: u16::try_from(entries.len()).expect("fits"),
            before_end: Vec::new(),
            comment: Vec::new(),
        }
    }

    /// The record at the end, without its comment.
    pub fn end(&self) -> Vec<u8> {
        let long = |n: usize| u32::try_from(n).expect("fits").to_le_bytes();
        let mut out = b"PK\x05\x06\0\0\0\0".to_vec();
        out.extend(self.count.to_le_bytes());
        out.extend(self.count.to_le_bytes());
        out.extend(long(self.list.len()));
        out.extend(long(self.locals.len()));
        out.extend(
            u16::try_from(self.comment.len())
                .expect("fits")
                .to_le_bytes(),
        );
        out
    }

    /// The record for archives too large for the other, with what says where it is.
    pub fn end64(&self) -> Vec<u8> {
        let long = |n: usize| (n as u64).to_le_bytes();
        let mut out = b"PK\x06\x06".to_vec();
        out.extend(long(44));
        out.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend(long(usize::from(self.count)));
        out.extend(long(usize::from(self.count)));
        out.extend(long(self.list.len()));
        out.extend(long(self.locals.len()));
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(long(self.locals.len() + self.list.len()));
        out.extend([1, 0, 0, 0]);
        out
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let end = self.end();
        [
            &self.locals[..],
            &self.list,
            &self.before_end,
            &end,
            &self.comment,
        ]
        .concat()
    }
}

/// A zip of these entries.
pub fn zip(entries: &[Zipped]) -> Vec<u8> {
    Parts::of(entries).bytes()
}
