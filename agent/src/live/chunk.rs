//! What a bot prints, piece by piece, becomes chunks of whole lines; what the programs around it say on the same standard
//! error is left out. Pure.

use contract::journal;

/// A line that is longer is cut.
pub const LONGEST: usize = 256 << 10;
/// Bytes of a chunk before it is sent; a last line may make it longer.
pub const FULL: usize = 128 << 10;

/// Whole lines that are sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// When the last of them was printed, as the daemon has it.
    pub until: String,
    /// The lines, each with its end.
    pub text: Vec<u8>,
    /// How many of them were cut.
    pub cut: u64,
}

/// Lines that are being gathered.
#[derive(Debug)]
pub struct Lines {
    /// The longest line, in bytes.
    longest: usize,
    text: Vec<u8>,
    until: String,
    cut: u64,
    /// The line of each source whose end has not come.
    open: [Open; SOURCES.len()],
}

/// A line whose end has not come.
#[derive(Debug, Default)]
struct Open {
    /// As much of it as is kept.
    kept: Vec<u8>,
    /// How long it really is.
    length: usize,
    since: String,
}

/// Where something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output: the bot's only.
    Output,
    /// Standard error: the bot's, and that of the programs around it.
    Error,
    /// One or the other, where they are kept as one.
    Either,
}

/// All of them.
const SOURCES: [Source; 3] = [Source::Output, Source::Error, Source::Either];

impl Lines {
    /// None yet. Lines over `longest` bytes are cut.
    pub fn new(longest: usize) -> Self {
        Self {
            longest,
            text: Vec::new(),
            until: String::new(),
            cut: 0,
            open: Default::default(),
        }
    }

    /// Takes in what was printed at `stamp`.
    pub fn push(&mut self, source: Source, stamp: &str, printed: &[u8]) {
        for part in printed.split_inclusive(|byte| *byte == b'\n') {
            let open = &mut self.open[source as usize];
            if open.length == 0 {
                stamp.clone_into(&mut open.since);
            }
            let (content, is_whole) = match part.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (part, false),
            };
            let room = self.longest.saturating_sub(open.kept.len());
            open.kept
                .extend_from_slice(&content[..content.len().min(room)]);
            open.length += content.len();
            if is_whole {
                self.end(source);
            }
        }
    }

    /// The line is whole.
    fn end(&mut self, source: Source) {
        let line = std::mem::take(&mut self.open[source as usize]);
        if source != Source::Output && journal::is_ours(&line.kept) {
            return;
        }
        self.text.extend_from_slice(&line.kept);
        if line.length > line.kept.len() {
            let more = line.length - line.kept.len();
            let marker = format!(" [cut: {more} more bytes]");
            self.text.extend_from_slice(marker.as_bytes());
            self.cut += 1;
        }
        self.text.push(b'\n');
        self.until = line.since;
    }

    /// Nothing more comes: a line without an end is one.
    pub fn finish(&mut self) {
        for source in SOURCES {
            if self.open[source as usize].length > 0 {
                self.end(source);
            }
        }
    }

    /// Whether no line is whole.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether there is enough to send.
    pub fn is_full(&self) -> bool {
        self.text.len() >= FULL.min(self.longest)
    }

    /// The whole lines there are.
    pub fn take(&mut self) -> Option<Chunk> {
        let chunk = Chunk {
            until: self.until.clone(),
            text: std::mem::take(&mut self.text),
            cut: std::mem::take(&mut self.cut),
        };
        (!chunk.text.is_empty()).then_some(chunk)
    }
}

/// The subject of a bot's lines.
pub fn subject(bot: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = bot
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    format!("the0.bot.logs.{name}")
}

