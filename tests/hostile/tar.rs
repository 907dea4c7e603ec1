//! Writing tars byte by byte, so that every field may lie.

/// Which kind of header it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Magic {
    /// `ustar  \0`.
    Gnu,
    /// `ustar\000`, the one with a prefix.
    Ustar,
    /// None, as before 1988.
    Old,
}

/// One header with what follows it.
#[derive(Debug, Clone)]
pub struct Block {
    /// The letter of its kind.
    pub kind: u8,
    /// The field for the name.
    pub name: Vec<u8>,
    /// The field for where a link leads.
    pub link: Vec<u8>,
    /// What is in front of the name, in fields that only some headers have.
    pub prefix: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// The field for the size, where it is not the content's.
    pub size: Option<[u8; 12]>,
    /// Added to the checksum.
    pub error: u32,
    /// Its header's kind.
    pub magic: Magic,
    /// What follows.
    pub content: Vec<u8>,
}

impl Block {
    /// An honest one.
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            kind,
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            prefix: Vec::new(),
            mode: 0o644,
            size: None,
            error: 0,
            magic: Magic::Gnu,
            content: Vec::new(),
        }
    }

    /// A file.
    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self::new(b'0', name).with(content)
    }

    /// With this content.
    pub fn with(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = content.as_ref().to_vec();
        self
    }

    /// Leading there.
    pub fn to(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    /// Saying that it has so many bytes.
    pub fn sized(mut self, field: [u8; 12]) -> Self {
        self.size = Some(field);
        self
    }

    /// Its bytes, padded to whole blocks.
    pub fn bytes(&self) -> Vec<u8> {
        let mut header = [0; 512];
        let mut put = |at: usize, most: usize, text: &[u8]| {
            let text = &text[..text.len().min(most)];
            header[at..at + text.len()].copy_from_slice(text);
        };
        put(0, 100, &self.name);
        put(100, 8, format!("{:07o}", self.mode).as_bytes());
        put(108, 8, b"0001750");
        put(116, 8, b"0001750");
        put(124, 12, &self.size.unwrap_or(octal(self.content.len())));
        put(136, 12, b"11350000000");
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.link);
        match self.magic {
            Magic::Gnu => put(257, 8, b"ustar  \0"),
            Magic::Ustar => put(257, 8, b"ustar\x0000"),
            Magic::Old => {}
        }
        put(345, 155, &self.prefix);
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{:06o}\0", sum + self.error).as_bytes());
        let mut bytes = [&header[..], &self.content].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A size as it is usually written.
pub fn octal(size: usize) -> [u8; 12] {
    let mut field = [0; 12];
    field[..11].copy_from_slice(format!("{size:011o}").as_bytes());
    field
}

/// Headers and the two blocks of zeros at the end.
pub fn tar(blocks: &[Block]) -> Vec<u8> {
    let mut bytes: Vec<u8> = blocks.iter().flat_map(Block::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A record of a pax header, its length in front.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// A pax header about the entry after it (`x`) or all after it (`g`).
pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Block {
    let content: Vec<u8> = records
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect();
    Block::new(kind, "PaxHeaders/entry").with(content)
}

/// A GNU header with the name (`L`) or the link (`K`) of the entry after it.
pub fn long(kind: u8, text: &[u8]) -> Block {
    Block::new(kind, "././@LongLink").with([text, b"\0"].concat())
}
