//! What the operator sets for all bots of a stack: image, network, bounds. Read once from the environment.

use std::time::Duration;

use contract::launch::Variables;
use contract::{Digest, Runtime};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::names::Stack;
pub use crate::engine::bounds::Bounds;
pub use crate::engine::settings::{BadSetting, Settings, image_for, passed};

const MIB: u64 = 1 << 20;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Before each start.
    Always,
    /// When it is not there.
    Missing,
    /// Never: it is there, or the bot does not start.
    Never,
}

/// What holds for every container of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Whose containers they are.
    pub stack: Stack,
    /// The image, with `{runtime}` in the place of the runtime's name, or one for all.
    pub image: String,
    /// When it is pulled.
    pub pull: Pull,
    /// An existing network; `None`: the stack's own.
    pub network: Option<String>,
    /// Bytes of memory of a bot that asks for none itself, and the most that one may ask for.
    pub memory: Bounds,
    /// Billionths of a processor, the same.
    pub cpu: Bounds,
    /// The weight of its processor time against that of others.
    pub cpu_shares: Option<i64>,
    /// Processes and threads.
    pub pids: i64,
    /// Open files of one process.
    pub files: i64,
    /// Bytes of /tmp.
    pub tmp: u64,
    /// Bytes of a file of the container's own log, of which the daemon keeps three.
    pub log: u64,
    /// Another OCI runtime, as in `runsc` (gVisor).
    pub oci_runtime: Option<String>,
    /// A file of authorities on this host that the store's certificate is signed by.
    pub ca: Option<String>,
    /// How long a bot's keys are good, where the store makes keys per bot.
    pub keys: Duration,
    /// How long a container that has ended, with everything of it in the store, is kept.
    pub keep: Duration,
    /// What a supervisor may take to end a bot and save it, with something to spare.
    pub stop: Duration,
    /// Variables that tune supervisors, and those the operator passes on to bots.
    pub environment: Variables,
    /// Variables that tell `sync` in a container where the store is, without keys.
    pub store: Variables,
}

/// The file of authorities, by its variable.
pub const CA_FILE: &str = "THE0_CA_FILE";

fn absolute(path: &str) -> Result<String, BadSetting> {
    let absolute = std::path::absolute(path)
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok());
    absolute.ok_or_else(|| BadSetting {
        variable: CA_FILE,
        why: format!("is {path:?}: give the path of a file"),
    })
}

impl Template {
    /// Reads the agent's environment; `environment` is what goes on to containers.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn parse(
        given: &Variables,
        environment: Variables,
        store: Variables,
    ) -> Result<Self, BadSetting> {
        let read = Settings(given);
        let bad = |variable| move |why| BadSetting { variable, why };
        let memory_default = read.whole("BOT_MEMORY_LIMIT_MB", 512)? * MIB;
        Ok(Self {
            stack: read
                .get("THE0_STACK")
                .unwrap_or("default")
                .parse()
                .map_err(bad("THE0_STACK"))?,
            image: read.get("RUNTIME_IMAGE").unwrap_or("the0/{runtime}").into(),
            pull: Pull::read(&read)?,
            network: read.get("DOCKER_NETWORK").map(str::to_owned),
            memory: Bounds {
                default: memory_default,
                most: Some(read.bytes("THE0_MAX_MEMORY", memory_default.max(4096 * MIB))?),
            },
            cpu: Bounds {
                default: read.cpus("THE0_BOT_CPU")?.unwrap_or(1_000_000_000),
                most: read.cpus("THE0_MAX_CPU")?,
            },
            cpu_shares: read
                .get("BOT_CPU_SHARES")
                .map(|_| read.whole("BOT_CPU_SHARES", 1024))
                .transpose()?
                .map(u64::cast_signed),
            pids: read.whole("THE0_PIDS", 256)?.cast_signed(),
            files: read.whole("THE0_FILES", 4096)?.cast_signed(),
            tmp: read.bytes("THE0_TMP_SIZE", 64 * MIB)?,
            log: read.bytes("THE0_CONTAINER_LOG_SIZE", 10 * MIB)?,
            oci_runtime: read.get("THE0_OCI_RUNTIME").map(str::to_owned),
            ca: read.get(CA_FILE).map(absolute).transpose()?,
            keys: read.time("THE0_KEYS_TTL", Duration::from_hours(12))?,
            keep: read.time("THE0_KEEP_ENDED", Duration::from_hours(1))?,
            stop: read.stop()?,
            environment,
            store,
        })
    }

    /// The image for a runtime.
    pub fn image_for(&self, runtime: Runtime) -> String {
        image_for(&self.image, runtime)
    }

    /// The digest of what is the same for every bot: a container with another one drifts from what the operator wants.
    pub fn digest(&self, image_id: &str) -> Digest {
        let covered = json!([
            image_id,
            self.network,
            [self.memory.default, self.cpu.default],
            self.cpu_shares,
            [self.pids, self.files],
            [self.tmp, self.log],
            self.oci_runtime,
            self.ca,
            self.environment,
            self.store,
        ]);
        Digest::from_bytes(Sha256::digest(covered.to_string()).into())
    }
}