/// What the daemon puts in front of each piece: when it was printed.
pub fn stamped(piece: &[u8]) -> Option<(&str, &[u8])> {
    let end = piece.iter().position(|byte| *byte == b' ')?;
    let stamp = std::str::from_utf8(&piece[..end]).ok()?;
    let is_time = stamp.len() >= 20 && stamp.ends_with('Z') && stamp.as_bytes()[10] == b'T';
    is_time.then_some((stamp, &piece[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(chunk: Option<Chunk>) -> String {
        chunk.map_or(String::new(), |chunk| {
            String::from_utf8(chunk.text).unwrap()
        })
    }

    #[test]
    fn only_whole_lines_leave_in_the_order_they_came() {
        let mut lines = Lines::new(LONGEST);
        lines.push(Source::Output, "1", b"a\nb");
        assert_eq!(text(lines.take()), "a\n");
        assert_eq!(lines.take(), None);
        lines.push(Source::Output, "2", b"");
        lines.push(Source::Output, "3", b"c\n");
        lines.push(Source::Output, "4", b"\n");
        let chunk = lines.take().unwrap();
        assert_eq!(
            (chunk.text.as_slice(), chunk.until.as_str()),
            (&b"bc\n\n"[..], "4")
        );
        lines.push(Source::Output, "5", b"end");
        assert_eq!(lines.take(), None);
        lines.finish();
        lines.finish();
        assert_eq!(text(lines.take()), "end\n");
    }

    #[test]
    fn a_chunk_ends_at_the_time_its_last_line_began() {
        let mut lines = Lines::new(LONGEST);
        lines.push(Source::Output, "1", b"a\n");
        lines.push(Source::Output, "2", b"long ");
        assert_eq!(lines.take().unwrap().until, "1");
        lines.push(Source::Output, "3", b"line\n");
        assert_eq!(lines.take().unwrap().until, "2");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_with_a_marker_and_counted() {
        let mut lines = Lines::new(8);
        for _ in 0..5 {
            lines.push(Source::Output, "1", b"12345");
        }
        lines.push(Source::Output, "1", b"\n12345678\n");
        let chunk = lines.take().unwrap();
        assert_eq!(chunk.cut, 1);
        assert_eq!(
            text(Some(chunk)),
            "12345123 [cut: 17 more bytes]\n12345678\n"
        );
        assert!(lines.is_empty());
    }

    #[test]
    fn what_is_around_the_bot_is_left_out_and_its_two_outputs_do_not_mix() {
        let mut lines = Lines::new(LONGEST);
        let ours = b"2026-11-21T07:52:48.123Z supervisor info: run 1\n";
        lines.push(Source::Error, "1", ours);
        lines.push(Source::Output, "2", b"half ");
        lines.push(Source::Error, "3", b"Traceback\n");
        lines.push(Source::Output, "4", b"a line\n");
        lines.push(Source::Output, "5", ours);
        let expected = format!("Traceback\nhalf a line\n{}", String::from_utf8_lossy(ours));
        assert_eq!(text(lines.take()), expected);
    }

    #[test]
    fn any_split_of_the_pieces_gives_the_same_lines() {
        let whole: Vec<u8> = (0..2000_u32)
            .map(|n| {
                if n % 7 == 0 || n % 31 == 0 {
                    b'\n'
                } else {
                    b'a' + (n % 26) as u8
                }
            })
            .collect();
        for size in 1..40 {
            let mut lines = Lines::new(LONGEST);
            let mut all = Vec::new();
            for piece in whole.chunks(size) {
                lines.push(Source::Output, "1", piece);
                all.extend(lines.take().into_iter().flat_map(|chunk| chunk.text));
            }
            lines.finish();
            all.extend(lines.take().into_iter().flat_map(|chunk| chunk.text));
            let mut expected = whole.clone();
            if expected.last() != Some(&b'\n') {
                expected.push(b'\n');
            }
            assert_eq!(all, expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_bot_has_one_subject_whatever_its_name() {
        for (bot, name) in [
            ("abc-1_X", "abc-1_X"),
            ("a.b", "a_b"),
            ("a > *", "a____"),
            ("é", "_"),
        ] {
            assert_eq!(subject(bot), format!("the0.bot.logs.{name}"));
        }
    }

    #[test]
    fn the_time_in_front_of_a_piece_is_told_from_what_was_printed() {
        let piece = b"2026-11-26T01:02:03.000000004Z hello world\n";
        let (stamp, printed) = stamped(piece).unwrap();
        assert_eq!(
            (stamp, printed),
            ("2026-11-26T01:02:03.000000004Z", &b"hello world\n"[..])
        );
        assert_eq!(stamped(b"2026-11-26T01:02:03Z \n").unwrap().1, b"\n");
        for bad in [&b""[..], b"hello world", b"nothing"] {
            assert_eq!(stamped(bad), None);
        }
    }
}
