//! `agent backup` and `agent restore`: everything of a stack in one file, and back.
//!
//! Ensures:
//! * a backup is whole or not there: it is written beside its name, and renamed when it is on the disk; bots run on
//!   meanwhile, and each state in it is one version that was in the store;
//! * a restore changes nothing before it has read the whole file and found each byte as it was, and has found nothing
//!   else in the place of what it would put; it puts documents last, so that no agent starts a bot without its state;
//! * a restore that was cut off is gone on with by doing it again: what is there already is passed over;
//! * memory is bounded by the number of bots, not by what they have.
//!
//! The file has the parameters of bots in it, keys among them: it is for its owner only.

mod documents;
mod format;
mod make;
mod pack;
mod restore;
mod running;
mod states;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use contract::Secret;
use contract::launch::{Variables, renamed};

use crate::host;
use crate::output;

/// What is to be backed up, and where to.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The stack, by which the file tells whose it is
    #[arg(
        long,
        env = "THE0_STACK",
        hide_env_values = true,
        default_value = "default",
        value_name = "NAME"
    )]
    stack: String,
    /// The database of bots [env: MONGO_URI]; without one, bots that were deployed here
    #[arg(long, value_name = "URI")]
    mongo_uri: Option<String>,
    /// Older states too
    #[arg(long)]
    history: bool,
    /// Days' logs too
    #[arg(long)]
    logs: bool,
    /// Write nothing: read FILE and say whether it is whole
    #[arg(long, conflicts_with_all = ["history", "logs"])]
    verify: bool,
}

/// What is to be put back, and how.
#[derive(Debug, clap::Args)]
pub struct RestoreOptions {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The database of bots [env: MONGO_URI]
    #[arg(long, value_name = "URI")]
    mongo_uri: Option<String>,
    /// Replace what is there and differs, also while an agent elsewhere acts on the database; states that are replaced
    /// go to the history
    #[arg(long)]
    force: bool,
    /// No bot runs as a container or as a Pod: do not look for any
    #[arg(long)]
    no_docker: bool,
    #[command(flatten)]
    namespace: host::cluster::Namespace,
}

/// Writes a backup, or verifies one.
///
/// # Errors
/// Why there is none, or what is wrong with it.
pub fn run(options: &Options, data: &Path) -> Result<()> {
    if options.verify {
        let manifest = pack::read(&options.file, |_, _| Ok(()))?;
        let (header, file) = (&manifest.header, options.file.display());
        let told = manifest.told();
        return Ok(output::print(&format!(
            "{file} is whole: {told} of stack {}, made {} by agent {}",
            header.stack, header.made, header.agent
        ))?);
    }
    let uri = uri(options.mongo_uri.as_ref(), &environment());
    let order = make::Order {
        stack: options.stack.clone(),
        uri,
        history: options.history,
        logs: options.logs,
    };
    if options.file.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            bail!("a backup is no text for a terminal: name a file, or pipe it");
        }
        let (mut out, manifest) = make::make(&order, data, io::stdout(), &std::env::temp_dir())?;
        out.flush().context("standard output")?;
        return tell_made(&manifest, "standard output");
    }
    let manifest = make::into_file(&order, data, &options.file)?;
    tell_made(&manifest, &options.file.display().to_string())
}

fn tell_made(manifest: &format::Manifest, place: &str) -> Result<()> {
    let mut err = io::stderr().lock();
    for missing in &manifest.missing {
        writeln!(err, "agent: not in it: {missing}")?;
    }
    let told = manifest.told();
    writeln!(
        err,
        "agent: {told} are in {place}. Bots' parameters are in it, keys among them: keep it as you keep those"
    )?;
    Ok(())
}

/// Puts a backup back.
///
/// # Errors
/// Why it was not done; nothing was changed then, unless it says so.
pub fn restore(options: &RestoreOptions, data: &Path) -> Result<()> {
    let environment = environment();
    let order = restore::Order {
        uri: uri(options.mongo_uri.as_ref(), &environment),
        force: options.force,
        looks: !options.no_docker,
        namespace: options.namespace.named(),
        environment,
    };
    let done = restore::restore(&order, data, &options.file)?;
    Ok(output::print(&done)?)
}

fn environment() -> Variables {
    renamed(host::environment())
}

fn uri(given: Option<&String>, environment: &Variables) -> Option<Secret> {
    let set = environment.get("MONGO_URI").filter(|uri| !uri.is_empty());
    given.or(set).map(Secret::new)
}
