//! What was done, when: a file that stays when the soak fails.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The journal, in a folder that the agents write into too.
#[derive(Debug)]
pub struct Journal {
    seed: u64,
    begun: Instant,
    folder: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// A new one; where it is and how to do the same again is said.
    pub fn new(seed: u64, length: Duration) -> Self {
        let folder = std::env::temp_dir().join(format!("the0-soak-{seed}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the journal");
        let file = File::create(folder.join("journal")).expect("a journal");
        println!(
            "soak: seed {seed}, {} s, journal {}",
            length.as_secs(),
            folder.join("journal").display()
        );
        Self {
            seed,
            begun: Instant::now(),
            folder,
            file: Mutex::new(file),
        }
    }

    /// Where files beside it lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down what was done.
    pub fn note(&self, what: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        let mut file = self.file.lock().expect("the journal");
        writeln!(file, "{at:8.2} {what}").expect("write the journal");
    }

    /// Ends the soak: something that is promised of `bot` is not so.
    pub fn broken(&self, bot: &str, why: &str) -> ! {
        self.note(&format!("BROKEN {bot}: {why}"));
        panic!(
            "soak, THE0_SOAK_SEED={}, {bot}: {why}; what was done is in {}",
            self.seed,
            self.folder.join("journal").display()
        )
    }

    /// The same unless it `holds`.
    pub fn check(&self, bot: &str, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.broken(bot, &why());
        }
    }

    /// Looks until `look` gives nothing to object to.
    pub fn wait(&self, bot: &str, limit: Duration, mut look: impl FnMut() -> Result<(), String>) {
        let end = Instant::now() + limit;
        while let Err(why) = look() {
            if Instant::now() > end {
                self.broken(bot, &format!("after {limit:?} {why}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "soak: failed with THE0_SOAK_SEED={}, see {}",
                self.seed,
                self.folder.display()
            );
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
