//! Exit codes, in one place.
//!
//! A bot's own code passes through. What the programs themselves fail with is from 110 to 119, a range that
//! shells, `env` and container engines leave alone, with the one exception of [`MISSING_VARIABLE`], which the
//! platform's contract fixes.

/// A required variable is missing. Fixed by the platform.
pub const MISSING_VARIABLE: u8 = 1;
/// The command line is not understood (the usual code for it).
pub const USAGE: u8 = 2;
/// No launch document arrived on standard input in time, or it cannot be read.
pub const NO_LAUNCH: u8 = 110;
/// A variable has a value that cannot be used: unknown runtime, bad JSON, too large.
pub const BAD_LAUNCH: u8 = 111;
/// The code bundle could not be fetched or was refused.
pub const CODE: u8 = 112;
/// The state could not be restored for another reason than that there is none.
pub const STATE: u8 = 113;
/// Another instance has claimed the bot: this one must not run.
pub const FENCED: u8 = 114;
/// The state, or the folder of the code, has outgrown its limit and the bot was stopped.
pub const DISK: u8 = 115;
/// An archive was refused by `sync unpack`.
pub const REFUSED: u8 = 116;
/// `query ask` got no answer: nobody listens there, the name is unknown, or it took too long.
pub const NO_ANSWER: u8 = 117;
/// The state was edited in the store and nobody here can fetch it: the Pod has to be made anew.
pub const EDITED: u8 = 118;
/// The program itself failed: a descriptor, a fork, a disk that is full.
pub const INTERNAL: u8 = 119;
/// The command was found and cannot be executed (POSIX, XCU 2.8.2).
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found (POSIX, XCU 2.8.2).
pub const NOT_FOUND: u8 = 127;

/// The code a shell gives a command that a signal ended: 128 + the signal's number.
pub fn of_signal(signal: i32) -> u8 {
    128u8.saturating_add(u8::try_from(signal).unwrap_or(0))
}

/// What one of our own codes means, for a person; `None` for a code that belongs to the bot.
pub fn meaning(code: u8) -> Option<&'static str> {
    Some(match code {
        NO_LAUNCH => "no usable launch document on standard input",
        BAD_LAUNCH => "a variable of the launch cannot be used",
        CODE => "the code could not be fetched",
        STATE => "the state could not be restored",
        FENCED => "another instance has claimed the bot",
        DISK => "the state, or what the bot wrote to its code's folder, has outgrown its limit",
        REFUSED => "the archive was refused",
        NO_ANSWER => "nobody answered the question",
        EDITED => "the state was edited in the store",
        INTERNAL => "the program itself failed",
        NOT_EXECUTABLE => "the command cannot be executed",
        NOT_FOUND => "the command was not found",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(of_signal(15), 143);
        assert_eq!(of_signal(9), 137);
        assert_eq!(of_signal(64), 192);
    }
}
