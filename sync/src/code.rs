//! Fetching the bot's code: unpacked aside, checked, swapped in; once fetched, not again until it changes.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use contract::ObjectKey;
use serde::{Deserialize, Serialize};

use crate::extract::{self, Links, Rules};
use crate::restore;
use crate::retry;
use crate::settings::{Entry, Places, Settings};
use crate::store::{Error, Etag, Object, Place, Store};
use crate::swap::{self, Staging};
use crate::tree::{self, Hash, Kind};

/// What was unpacked last, so that it need not be again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    key: ObjectKey,
    etag: Etag,
    /// Files and their sizes.
    files: Vec<(String, u64)>,
}

/// Makes the folder be there, and finishes a fetch that was cut off.
pub fn finish(settings: &Settings) -> anyhow::Result<()> {
    let code = &settings.launch.paths.code;
    fs::create_dir_all(code).with_context(|| format!("make {}", code.display()))?;
    let note = |marker| note(settings, &marker);
    swap::finish(code, note)
        .map(|_| ())
        .context("finish an earlier fetch of the code")
}

/// Makes the code be there, with its entrypoint; [`finish`] comes first.
pub fn fetch(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    let code = &settings.launch.paths.code;
    let Some(key) = &settings.launch.code_file else {
        return check_entry(settings, code).context("CODE_FILE is empty, so no code is fetched");
    };
    let at = Place::new(&settings.places.code_bucket, key.clone());
    let deadline = settings.places.deadline;
    if let Some(unpacked) = complete(settings, key) {
        let head = || store.head(&at)?.ok_or_else(|| Error::NotFound(at.clone()));
        if retry::until(deadline, head)?.etag == unpacked {
            contract::info!("the code of {key} is there already");
            return check_entry(settings, code);
        }
    }
    let object = retry::until(deadline, || store.get(&at))?;
    extract::check_size(settings.places.budget, object.head.size)
        .with_context(|| at.to_string())?;
    unpack(settings, store, &at, object).with_context(|| at.to_string())
}

