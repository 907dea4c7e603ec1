//! The log of a Pod's container, as the kubelet gives it: lines with the time in front, in pieces that end anywhere. Pure.
//!
//! Standard output and standard error are one here, and a line that the other one cut in two is one line with it. What has
//! no time in front was not printed: the kubelet says so why it goes on no more.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::chunk::Source;
use super::reader::Printed;

/// No time is longer.
const LONGEST: usize = 48;

/// Where in a log we are.
#[derive(Debug, Default)]
pub struct Stamps(At);

#[derive(Debug)]
enum At {
    /// In the time of a line, of which this has come.
    Time(Vec<u8>),
    /// In a line of this time.
    Line(String),
    /// In one that was not printed.
    Remark,
}

impl Default for At {
    fn default() -> Self {
        Self::Time(Vec::new())
    }
}

impl Stamps {
    /// Takes in what has come, and gives what of it was printed.
    pub fn feed(&mut self, bytes: &[u8], to: &mut VecDeque<Printed>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.part(part, to);
        }
    }

    fn part(&mut self, part: &[u8], to: &mut VecDeque<Printed>) {
        let is_end = part.ends_with(b"\n");
        let (at, printed) = match mem::take(&mut self.0) {
            At::Time(mut head) => {
                head.extend_from_slice(part);
                let space = head.iter().position(|byte| *byte == b' ');
                if space.is_none() && !is_end && head.len() < LONGEST {
                    self.0 = At::Time(head);
                    return;
                }
                let stamp = space.and_then(|space| stamp(&head[..space]));
                let printed = Bytes::from(head).slice(space.map_or(0, |space| space + 1)..);
                (stamp.map_or(At::Remark, At::Line), printed)
            }
            at => (at, Bytes::copy_from_slice(part)),
        };
        if let At::Line(stamp) = &at {
            to.push_back(Printed::Piece {
                source: Source::Either,
                stamp: stamp.clone(),
                bytes: printed,
            });
        }
        if !is_end {
            self.0 = at;
        }
    }
}

/// A time as all others are: a node's own zone may be in it.
fn stamp(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let time: Timestamp = text.parse().ok()?;
    let is_alike = text.len() == 30 && text.ends_with('Z');
    Some(if is_alike {
        text.to_owned()
    } else {
        format!("{time:.9}")
    })
}

/// The second of a time, or that of `life` ago.
pub fn second(stamp: Option<&str>, now: SystemTime, life: Duration) -> Timestamp {
    let told = stamp.and_then(|stamp| stamp.parse::<Timestamp>().ok());
    let time = told.unwrap_or_else(|| {
        let now = Timestamp::try_from(now).unwrap_or_default();
        now.checked_sub(SignedDuration::try_from(life).unwrap_or_default())
            .unwrap_or_default()
    });
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "2026-11-26T01:02:03.000000004Z";
    const B: &str = "2026-11-26T01:02:04.100000000Z";

    /// What of a log in pieces of `size` was printed, by its times.
    fn printed(log: &[u8], size: usize) -> Vec<(String, String)> {
        let (mut stamps, mut to) = (Stamps::default(), VecDeque::new());
        for piece in log.chunks(size) {
            stamps.feed(piece, &mut to);
        }
        let mut lines: Vec<(String, String)> = Vec::new();
        for piece in to {
            let Printed::Piece { stamp, bytes, .. } = piece else {
                panic!("an end");
            };
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            match lines.last_mut() {
                Some((last, line)) if *last == stamp && !line.ends_with('\n') => *line += &text,
                _ => lines.push((stamp, text)),
            }
        }
        lines
    }

    #[test]
    fn lines_are_had_with_their_times_wherever_the_pieces_end() {
        let log = format!("{A} hello world\n{B} \n{B} no end");
        let expected = [(A, "hello world\n"), (B, "\n"), (B, "no end")];
        let expected = expected.map(|(stamp, line)| (stamp.to_owned(), line.to_owned()));
        for size in 1..=log.len() {
            assert_eq!(printed(log.as_bytes(), size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_the_kubelet_says_itself_was_not_printed() {
        let log = format!(
            "unable to retrieve container logs for containerd://1\n{A} a\n\nfailed to create fsnotify watcher: too many"
        );
        for size in [1, 7, log.len()] {
            let expected = vec![(A.to_owned(), "a\n".to_owned())];
            assert_eq!(printed(log.as_bytes(), size), expected);
        }
    }

    #[test]
    fn a_time_of_another_zone_is_told_as_all_others_are() {
        let log = "2026-11-26T02:02:03.000000004+01:00 a\n2026-11-26T01:02:04.1Z b\n";
        let expected = [(A, "a\n"), (B, "b\n")];
        let expected = expected.map(|(stamp, line)| (stamp.to_owned(), line.to_owned()));
        assert_eq!(printed(log.as_bytes(), log.len()), expected);
        assert_eq!(stamp(b"2026-11-26"), None);
        assert_eq!(stamp(b"yesterday"), None);
    }

    #[test]
    fn it_is_read_on_from_the_second_of_the_last_line() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let hour = Duration::from_hours(1);
        assert_eq!(
            second(Some(B), now, hour).to_string(),
            "2026-11-26T01:02:04Z"
        );
        assert_eq!(second(None, now, hour).as_second(), 6400);
        assert_eq!(second(Some("no time"), now, hour).as_second(), 6400);
    }
}
