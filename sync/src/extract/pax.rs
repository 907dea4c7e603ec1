//! The records of a pax extension header: `"%d %s=%s\n"`, the length of the whole record first (pax(1)).
//!
//! Read by length and not by line, as a value may have any bytes in it (an extended attribute often does), and strictly:
//! a record that two readers could take for two different ones is an error.

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The records in `content`, until the first that is none.
pub(super) fn records(mut content: &[u8]) -> impl Iterator<Item = Result<Record<'_>, String>> {
    std::iter::from_fn(move || {
        if content.is_empty() {
            return None;
        }
        let record = split(content);
        content = record.as_ref().map_or(&[], |(_, rest)| rest);
        Some(record.map(|(record, _)| record))
    })
}

fn split(content: &[u8]) -> Result<(Record<'_>, &[u8]), String> {
    let bad = |why: &str| format!("its pax header: {why}");
    let space = content.iter().take(10).position(|b| *b == b' ');
    let digits = space.map_or(&[][..], |at| &content[..at]);
    let length = number(digits).ok_or_else(|| bad("a record without its length"))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > content.len() || length < digits.len() + 3 {
        return Err(bad("a record with a wrong length"));
    }
    let (record, rest) = content.split_at(length);
    let [b' ', body @ .., b'\n'] = &record[digits.len()..] else {
        return Err(bad("a record that does not end where it says"));
    };
    let equals = body.iter().position(|b| *b == b'=');
    match equals {
        Some(at) if at > 0 => {
            let (key, value) = (&body[..at], &body[at + 1..]);
            Ok((Record { key, value }, rest))
        }
        _ => Err(bad("a record without a key")),
    }
}

/// A decimal number as everyone reads it: digits only.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_have_any_bytes_in_it() {
        let content = b"12 path=a/b\n12 x=1\n5 =\n\n";
        let all: Vec<_> = records(content).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].key, all[0].value), (&b"path"[..], &b"a/b"[..]));
        assert_eq!((all[1].key, all[1].value), (&b"x"[..], &b"1\n5 =\n"[..]));
    }

    #[test]
    fn a_record_that_can_be_read_otherwise_is_an_error() {
        for content in [
            &b"+12 path=a/b\n"[..],
            b"13 path=a/b\n",
            b"11 path=a/b\n",
            b" 12 path=a/b\n",
            b"012345678901 path=a/b\n",
            b"0 path=a/b\n",
            b"9 novalue\n",
            b"6 =x\n\n",
            b"12 path=a/b\0",
            b"path=a/b\n",
            b"\0",
        ] {
            assert!(
                records(content).any(|record| record.is_err()),
                "{content:?}"
            );
        }
    }
}
