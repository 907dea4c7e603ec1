//! `sync state`: looks at the states of a bot in the store, and replaces the current one.
//!
//! Ensured:
//! * nothing is put that could not be restored: an archive is unpacked first, by the rules of a restore;
//! * what is replaced is in the history before, and is replaced only if it still is what was kept;
//! * what is put carries no generation, which is how an instance that runs knows it for the edit of a person: it
//!   ends its bot, keeps the bot's own state in the history, and starts the bot on what was put ([`crate::push`]).

pub mod order;
pub mod pick;
mod room;
mod show;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use contract::record::Time;
use contract::{Digest, ObjectKey, exit};

use crate::archive::{self, Torn};
use crate::base::{RUN, Remote, TREE, WRITTEN};
use crate::history::{self, Kept, Reason};
use crate::settings::Places;
use crate::store::{Condition, Error, Etag, Head, Metadata, Place, PutError, Store, Upload};
use crate::{code, extract, retry};
use order::{Check, Format, Order, Target};
use pick::{Unclear, pick};
use room::{Content, Room};
use show::{Diff, Row};

/// How often a replacement is begun again because the state in the store changed meanwhile.
const TRIES: u32 = 10;

/// Where a person works: one bot's states.
#[derive(Debug)]
pub struct Desk<'a> {
    /// Where they are.
    pub places: &'a Places,
    /// The store.
    pub store: &'a Store,
    /// The bot's folder on this machine.
    pub local: PathBuf,
}

/// The exit code that tells an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let refused = error.downcast_ref::<extract::Error>();
    if refused.is_some_and(|error| error.reason().is_some()) {
        exit::REFUSED
    } else if error.is::<Error>() || error.is::<Unclear>() {
        exit::STATE
    } else {
        exit::INTERNAL
    }
}

