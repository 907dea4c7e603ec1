//! What the operator sets for all Pods of a stack. Read once from the environment and from a file of its own.
//!
//! The file ([`POD_TEMPLATE`], YAML) has those fields of a Pod's `spec` that say where Pods may run and how images are
//! had; what a bot's Pod must be is not among them, and an unknown field is refused.

use std::time::Duration;

use contract::launch::Variables;
use contract::{Digest, Runtime};
use k8s_openapi::api::core::v1::{
    Affinity, HostAlias, LocalObjectReference, PodDNSConfig, Toleration, TopologySpreadConstraint,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::engine::bounds::Bounds;
use crate::engine::settings::{BadSetting, Settings, image_for};
use crate::engine::stack::Stack;

/// The variable of the file.
pub const POD_TEMPLATE: &str = "THE0_POD_TEMPLATE";
const MIB: u64 = 1 << 20;
/// What the folders may take more than what our own programs end a bot for: a Pod that goes over is evicted, and what it
/// had unsaved is lost.
const ROOM: u64 = 512 * MIB;

/// What holds for every Pod of the stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Whose Pods they are.
    pub stack: Stack,
    /// The image, with `{runtime}` in the place of the runtime's name, or one for all.
    pub image: String,
    /// When it is pulled: `Always`, `IfNotPresent` or `Never`.
    pub pull: String,
    /// Bytes of memory of a bot that asks for none itself, and the most that one may ask for.
    pub memory: Bounds,
    /// Billionths of a processor, the same.
    pub cpu: Bounds,
    /// Billionths of a processor that are kept for a bot that asks for none itself.
    pub cpu_request: u64,
    /// Bytes of memory that `sync` may use.
    pub sync_memory: u64,
    /// Bytes of memory and billionths of a processor that are kept for each of those that wait and move bytes: `fetch`,
    /// `sync`, `query`.
    pub side_request: (u64, u64),
    /// Bytes of the folders.
    pub sizes: Sizes,
    /// Seconds that a Pod may take to end: `sync` goes on trying to save for so long.
    pub grace: i64,
    /// How long a bot's keys are good, where the store makes keys per bot.
    pub keys: Duration,
    /// Authorities that the store's certificate is signed by, PEM.
    pub ca: Option<String>,
    /// Variables that tune supervisors, and those the operator passes on to bots.
    pub environment: Variables,
    /// Variables that tell `sync` where the store is, without keys.
    pub store: Variables,
    /// Where Pods may run.
    pub place: Place,
}

/// Bytes of a Pod's folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The code.
    pub code: u64,
    /// The state.
    pub state: u64,
    /// Logs and records.
    pub var: u64,
    /// /tmp, which is memory.
    pub tmp: u64,
}

/// The fields of a Pod's `spec` that the operator may set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Place {
    /// Near and far from what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Names besides those of the DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_aliases: Option<Vec<HostAlias>>,
    /// How names are looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<PodDNSConfig>,
    /// Secrets for pulling images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// Which nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<std::collections::BTreeMap<String, String>>,
    /// Which go first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// What runs containers, as in gVisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Who chooses the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Who they are to the cluster; they get no token of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Which taints are borne.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// How they are spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
}

impl Place {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is not understood, or has a field that is not the operator's.
    pub fn parse(text: &str) -> Result<Self, BadSetting> {
        let read: Result<Option<Self>, _> = serde_norway::from_str(text);
        let bad = |err: serde_norway::Error| BadSetting {
            variable: POD_TEMPLATE,
            why: format!(
                "is a file that is not understood: {err}; give fields of a Pod's spec, as in tolerations"
            ),
        };
        Ok(read.map_err(bad)?.unwrap_or_default())
    }
}

/// What the template is made of beside the environment of the agent.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The text of [`POD_TEMPLATE`].
    pub place: Option<String>,
    /// Authorities, PEM.
    pub ca: Option<String>,
}

