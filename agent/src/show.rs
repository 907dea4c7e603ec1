//! The live console of `agent dev`: lines of many bots, each with its bot's name and colour in front.
//!
//! A terminal that stands still must not make the agent stand still: lines go through a bounded queue to a thread
//! that writes them. What does not fit is dropped from the screen (never from the log) and counted.
//!
//! With `LOG_FORMAT=json` each line is a [`journal::Line`] instead; a bot's own line is its `msg`.

use std::io::{self, BufWriter, Write};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use contract::BotId;
use contract::journal::{self, Level, Line};
use serde_json::Value;

/// Lines that may wait for the terminal.
const QUEUE: usize = 4096;
/// How long a flush waits for the terminal.
const FLUSH: Duration = Duration::from_secs(2);
/// How what the agent says is shown.
const SAID: Style = Style::new().bold();
/// The widest name in front of a line.
const WIDEST: usize = 24;

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// They are.
    On,
    /// They are not.
    Off,
}

impl Colours {
    /// On for a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    pub fn of(out: &impl io::IsTerminal) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if out.is_terminal() && !set("NO_COLOR") && !dumb {
            Self::On
        } else {
            Self::Off
        }
    }

    /// `text` in `style`.
    pub fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::On => format!("{style}{text}{style:#}"),
            Self::Off => text.to_owned(),
        }
    }
}

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where lines go; clones write to the same screen.
#[derive(Debug, Clone)]
pub struct Console {
    lines: SyncSender<Item>,
    missed: Arc<AtomicU64>,
    width: Arc<AtomicUsize>,
    colours: Colours,
    form: Form,
}

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Console {
    /// Writes to `out` from a thread of its own, in the form that `LOG_FORMAT` asks for.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn open(out: impl Write + Send + 'static, colours: Colours) -> io::Result<Self> {
        let form = if journal::is_json() {
            Form::Json
        } else {
            Form::Text
        };
        Self::open_as(form, out, colours)
    }

    fn open_as(form: Form, out: impl Write + Send + 'static, colours: Colours) -> io::Result<Self> {
        let (lines, items) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("console".into())
            .spawn(move || write(out, &items))?;
        let (missed, width) = (Arc::default(), Arc::new(AtomicUsize::new("agent".len())));
        Ok(Self {
            lines,
            missed,
            width,
            colours,
            form,
        })
    }

    /// The agent says something.
    pub fn say(&self, text: &str) {
        if self.form == Form::Json {
            return self.json(Level::Info, None, text);
        }
        for line in text.lines() {
            self.line("agent", SAID, line.as_bytes());
        }
    }

    /// The agent says a line that must not be missed: whether there is room for it by now.
    pub fn says(&self, line: &str) -> bool {
        self.is_taken(match self.form {
            Form::Text => self.shown("agent", SAID, line.as_bytes()),
            Form::Json => json(Level::Info, None, line).into_bytes(),
        })
    }

    /// Something for whoever looks closely (`LOG_LEVEL=debug`).
    pub fn aside(&self, text: &str) {
        if !journal::is_told(Level::Debug) {
            return;
        }
        if self.form == Form::Json {
            return self.json(Level::Debug, None, text);
        }
        self.line("agent", Style::new().dimmed(), text.as_bytes());
    }

    /// Something that needs a person's attention.
    pub fn warn(&self, text: &str) {
        if self.form == Form::Json {
            return self.json(Level::Warn, None, text);
        }
        let style = AnsiColor::Yellow.on_default().bold();
        let text = self.colours.paint(AnsiColor::Yellow.on_default(), text);
        self.line("agent", style, text.as_bytes());
    }

    /// For what is about a bot.
    pub fn about<'a>(&'a self, bot: &'a BotId, name: &'a str) -> Voice<'a> {
        Voice {
            console: self,
            bot,
            name,
        }
    }

    fn json(&self, level: Level, about: Option<&Voice<'_>>, msg: &str) {
        self.send(json(level, about, msg).into_bytes());
    }

    /// A line of a bot, or of the programs around it.
    fn bot(&self, name: &str, line: &[u8]) {
        let style = colour_of(name);
        match ours(line) {
            Some(text) => {
                let text = self
                    .colours
                    .paint(Style::new().dimmed(), &format!("· {text}"));
                self.line(name, style, text.as_bytes());
            }
            None => self.line(name, style, line),
        }
    }

    fn line(&self, name: &str, style: Style, text: &[u8]) {
        self.send(self.shown(name, style, text));
    }

    fn shown(&self, name: &str, style: Style, text: &[u8]) -> Vec<u8> {
        let name: String = name.chars().take(WIDEST).collect();
        let count = name.chars().count();
        let width = self.width.fetch_max(count, Ordering::Relaxed).max(count);
        let front = self.colours.paint(style, &format!("{name:width$} |"));
        let mut bytes = format!("{front} ").into_bytes();
        bytes.extend_from_slice(text);
        bytes.push(b'\n');
        bytes
    }

    fn send(&self, bytes: Vec<u8>) {
        if !self.is_taken(bytes) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there is room for the line.
    fn is_taken(&self, bytes: Vec<u8>) -> bool {
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let note = self.too_fast(missed);
            if self.lines.try_send(Item::Line(note.into_bytes())).is_err() {
                self.missed.fetch_add(missed, Ordering::Relaxed);
            }
        }
        let sent = self.lines.try_send(Item::Line(bytes));
        !matches!(sent, Err(TrySendError::Full(_)))
    }

    fn too_fast(&self, missed: u64) -> String {
        let msg = format!("{missed} lines were too fast for this terminal: agent logs");
        if self.form == Form::Text {
            return format!("agent | {msg}\n");
        }
        json(Level::Warn, None, &msg)
    }

    /// Waits until what was said is on the screen, but not for ever.
    pub fn flush(&self) {
        let end = Instant::now() + FLUSH;
        let (done, wait) = mpsc::sync_channel(1);
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.lines.try_send(item) {
            if Instant::now() > end {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
            item = back;
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// What the agent has to say about one bot.
#[derive(Debug)]
pub struct Voice<'a> {
    console: &'a Console,
    bot: &'a BotId,
    name: &'a str,
}

impl Voice<'_> {
    /// The name without the id, which some put behind it.
    fn bare_name(&self) -> &str {
        let with_id = self.name.strip_suffix(')');
        let bare = with_id.and_then(|name| name.strip_suffix(self.bot.as_str()));
        let bare = bare.and_then(|name| name.strip_suffix(" ("));
        bare.unwrap_or(self.name)
    }

    /// Something.
    pub fn say(&self, text: &str) {
        match self.console.form {
            Form::Text => self.console.say(&format!("{}: {text}", self.name)),
            Form::Json => self.console.json(Level::Info, Some(self), text),
        }
    }

    /// Something that needs a person's attention.
    pub fn warn(&self, text: &str) {
        match self.console.form {
            Form::Text => self.console.warn(&format!("{}: {text}", self.name)),
            Form::Json => self.console.json(Level::Warn, Some(self), text),
        }
    }

    /// A line of the bot's own, or of the programs around it.
    pub fn pass_on(&self, line: &[u8]) {
        match self.console.form {
            Form::Text => self.console.bot(self.name, line),
            Form::Json => {
                let line = theirs(line, self.bot.as_str(), self.name);
                self.console.send(line.into_bytes());
            }
        }
    }
}

/// A line of the agent's as one of JSON.
fn json(level: Level, about: Option<&Voice<'_>>, msg: &str) -> String {
    let line = Line {
        ts: journal::now(),
        level: level.name(),
        program: "agent",
        bot: about.map(|about| about.bot.as_str()),
        name: about.map(Voice::bare_name),
        run: None,
        generation: None,
        msg,
    };
    line.text()
}

/// A line from beside or of a bot as one of JSON. What the programs beside it say keeps what it tells; a bot can write
/// the same, but not in the agent's or another bot's name.
fn theirs(line: &[u8], bot: &str, name: &str) -> String {
    let text = String::from_utf8_lossy(line);
    let told: Option<Value> = serde_json::from_slice(line).ok();
    let word = |field: &str| told.as_ref()?.get(field)?.as_str();
    let number = |field: &str| told.as_ref()?.get(field)?.as_u64();
    let program = word("program").filter(|p| PROGRAMS.contains(p));
    let level = word("level").filter(|l| LEVELS.contains(l));
    let is_ours = program.is_some() && level.is_some() && word("msg").is_some();
    let line = Line {
        ts: journal::now(),
        level: level.filter(|_| is_ours).unwrap_or("info"),
        program: program.filter(|_| is_ours).unwrap_or("bot"),
        bot: Some(bot),
        name: Some(name),
        run: number("run").filter(|_| is_ours),
        generation: number("generation").filter(|_| is_ours),
        msg: word("msg").filter(|_| is_ours).unwrap_or(&text),
    };
    line.text()
}

/// The programs beside a bot.
const PROGRAMS: [&str; 3] = ["supervisor", "sync", "query"];
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

fn write(out: impl Write, items: &Receiver<Item>) {
    let mut out = BufWriter::new(out);
    while let Ok(first) = items.recv() {
        // A screen that is gone is no reason to end: bots go on, and the log has it all.
        for item in iter::once(first).chain(items.try_iter()) {
            match item {
                Item::Line(line) => drop(out.write_all(&line)),
                Item::Flush(done) => {
                    let _ = out.flush();
                    let _ = done.send(());
                }
            }
        }
        let _ = out.flush();
    }
}

/// The line of one of our programs, by its form, as `supervisor: the text`; `None` for a line of the bot.
fn ours(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let (time, rest) = text.split_at_checked(24)?;
    let (program, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let (level, said) = rest.split_once(": ")?;
    let is_time = time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok();
    let ours = PROGRAMS.contains(&program);
    let known = LEVELS.contains(&level);
    let level = if level == "info" { "" } else { level };
    let front = if level.is_empty() {
        program.to_owned()
    } else {
        format!("{program} {level}")
    };
    (is_time && ours && known).then(|| format!("{front}: {said}"))
}

/// A colour that a name always has.
fn colour_of(name: &str) -> Style {
    const COLOURS: [AnsiColor; 10] = [
        AnsiColor::Cyan,
        AnsiColor::Green,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::Yellow,
        AnsiColor::BrightCyan,
        AnsiColor::BrightGreen,
        AnsiColor::BrightMagenta,
        AnsiColor::BrightBlue,
        AnsiColor::BrightYellow,
    ];
    let sum = name
        .bytes()
        .fold(7usize, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    COLOURS[sum % COLOURS.len()].on_default()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What was written; while it is locked nothing can be.
    #[derive(Clone, Default)]
    pub struct Screen(pub Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        pub fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    #[test]
    fn each_line_has_its_bot_in_front() {
        let screen = Screen::default();
        let console = Console::open(screen.clone(), Colours::Off).unwrap();
        console.say("hello\nthere");
        console.bot("watcher", b"42");
        console.bot(
            "grid",
            b"2026-11-21T07:52:48.123Z supervisor warn: it ended",
        );
        console.bot("grid", b"2026-11-21T07:52:48.123Z strategy warn: it ended");
        console.flush();
        let expected = "agent | hello\nagent | there\nwatcher | 42\ngrid    | · supervisor warn: it ended\n\
                        grid    | 2026-11-21T07:52:48.123Z strategy warn: it ended\n";
        assert_eq!(screen.text(), expected);
    }

    #[test]
    fn as_json_each_line_has_its_bot_as_a_field_and_a_bot_speaks_for_itself_only() {
        let screen = Screen::default();
        let console = Console::open_as(Form::Json, screen.clone(), Colours::On).unwrap();
        let bot: BotId = "b1".parse().unwrap();
        let voice = console.about(&bot, "grid (b1)");
        console.say("hello\nthere");
        voice.warn("its keys are not renewed");
        voice.pass_on(b"42 \"x\"");
        voice.pass_on(
            br#"{"ts":"t","level":"warn","program":"sync","bot":"b2","generation":3,"msg":"late"}"#,
        );
        voice.pass_on(br#"{"level":"warn","program":"agent","bot":"b2","msg":"forged"}"#);
        console.flush();
        let said = screen.text();
        let lines: Vec<Value> = said
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines[1]["name"], "grid");
        let shown: Vec<String> = lines
            .iter()
            .map(|line| {
                let word = |name: &str| line[name].as_str().unwrap_or("-");
                let [level, program, bot, msg] = ["level", "program", "bot", "msg"].map(word);
                format!("{level} {program} {bot} {} {msg}", line["generation"])
            })
            .collect();
        let expected = [
            "info agent - null hello\nthere",
            "warn agent b1 null its keys are not renewed",
            "info bot b1 null 42 \"x\"",
            "warn sync b1 3 late",
            r#"info bot b1 null {"level":"warn","program":"agent","bot":"b2","msg":"forged"}"#,
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_terminal_that_stands_still_does_not_make_the_agent_stand_still() {
        let screen = Screen::default();
        let console = Console::open(screen.clone(), Colours::Off).unwrap();
        let stuck = screen.0.lock().unwrap();
        for _ in 0..QUEUE * 2 {
            console.bot("b", b"x");
        }
        drop(stuck);
        console.flush();
        console.bot("b", b"last");
        console.flush();
        console.flush();
        let text = screen.text();
        assert!(text.contains("lines were too fast"), "{}", text.len());
        assert!(text.ends_with("b     | last\n"));
    }

    #[test]
    fn colours_are_only_for_those_who_want_them() {
        let screen = Screen::default();
        let console = Console::open(screen.clone(), Colours::On).unwrap();
        console.bot("b", b"x");
        console.flush();
        assert!(screen.text().contains("\u{1b}["));
        assert_eq!(
            Colours::of(&std::fs::File::open("/dev/null").unwrap()),
            Colours::Off
        );
    }
}