impl Pull {
    fn read(settings: &Settings<'_>) -> Result<Self, BadSetting> {
        match settings.get("THE0_PULL") {
            Some("always") => Ok(Self::Always),
            None | Some("missing") => Ok(Self::Missing),
            Some("never") => Ok(Self::Never),
            Some(other) => Err(BadSetting {
                variable: "THE0_PULL",
                why: format!("is {other:?}: use always, missing or never"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Variables {
        let pairs = pairs.iter();
        pairs.map(|(n, v)| ((*n).into(), (*v).into())).collect()
    }

    fn template(pairs: &[(&str, &str)]) -> Result<Template, BadSetting> {
        Template::parse(&given(pairs), Variables::new(), Variables::new())
    }

    #[test]
    fn an_image_is_a_template_or_one_for_all() {
        let own = template(&[]).unwrap();
        assert_eq!(own.image_for(Runtime::Python), "the0/python3.11");
        assert_eq!(own.image_for(Runtime::CppGcc), "the0/gcc13");
        let tagged = template(&[("RUNTIME_IMAGE", "r.example/the0/{runtime}:1.2")]).unwrap();
        assert_eq!(
            tagged.image_for(Runtime::Node),
            "r.example/the0/nodejs20:1.2"
        );
        let one = template(&[("RUNTIME_IMAGE", "all:1")]).unwrap();
        assert_eq!(one.image_for(Runtime::Haskell), "all:1");
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named_with_what_can() {
        for (name, value, hint) in [
            ("THE0_PULL", "sometimes", "always, missing or never"),
            ("THE0_STACK", "My.Stack", "a-z 0-9 - _"),
            ("BOT_MEMORY_LIMIT_MB", "512Mi", "whole number"),
            ("THE0_MAX_MEMORY", "lots", ""),
            ("THE0_BOT_CPU", "-1", ""),
            ("THE0_KEYS_TTL", "soon", "12h"),
        ] {
            let text = template(&[(name, value)]).unwrap_err().to_string();
            assert!(text.starts_with(name) && text.contains(hint), "{text}");
        }
    }

    #[test]
    fn a_container_is_given_the_time_that_grace_and_drain_take() {
        let stop = |pairs: &[(&str, &str)]| template(pairs).unwrap().stop.as_secs();
        assert_eq!(stop(&[]), 60);
        assert_eq!(stop(&[("THE0_GRACE", "90s")]), 120);
        assert_eq!(stop(&[("THE0_GRACE", "2m"), ("THE0_DRAIN", "5m")]), 430);
    }

    #[test]
    fn what_goes_on_to_containers_is_chosen() {
        let all = given(&[
            ("PATH", "/agent/bin"),
            ("HTTPS_PROXY", "p"),
            ("THE0_GRACE", "5s"),
            ("X_API", "x"),
            ("MINIO_SECRET_KEY", "hunter2"),
            ("THE0_PASS_ENV", "X_API, MINIO_SECRET_KEY"),
        ]);
        let names: Vec<String> = passed(&all).into_keys().collect();
        assert_eq!(names, ["THE0_GRACE", "THE0_PASS_ENV", "X_API"]);
    }

    #[test]
    fn another_image_bound_or_store_is_another_template() {
        let base = template(&[]).unwrap();
        assert_eq!(
            base.digest("i"),
            template(&[("THE0_PULL", "always")]).unwrap().digest("i")
        );
        assert_ne!(base.digest("i"), base.digest("j"));
        assert_ne!(
            base.digest("i"),
            template(&[("THE0_PIDS", "9")]).unwrap().digest("i")
        );
        let at = |endpoint| {
            let store = given(&[("MINIO_ENDPOINT", endpoint)]);
            let template = Template::parse(&Variables::new(), Variables::new(), store);
            template.unwrap().digest("i")
        };
        assert_eq!(at("a:9000"), at("a:9000"));
        assert_ne!(at("a:9000"), at("b:9000"), "its sync would push elsewhere");
    }
}
