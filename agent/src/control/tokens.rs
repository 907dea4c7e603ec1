//! Who may ask over the network: a file of tokens, one a line, `NAME TOKEN` and what it allows: `[read|write]` of the API,
//! bots of the gateway.
//!
//! It ensures:
//! * the file is read at each request, so a token that was taken out or put in counts from the next one on, and a file
//!   that cannot be used lets nobody in;
//! * one that others may read is not used;
//! * how long a comparison takes tells nothing of a token: digests are compared, all of them, each in constant time.
//!   (Digests alone would tell how far a guess's digest is right, by which guesses can be sorted at leisure.)

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::route::Access;

/// The shortest token, in bytes.
const SHORTEST: usize = 16;
/// The longest.
const LONGEST: usize = 256;
/// The longest name.
const NAME: usize = 64;
/// The largest file, in bytes.
const LARGEST: u64 = 64 << 10;

/// Why a file of tokens cannot be used. No token is told.
#[derive(Debug, Error)]
#[error("the file of tokens {}: {why}", .path.display())]
pub struct Unusable {
    path: PathBuf,
    why: String,
}

/// What tokens of a kind allow, as the rest of their line says.
pub trait Allows: Sized {
    /// The form of a line.
    const FORM: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// It says something else.
    fn read(word: Option<&str>) -> Result<Self, String>;
}

impl Allows for Access {
    const FORM: &'static str = "NAME TOKEN read|write";

    fn read(word: Option<&str>) -> Result<Self, String> {
        match word {
            None | Some("read") => Ok(Access::Read),
            Some("write") => Ok(Access::Write),
            Some(_) => Err("what it allows is `read` or `write`".to_owned()),
        }
    }
}

/// A token's owner and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<A> {
    /// The name, for the log.
    pub name: String,
    /// What it allows.
    pub access: A,
}

/// Tokens as a file has them.
pub struct Tokens<A>(Vec<(Grant<A>, [u8; 32])>);

impl<A: fmt::Debug> fmt::Debug for Tokens<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(grant, _)| grant))
            .finish()
    }
}