/// What is refused is fetched once more before that is final: it may have been damaged on its way.
fn unpack(settings: &Settings, store: &Store, at: &Place, object: Object) -> anyhow::Result<()> {
    match try_to_unpack(settings, store, at, Some(object)) {
        Err(Failure::Refused(why, first)) => {
            contract::warn!("{at} is refused: {why:#}; fetching it again");
            match try_to_unpack(settings, store, at, None) {
                Err(Failure::Refused(why, second)) if first != second => {
                    Err(why.context("it comes as other bytes each time"))
                }
                Err(Failure::Refused(error, _) | Failure::Other(error)) => Err(error),
                Ok(()) => Ok(()),
            }
        }
        Err(Failure::Other(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// Why code was not unpacked.
enum Failure {
    /// The archive is not one we take; with the hash of the bytes that came.
    Refused(anyhow::Error, Hash),
    /// Something else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn try_to_unpack(
    settings: &Settings,
    store: &Store,
    at: &Place,
    object: Option<Object>,
) -> Result<(), Failure> {
    let staging = Staging::begin(&settings.launch.paths.code).context("make room for the code")?;
    let error = match fill(settings, store, at, object, &staging) {
        Ok(marker) => {
            contract::info!("code of {at}: {} files", marker.files.len());
            return Ok(staging
                .commit(marker, |marker| note(settings, &marker))
                .context("swap in the code")?);
        }
        Err(error) => error,
    };
    let refusal = error.downcast_ref::<extract::Error>();
    let came = if refusal.is_some_and(|error| error.reason().is_some()) {
        Some(restore::hash(&File::open(staging.archive())?)?)
    } else {
        None
    };
    staging.discard().context("remove what was unpacked")?;
    Err(match came {
        Some(came) => Failure::Refused(error, came),
        None => Failure::Other(error),
    })
}

fn fill(
    settings: &Settings,
    store: &Store,
    at: &Place,
    object: Option<Object>,
    staging: &Staging,
) -> anyhow::Result<Marker> {
    let etag = download(&settings.places, store, at, object, &staging.archive())?;
    let rules = Rules {
        links: Links::Inside,
        budget: settings.places.budget,
    };
    extract::unpack(&mut File::open(staging.archive())?, &staging.tree(), rules)?;
    check_entry(settings, &staging.tree())?;
    let tree = tree::list(&staging.tree())?;
    let files = tree.entries.iter().filter(|entry| entry.kind == Kind::File);
    let files = files
        .map(|e| (String::from_utf8_lossy(&e.path).into_owned(), e.size))
        .collect();
    Ok(Marker {
        key: at.key.clone(),
        etag,
        files,
    })
}

/// Brings the object, of which `opened` is the first try, into the file `to` and tells its version.
pub fn download(
    places: &Places,
    store: &Store,
    at: &Place,
    mut opened: Option<Object>,
    to: &Path,
) -> Result<Etag, Error> {
    retry::until(places.deadline, || {
        let mut object = match opened.take() {
            Some(object) => object,
            None => store.get(at)?,
        };
        let copied = File::create(to).and_then(|mut file| io::copy(&mut object.body, &mut file));
        match copied {
            Ok(size) if size == object.head.size => Ok(object.head.etag),
            Ok(size) => {
                let text = format!("{size} of {} bytes came", object.head.size);
                let cause = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                Err(Error::Unavailable {
                    what: at.to_string(),
                    cause,
                })
            }
            Err(cause) => Err(Error::Unavailable {
                what: at.to_string(),
                cause,
            }),
        }
    })
}

fn note(settings: &Settings, marker: &Marker) -> io::Result<()> {
    contract::file::replace_json(&settings.private("code.json"), marker)
}

/// The version of `key` whose files are all there.
fn complete(settings: &Settings, key: &ObjectKey) -> Option<Etag> {
    let marker = contract::file::read_json::<Marker>(&settings.private("code.json")).ok()??;
    let code = &settings.launch.paths.code;
    let there = |(path, size): &(String, u64)| {
        fs::symlink_metadata(code.join(path)).is_ok_and(|found| found.len() == *size)
    };
    (marker.key == *key && marker.files.iter().all(there)).then_some(marker.etag)
}

/// The entrypoint is in `code`, and can be executed where that is how it is started.
fn check_entry(settings: &Settings, code: &Path) -> anyhow::Result<()> {
    if settings.entry == Entry::Any {
        return make_programs_executable(code);
    }
    let launch = &settings.launch;
    let entry = launch.runtime.entry_file(&launch.entrypoint);
    let path = code.join(&entry);
    let Ok(found) = fs::metadata(&path) else {
        bail!(
            "ENTRYPOINT {entry} is not in the code; there is: {}",
            contents(code)
        );
    };
    if found.is_dir() {
        bail!("ENTRYPOINT {entry} is a folder: name the file in it");
    }
    if launch.runtime.is_native() {
        make_executable(&path, &found)?;
        // A query program that is not there is told by those who ask it.
        let query = launch.query_entrypoint.as_ref().map(|q| code.join(q));
        if let Some(path) = query
            && let Ok(found) = fs::metadata(&path)
            && found.is_file()
        {
            make_executable(&path, &found)?;
        }
    }
    Ok(())
}

/// Where nobody says which file is the bot's program, each that could be one.
fn make_programs_executable(code: &Path) -> anyhow::Result<()> {
    const ELF: [u8; 4] = *b"\x7fELF";
    let tree = tree::list(code).with_context(|| format!("read {}", code.display()))?;
    for entry in tree.entries.iter().filter(|entry| entry.kind == Kind::File) {
        let path = code.join(OsStr::from_bytes(&entry.path));
        let mut begins = [0; ELF.len()];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut begins));
        if read.is_ok() && begins == ELF {
            make_executable(&path, &fs::metadata(&path)?)?;
        }
    }
    Ok(())
}

fn make_executable(path: &Path, found: &fs::Metadata) -> anyhow::Result<()> {
    let mode = found.permissions().mode();
    if mode & 0o111 == 0o111 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode | 0o111))
        .with_context(|| format!("make {} executable", path.display()))
}

/// A person's view of what is in a folder.
fn contents(folder: &Path) -> String {
    const SHOWN: usize = 20;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .filter(|name| name.trim_end_matches('/') != swap::NEW)
        .collect();
    names.sort();
    match names.len() {
        0 => "nothing".to_owned(),
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}
