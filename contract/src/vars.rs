//! The environment variables by name, and which of them a bot may see.

macro_rules! vars {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$($(#[$doc])* pub const $name: &str = stringify!($name);)*};
}

vars! {
    /// The bot's id; required.
    BOT_ID,
    /// The runtime's name; required.
    RUNTIME,
    /// The bot's program, relative to the code; required.
    ENTRYPOINT,
    /// The object key of the code; empty: the code is there already.
    CODE_FILE,
    /// The instance's parameters, a JSON object; default `{}`.
    BOT_CONFIG,
    /// `realtime` or `scheduled`.
    BOT_TYPE,
    /// `true` means scheduled where BOT_TYPE is not set.
    IS_SCHEDULED,
    /// The kind of entrypoint, `bot` unless set.
    ENTRYPOINT_TYPE,
    /// The program that answers questions, relative to the code.
    QUERY_ENTRYPOINT,
    /// The path of a one-shot question.
    QUERY_PATH,
    /// The parameters of a one-shot question, a JSON object.
    QUERY_PARAMS,
    /// Where the result of a one-shot question goes.
    QUERY_RESULT_KEY,
    /// The file in which the result of a one-shot question is left, for somebody else to send.
    THE0_QUERY_RESULT_FILE,
    /// Folder of the code, `/bot`.
    CODE_PATH,
    /// Folder of the state, `/state`.
    STATE_PATH,
    /// Folder of the SDKs' state, `$STATE_PATH/.the0-state`.
    STATE_DIR,
    /// Folder of the log, `$THE0_VAR_PATH/logs`.
    LOGS_PATH,
    /// Modules Python looks for.
    PYTHONPATH,
    /// debug, info, warn or error.
    LOG_LEVEL,
    /// `json`: lines of our programs are JSON; text unless set.
    LOG_FORMAT,
    /// Largest state in MiB, 8192.
    MAX_STATE_SIZE_MB,
    /// Largest file of the state in MiB; none unless set.
    MAX_STATE_FILE_SIZE_MB,
    /// Folder in which the programs tell each other things, `/var/the0`.
    THE0_VAR_PATH,
    /// Folder of the language wrappers, `/opt/the0/wrappers`.
    THE0_WRAPPERS,
    /// Absolute path of the directory store.
    THE0_STORE,
    /// A file with the keys of the store, a JSON object of their names: read again whenever they are used.
    THE0_KEYS_FILE,
    /// `off`: there is no state to bring or to save, as for a job that runs once.
    THE0_STATE,
    /// How many bytes the result of what runs once may have that `sync` sends when it has ended; without it none is sent.
    THE0_RESULT,
    /// `stdin`: the launch is a document on standard input.
    THE0_LAUNCH,
    /// How long the document on standard input may take to come, `30s`.
    THE0_LAUNCH_WITHIN,
    /// Where `query` listens, `0.0.0.0:9476`.
    THE0_QUERY_LISTEN,
    /// The token that whoever asks `query` over the network brings; without it everybody may.
    THE0_QUERY_TOKEN,
    /// The port an SDK's query server is told to listen on.
    THE0_QUERY_PORT,
    /// How long an answer to a question may take, `30s`.
    THE0_QUERY_TIMEOUT,
    /// How the bot is confined: `full`, `signals` or `off`.
    THE0_CONFINE,
    /// How long a bot may take to end after TERM, as in `30s`.
    THE0_GRACE,
    /// How long the last push may take after the bot has ended, as in `20s`.
    THE0_DRAIN,
    /// Names of further variables the bot may see, separated by commas.
    THE0_PASS_ENV,
}

/// The credentials of the object store: they travel by pipe, never by environment.
pub const KEYS: [&str; 5] = [
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "MINIO_SESSION_TOKEN",
    "MINIO_ACCESS_KEY_ID",
    "MINIO_SECRET_ACCESS_KEY",
];

/// Whether a variable of the container may be seen by the bot: those that say where and in what language it
/// runs, and those by which language runtimes are tuned. Everything else stays out, so that a variable nobody
/// thought of is not a leak.
pub fn is_harmless(name: &str) -> bool {
    const NAMES: [&str; 28] = [
        "PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TZDIR",
        "TMPDIR",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "COLORTERM",
        "NO_COLOR",
        "HOSTNAME",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "CLASSPATH",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "NODE_OPTIONS",
        "NODE_PATH",
    ];
    const PREFIXES: [&str; 12] = [
        "LC_",
        "PYTHON",
        "NODE_EXTRA_",
        "JAVA_",
        "JDK_",
        "DOTNET_",
        "GHC",
        "RUST_",
        "MALLOC_",
        "OMP_",
        "OPENBLAS_",
        "XDG_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_platform_is_harmless() {
        for name in [
            "MINIO_ENDPOINT",
            "NATS_URL",
            "MONGO_URI",
            "AWS_SECRET_ACCESS_KEY",
            "THE0_STORE",
            "X_TOKEN",
        ] {
            assert!(!is_harmless(name), "{name}");
        }
        assert!(KEYS.iter().all(|key| !is_harmless(key)));
        assert!(is_harmless("PATH") && is_harmless("LC_ALL") && is_harmless("PYTHONUNBUFFERED"));
    }
}