impl<A: Allows> Tokens<A> {
    /// Reads them.
    ///
    /// # Errors
    /// The file cannot be read, may be read by others, or has a line that is none.
    pub fn read(path: &Path) -> Result<Self, Unusable> {
        let text = private(path)?;
        Self::parse(text.reveal()).map_err(|why| unusable(path, why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Self(Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (grant, token) = entry(line).map_err(|why| format!("line {number}: {why}"))?;
            if tokens.0.iter().any(|(known, _)| known.name == grant.name) {
                return Err(format!("line {number}: the name {} is taken", grant.name));
            }
            if tokens.grant(token).is_some() {
                return Err(format!(
                    "line {number}: the token of {} is another's",
                    grant.name
                ));
            }
            tokens.0.push((grant, digest(token)));
        }
        if tokens.0.is_empty() {
            return Err(format!("it has no token: write lines of {}", A::FORM));
        }
        Ok(tokens)
    }

    /// What this token allows.
    pub fn grant(&self, token: &str) -> Option<&Grant<A>> {
        let given = digest(token);
        let mut found = None;
        for (grant, digest) in &self.0 {
            if bool::from(digest.ct_eq(&given)) {
                found = Some(grant);
            }
        }
        found
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn entry<A: Allows>(line: &str) -> Result<(Grant<A>, &str), String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(token)) = (words.next(), words.next()) else {
        return Err(format!("write it as {}", A::FORM));
    };
    let access = A::read(words.next())?;
    if words.next().is_some() {
        return Err(format!("there is more than {}", A::FORM));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() > NAME || !name.chars().all(plain) {
        return Err(format!(
            "a name is up to {NAME} letters, digits and any of - _ ."
        ));
    }
    is_token(token)?;
    let name = name.to_owned();
    Ok((Grant { name, access }, token))
}

/// That a text may be a token, as RFC 6750 has them.
fn is_token(token: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if !token.chars().all(fits) {
        return Err("a token is of letters, digits and any of - . _ ~ + / =".to_owned());
    }
    if (SHORTEST..=LONGEST).contains(&token.len()) {
        return Ok(());
    }
    Err(format!(
        "a token has {SHORTEST} to {LONGEST} bytes: make one with `openssl rand -hex 32`"
    ))
}

/// The token of whoever asks: the first line of a file of his own.
///
/// # Errors
/// The file cannot be read, may be read by others, or has no token.
pub fn own(path: &Path) -> Result<Secret, Unusable> {
    let text = private(path)?;
    let token = text.reveal().lines().next().unwrap_or_default().trim();
    is_token(token).map_err(|why| unusable(path, format!("its first line: {why}")))?;
    Ok(Secret::new(token))
}

/// Whether nobody but its owner and we may open it: root's own may be read by a group that is ours, as the kubelet has files
/// of a Secret (0440, `fsGroup`).
fn is_private(found: &Metadata, me: u32) -> bool {
    let others = found.mode() & 0o077;
    let is_ours = |gid: u32| {
        let groups = nix::unistd::getgroups().unwrap_or_default();
        let all = groups.into_iter().chain([nix::unistd::getegid()]);
        all.map(nix::unistd::Gid::as_raw).any(|group| group == gid)
    };
    others == 0 || (others == 0o040 && found.uid() == 0 && me != 0 && is_ours(found.gid()))
}

/// A file's text, unless others may read it.
fn private(path: &Path) -> Result<Secret, Unusable> {
    let failed = |err: std::io::Error| unusable(path, err.to_string());
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    let me = nix::unistd::geteuid().as_raw();
    if !found.is_file() {
        return Err(unusable(path, "it is not a file".to_owned()));
    }
    if !is_private(&found, me) {
        let why = format!(
            "others may open it (mode {:04o}): chmod 600",
            found.mode() & 0o7777
        );
        return Err(unusable(path, why));
    }
    if ![me, 0].contains(&found.uid()) {
        return Err(unusable(
            path,
            format!("it is of user {}, who could change it", found.uid()),
        ));
    }
    let mut text = String::new();
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(unusable(path, format!("it is larger than {LARGEST} bytes")));
    }
    Ok(Secret::new(text))
}

fn unusable(path: &Path, why: String) -> Unusable {
    let path = path.to_owned();
    Unusable { path, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const LONG: &str = "0123456789abcdef";

    #[test]
    fn a_token_is_found_with_its_name_and_what_it_allows() {
        let text = format!("# who may\n\nci {LONG}1 write\n  eye\t{LONG}2\nlook {LONG}3 read\r\n");
        let tokens = Tokens::<Access>::parse(&text).unwrap();
        let grant = |token: &str| {
            let grant = tokens.grant(token)?;
            Some((grant.name.as_str(), grant.access))
        };
        assert_eq!(grant(&format!("{LONG}1")), Some(("ci", Access::Write)));
        assert_eq!(grant(&format!("{LONG}2")), Some(("eye", Access::Read)));
        assert_eq!(grant(&format!("{LONG}3")), Some(("look", Access::Read)));
        for other in ["", LONG, "0123456789abcdef4", "0123456789abcdef11", "ci"] {
            assert_eq!(grant(other), None, "{other}");
        }
        assert!(!format!("{tokens:?}").contains(LONG));
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number_and_without_its_token() {
        let twice = format!("a {LONG}\nb {LONG}\n");
        let namesake = format!("a {LONG}\na {LONG}x\n");
        let rows = [
            ("a".to_owned(), "line 1: write it"),
            ("\na short1".to_owned(), "line 2: a token has 16"),
            (format!("a {}", "x".repeat(257)), "to 256 bytes"),
            (format!("a {LONG}ü"), "letters, digits"),
            (format!("a {LONG}\"1"), "letters, digits"),
            (format!("a/b {LONG}"), "a name is"),
            (format!("{} {LONG}", "n".repeat(65)), "a name is"),
            (format!("a {LONG} admin"), "`read` or `write`"),
            (format!("a {LONG} read write"), "there is more"),
            (twice, "line 2: the token of b is another's"),
            (namesake, "line 2: the name a is taken"),
            ("# nobody\n".to_owned(), "no token"),
            (String::new(), "no token"),
        ];
        for (text, hint) in rows {
            let why = Tokens::<Access>::parse(&text).unwrap_err();
            assert!(why.contains(hint), "{text:?}: {why}");
            assert!(!why.contains(LONG) && !why.contains("short1"), "{why}");
        }
    }

    #[test]
    fn a_file_that_others_may_open_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, format!("a {LONG}\n")).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for why in [
                Tokens::<Access>::read(&path).unwrap_err().to_string(),
                own(&path).unwrap_err().to_string(),
            ] {
                assert!(why.contains("chmod 600") && why.contains("tokens"), "{why}");
            }
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(Tokens::<Access>::read(&path).unwrap().grant(LONG).is_some());
        }
    }

    #[test]
    fn a_file_of_a_secret_volume_may_be_read_by_our_group_and_no_other() {
        if !nix::unistd::geteuid().is_root() {
            return; // Only root makes files of root.
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = |mode: u32, group: u32, me: u32| {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(file.path(), None, Some(group)).unwrap();
            is_private(&fs::metadata(file.path()).unwrap(), me)
        };
        let ours = nix::unistd::getegid().as_raw();
        assert!(told(0o440, ours, 1000) && told(0o600, ours, 1000));
        assert!(!told(0o440, 54_321, 1000), "another group");
        assert!(!told(0o460, ours, 1000) && !told(0o444, ours, 1000));
        assert!(!told(0o440, ours, 0), "root needs no group");
    }

    #[test]
    fn what_is_no_readable_file_of_a_decent_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let refused = |hint: &str| {
            let why = Tokens::<Access>::read(&path).unwrap_err().to_string();
            assert!(why.contains(hint), "{why}");
        };
        refused("No such file");
        fs::create_dir(&path).unwrap();
        refused("not a file");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "#".repeat((64 << 10) + 1)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        refused("larger");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        refused("UTF-8");
    }

    #[test]
    fn ones_own_token_is_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, format!("{LONG}\nmore\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(own(&path).unwrap().reveal(), LONG);
        fs::write(&path, format!("name {LONG}\n")).unwrap();
        assert!(own(&path).is_err());
    }
}