impl Template {
    /// Reads the agent's environment; `environment` and `store` are what goes on to Pods.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn parse(
        given: &Variables,
        environment: Variables,
        store: Variables,
        files: Files,
    ) -> Result<Self, BadSetting> {
        let read = Settings(given);
        let bad = |variable| move |why| BadSetting { variable, why };
        let stack = read.get("THE0_STACK").unwrap_or("default");
        let memory_default = read.whole("BOT_MEMORY_LIMIT_MB", 512)? * MIB;
        let grace = read.time("THE0_POD_GRACE", Duration::from_hours(1))?;
        let cpu = Bounds {
            default: read.cpus("THE0_BOT_CPU")?.unwrap_or(1_000_000_000),
            most: read.cpus("THE0_MAX_CPU")?,
        };
        Ok(Self {
            stack: stack.parse().map_err(bad("THE0_STACK"))?,
            image: read.get("RUNTIME_IMAGE").unwrap_or("the0/{runtime}").into(),
            pull: pull(&read)?,
            memory: Bounds {
                default: memory_default,
                most: Some(read.bytes("THE0_MAX_MEMORY", memory_default.max(4096 * MIB))?),
            },
            cpu,
            cpu_request: read.cpus("THE0_BOT_CPU_REQUEST")?.unwrap_or(100_000_000),
            sync_memory: read.bytes("THE0_SYNC_MEMORY", 256 * MIB)?,
            side_request: (
                read.bytes("THE0_SIDE_MEMORY_REQUEST", 32 * MIB)?,
                read.cpus("THE0_SIDE_CPU_REQUEST")?.unwrap_or(10_000_000),
            ),
            sizes: Sizes {
                code: read.whole("THE0_MAX_CODE_MB", 2048)? * MIB + ROOM,
                state: read.whole("MAX_STATE_SIZE_MB", 8192)? * MIB + ROOM,
                var: read.bytes("THE0_VAR_SIZE", 2048 * MIB)?,
                tmp: read.bytes("THE0_TMP_SIZE", 64 * MIB)?,
            },
            // Its own supervisor's time is the least that a Pod needs.
            grace: grace.max(read.stop()?).as_secs().cast_signed(),
            keys: read.time("THE0_KEYS_TTL", Duration::from_hours(12))?,
            ca: files.ca,
            environment,
            store,
            place: files
                .place
                .map_or(Ok(Place::default()), |text| Place::parse(&text))?,
        })
    }

    /// How long a Pod may take to end.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace.unsigned_abs())
    }

    /// The image for a runtime.
    pub fn image_for(&self, runtime: Runtime) -> String {
        image_for(&self.image, runtime)
    }

    /// The digest of what is the same for every bot of that runtime: a Pod with another one drifts from what the operator
    /// wants.
    pub fn digest(&self, runtime: Runtime) -> Digest {
        let covered = json!([
            self.image_for(runtime),
            self.pull,
            [
                self.memory.default,
                self.cpu.default,
                self.cpu_request,
                self.sync_memory,
                self.side_request.0,
                self.side_request.1
            ],
            self.sizes,
            self.grace,
            self.ca,
            self.environment,
            self.store,
            self.place,
        ]);
        Digest::from_bytes(Sha256::digest(covered.to_string()).into())
    }
}

/// When an image is pulled: Kubernetes' own words, or those of the Docker engine.
fn pull(read: &Settings<'_>) -> Result<String, BadSetting> {
    let variable = "THE0_PULL";
    match read.get(variable) {
        Some("Always" | "always") => Ok("Always".to_owned()),
        None | Some("IfNotPresent" | "missing") => Ok("IfNotPresent".to_owned()),
        Some("Never" | "never") => Ok("Never".to_owned()),
        Some(other) => Err(BadSetting {
            variable,
            why: format!("is {other:?}: use Always, IfNotPresent or Never"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(pairs: &[(&str, &str)], place: &str) -> Result<Template, BadSetting> {
        let given = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let files = Files {
            place: Some(place.to_owned()),
            ca: None,
        };
        Template::parse(&given.collect(), Variables::new(), Variables::new(), files)
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named_with_what_can() {
        for (name, value, hint) in [
            ("THE0_PULL", "sometimes", "IfNotPresent"),
            ("THE0_STACK", "My.Stack", "a-z 0-9 - _"),
            ("THE0_POD_GRACE", "soon", "12h"),
            ("THE0_SYNC_MEMORY", "lots", ""),
            ("THE0_SIDE_CPU_REQUEST", "few", ""),
        ] {
            let text = template(&[(name, value)], "").unwrap_err().to_string();
            assert!(text.starts_with(name) && text.contains(hint), "{text}");
        }
    }

    #[test]
    fn where_pods_run_is_the_operators_and_what_they_are_is_not() {
        let tolerations =
            "tolerations: [{key: bots, operator: Exists}]\nnodeSelector: {pool: bots}\n";
        let place = template(&[], tolerations).unwrap().place;
        assert_eq!(place.tolerations.unwrap()[0].key.as_deref(), Some("bots"));
        for bad in [
            "hostNetwork: true",
            "containers: []",
            "securityContext: {}",
            "- x",
        ] {
            let text = template(&[], bad).unwrap_err().to_string();
            assert!(text.starts_with(POD_TEMPLATE), "{text}");
        }
    }

    #[test]
    fn a_pod_has_time_to_save_and_never_less_than_its_supervisor_takes() {
        let grace = |pairs: &[(&str, &str)]| template(pairs, "").unwrap().grace;
        assert_eq!(grace(&[]), 3600);
        assert_eq!(grace(&[("THE0_POD_GRACE", "10s")]), 60);
        assert_eq!(
            grace(&[("THE0_POD_GRACE", "10s"), ("THE0_GRACE", "2m")]),
            150
        );
    }

    #[test]
    fn another_image_or_place_is_another_template() {
        let digest = |pairs: &[(&str, &str)], place: &str| {
            template(pairs, place).unwrap().digest(Runtime::Python)
        };
        let base = digest(&[], "");
        assert_eq!(base, digest(&[], "{}"));
        assert_ne!(base, digest(&[("RUNTIME_IMAGE", "i:2")], ""));
        assert_ne!(base, digest(&[], "schedulerName: other"));
    }
}