impl Desk<'_> {
    /// Does what is asked.
    pub fn obey(&self, order: &Order) -> anyhow::Result<()> {
        let done = match order {
            Order::List(format) => self.list(*format),
            Order::Get(word, target, check) => self.get(word, target, *check),
            Order::Put(from) => self.put(from),
            Order::Restore(word) => self.restore(word),
            Order::Diff(from, to, format) => self.diff(from.as_deref(), to, *format),
        };
        done.with_context(|| format!("bot {}", self.places.bot))
    }

    fn list(&self, format: Format) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        let current = self.places.state();
        rows.extend(self.row(&current, None)?);
        for key in history::list(self.places, self.store)? {
            let place = Place::new(&current.bucket, key);
            // One that is gone meanwhile had its time.
            rows.extend(self.row(&place, Kept::parse(&place.key).as_ref())?);
        }
        match format {
            Format::Json => show::print_json(&rows)?,
            Format::Table if rows.is_empty() => show::print("there is no state yet\n")?,
            Format::Table => show::print(&show::table(&rows))?,
        }
        Ok(())
    }

    fn row(&self, at: &Place, kept: Option<&Kept>) -> anyhow::Result<Option<Row>> {
        let Some(head) = self.head(at)? else {
            return Ok(None);
        };
        let run = head.metadata.get(RUN).and_then(|run| run.parse().ok());
        let written = head.metadata.get(WRITTEN);
        let written = written.and_then(|time| Time::try_from(time.clone()).ok());
        let size = head.size;
        let remote = Remote::from(head);
        Ok(Some(Row {
            name: kept.map_or("current".into(), |_| history::name(&at.key).into()),
            key: at.key.to_string(),
            time: kept.map_or(written, |kept| Some(Time::from(kept.at()))),
            size,
            generation: remote.generation,
            run,
            digest: remote.digest,
            reason: kept.map_or("current", |kept| kept.reason().name()).into(),
        }))
    }

    fn head(&self, at: &Place) -> Result<Option<Head>, Error> {
        retry::until(self.places.deadline, || self.store.head(at))
    }

    /// The object that `word` means.
    fn find(&self, word: &str) -> anyhow::Result<Place> {
        let current = self.places.state();
        if word == "current" || word == current.key.as_str() {
            return Ok(current);
        }
        let key = pick(word, &history::list(self.places, self.store)?)?;
        Ok(Place::new(&current.bucket, key))
    }

    fn get(&self, word: &str, target: &Target, check: Check) -> anyhow::Result<()> {
        let at = self.find(word)?;
        let room = Room::make()?;
        match (target, check) {
            (Target::Out, _) => {
                self.fetch(&at, &room, &room.archive(), check)?;
                let mut out = io::stdout().lock();
                io::copy(&mut File::open(room.archive())?, &mut out)?;
                out.flush()?;
            }
            (Target::File(path), _) => {
                let aside = beside(path)?;
                let fetched = self.fetch(&at, &room, &aside, check).and_then(|digest| {
                    File::open(&aside)?.sync_all()?;
                    fs::rename(&aside, path).with_context(|| path.display().to_string())?;
                    Ok(digest)
                });
                if fetched.is_err() {
                    let _ = fs::remove_file(&aside);
                }
                let digest = fetched?;
                let digest =
                    digest.map_or("not verified".into(), |d| format!("digest {}", d.short()));
                contract::info!("{at} is in {}, {digest}", path.display());
            }
        }
        Ok(())
    }

    /// Brings the object into the file `to`; gives the digest of what is in it, if that was asked for.
    fn fetch(
        &self,
        at: &Place,
        room: &Room,
        to: &Path,
        check: Check,
    ) -> anyhow::Result<Option<Digest>> {
        if check == Check::AsItIs {
            code::download(self.places, self.store, at, None, to)?;
            return Ok(None);
        }
        let content = self.verified(at, room, to).map_err(|error| {
            if error.is::<Error>() {
                error
            } else {
                error.context("`state get --unchecked` gives it as it is")
            }
        })?;
        Ok(Some(content.digest()?))
    }

    /// Brings the object into the file `to`, and gives what is in it. What comes damaged is fetched once more: it may
    /// have been damaged on its way.
    fn verified(&self, at: &Place, room: &Room, to: &Path) -> anyhow::Result<Content> {
        let come = || -> anyhow::Result<Content> {
            let head = self.head(at)?.ok_or_else(|| Error::NotFound(at.clone()))?;
            let etag = code::download(self.places, self.store, at, None, to)?;
            let content = room
                .unpack(to, self.places)
                .with_context(|| at.to_string())?;
            let said = Remote::from(head);
            let digest = content.digest()?;
            let differs = said.digest.is_some_and(|said| said != digest);
            if differs && said.etag == etag {
                bail!(
                    "{at}: its digest is {} and should be another",
                    digest.short()
                );
            }
            Ok(content)
        };
        come().or_else(|error| {
            if error.is::<Error>() {
                return Err(error);
            }
            contract::warn!("{error:#}; it is fetched once more");
            come()
        })
    }

    fn put(&self, from: &Path) -> anyhow::Result<()> {
        let shown = || from.display().to_string();
        let found = fs::metadata(from).with_context(shown)?;
        if found.is_dir() {
            let content = Content::read(from, self.places)?;
            return self.replace(&content, &shown());
        }
        let room = Room::make()?;
        let content = room.unpack(from, self.places).with_context(shown)?;
        self.replace(&content, &shown())
    }

    fn restore(&self, word: &str) -> anyhow::Result<()> {
        let at = self.find(word)?;
        if at == self.places.state() {
            bail!("{word} is the state that counts already");
        }
        let room = Room::make()?;
        let content = self.verified(&at, &room, &room.archive())?;
        self.replace(&content, history::name(&at.key))
    }

    /// Makes `content` the current state.
    fn replace(&self, content: &Content, source: &str) -> anyhow::Result<()> {
        let tree = &content.tree;
        if !tree.left_out.is_empty() {
            contract::warn!("not put with the state: {}", tree.left_out.join("; "));
        }
        let digest = content.digest()?;
        for _ in 0..TRIES {
            let present = self.head(&self.places.state())?.map(Remote::from);
            let said = present.as_ref().and_then(|p| p.digest.as_ref());
            if said == Some(&digest) && self.is_sound(&self.places.state())? {
                let short = digest.short();
                show::print(&format!(
                    "the current state is that already, digest {short}\n"
                ))?;
                return Ok(());
            }
            match self.switch(content, &digest, present.as_ref()) {
                Ok(kept) => return Ok(show::print(&self.said(content, source, kept.as_ref()))?),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error),
            }
        }
        bail!("the state in the store changes all the time: stop the bot first")
    }

    /// Whether what is in the object is what it says of itself.
    fn is_sound(&self, at: &Place) -> anyhow::Result<bool> {
        let room = Room::make()?;
        match self.verified(at, &room, &room.archive()) {
            Ok(_) => Ok(true),
            Err(error) if error.is::<Error>() => Err(error),
            Err(error) => {
                contract::warn!("{error:#}; it is replaced");
                Ok(false)
            }
        }
    }

    /// Keeps what is there and puts `content` in its place, if it is still there.
    fn switch(
        &self,
        content: &Content,
        digest: &Digest,
        present: Option<&Remote>,
    ) -> anyhow::Result<Option<ObjectKey>> {
        let kept = present.map(|present| self.keep(present)).transpose()?;
        let etag: Option<&Etag> = present.map(|present| &present.etag);
        let metadata = Metadata::from([
            (TREE.to_owned(), digest.to_string()),
            (WRITTEN.to_owned(), Time::now().to_string()),
        ]);
        let fill = |out: &mut Upload<'_>| {
            archive::write(&content.tree, content.root(), Torn::Refuse, None, out).map(|_| ())
        };
        let at = self.places.state();
        let put = self
            .store
            .put(&at, &Condition::still(etag), &metadata, fill);
        match put {
            Ok(_) => Ok(kept),
            Err(PutError::Store(error)) => Err(error.into()),
            Err(PutError::Fill(error)) => {
                Err(error).context("the folder changed while it was read")
            }
        }
    }

    fn keep(&self, present: &Remote) -> anyhow::Result<ObjectKey> {
        let generation = present.generation.unwrap_or(0);
        let (places, store) = (self.places, self.store);
        history::keep_object(places, store, &present.etag, generation, Reason::Replaced)
    }

    fn said(&self, content: &Content, source: &str, kept: Option<&ObjectKey>) -> String {
        let before = kept.map_or("there was none before".to_owned(), |key| {
            format!("the one before is kept as {}", history::name(key))
        });
        format!(
            "the state of bot {} is now that of {source}, {} entries, {} bytes; {before}\n\
             a running instance ends its bot gracefully within about 15 s, keeps the bot's own state in the history \
             and starts it on this one; a bot that does not run starts on it\n",
            self.places.bot,
            content.tree.entries.len(),
            content.tree.bytes,
        )
    }

    fn diff(&self, from: Option<&str>, to: &str, format: Format) -> anyhow::Result<()> {
        let newest = || -> anyhow::Result<String> {
            let history = history::list(self.places, self.store)?;
            let newest = history.first().ok_or(Unclear::NoHistory)?;
            Ok(history::name(newest).to_owned())
        };
        let from = from.map_or_else(newest, |from| Ok(from.to_owned()))?;
        let (old, from) = self.read(&from)?;
        let (new, to) = self.read(to)?;
        let mut diff = Diff::of(&old, &new);
        (diff.from, diff.to) = (from, to);
        match format {
            Format::Json => show::print_json(&diff)?,
            Format::Table => show::print(&diff.lines())?,
        }
        Ok(())
    }

    /// What is in the state that `word` means, and what that is called.
    fn read(&self, word: &str) -> anyhow::Result<(crate::tree::Tree, String)> {
        if word == "local" {
            let content = Content::read(&self.local, self.places);
            let content = content.context("the bot's folder on this machine (STATE_PATH)")?;
            return Ok((content.tree, "local".into()));
        }
        let at = self.find(word)?;
        let room = Room::make()?;
        let content = self.verified(&at, &room, &room.archive())?;
        let is_current = at == self.places.state();
        let name = if is_current {
            "current"
        } else {
            history::name(&at.key)
        };
        Ok((content.tree, name.to_owned()))
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::Conflict(_)))
}

/// A name beside `path` for what becomes it.
fn beside(path: &Path) -> anyhow::Result<PathBuf> {
    if path.is_dir() {
        bail!("{} is a folder: name a file", path.display());
    }
    let name = path.file_name().context("name a file")?;
    let name = format!(".{}.{}", name.display(), std::process::id());
    Ok(path.with_file_name(name))
}
