//! A container as the agent makes them, by `docker run` alone.

use serde_json::Value;
use tests::containers::{Container, Docker};

/// Where a bot's volumes are mounted, in the order the agent has them.
const PLACES: [&str; 3] = ["/bot", "/state", "/var/the0"];

/// Options by which `docker run` makes what the agent has made.
pub struct Like {
    image: String,
    options: Vec<String>,
    promised: Value,
}

/// What a container runs, and in which environment.
pub struct Program {
    /// Its command line.
    pub command: Vec<String>,
    /// Its variables.
    pub environment: Vec<(&'static str, String)>,
}

impl Like {
    /// A container of the agent's, by what `docker inspect` says of it.
    pub fn this(container: &Value) -> Self {
        let host = &container["HostConfig"];
        let config = &container["Config"];
        let number = |name: &str| host[name].as_u64().unwrap_or(0);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut options = vec![
            "--interactive".to_owned(),
            "--no-healthcheck".to_owned(),
            "--read-only".to_owned(),
            format!("--user={}", word(&config["User"])),
            format!("--stop-timeout={}", config["StopTimeout"]),
            format!("--ipc={}", word(&host["IpcMode"])),
            format!("--network={}", word(&host["NetworkMode"])),
            format!("--memory={}", number("Memory")),
            format!("--memory-swap={}", number("MemorySwap")),
            format!("--cpus={}", cpus(number("NanoCpus"))),
            format!("--pids-limit={}", number("PidsLimit")),
            format!("--log-driver={}", word(&host["LogConfig"]["Type"])),
        ];
        options.extend(each(&host["CapDrop"], |drop| {
            format!("--cap-drop={}", word(drop))
        }));
        options.extend(each(&host["SecurityOpt"], |set| {
            format!("--security-opt={}", word(set))
        }));
        options.extend(each(&host["Ulimits"], |limit| {
            format!(
                "--ulimit={}={}:{}",
                word(&limit["Name"]),
                limit["Soft"],
                limit["Hard"]
            )
        }));
        options.extend(pairs(&host["Tmpfs"], |path, how| {
            format!("--tmpfs={path}:{how}")
        }));
        options.extend(pairs(&host["LogConfig"]["Config"], |name, value| {
            format!("--log-opt={name}={value}")
        }));
        Self {
            image: word(&config["Image"]),
            options,
            promised: told(host),
        }
    }

    /// Starts one of the name `short` on these volumes.
    pub fn run<'a>(
        &self,
        docker: &'a Docker,
        short: &str,
        volumes: &[String; 3],
        program: &Program,
    ) -> Container<'a> {
        let mount = |(name, place): (&String, &str)| {
            format!("--mount=type=volume,source={name},target={place}")
        };
        let mut options = self.options.clone();
        options.extend(volumes.iter().zip(PLACES).map(mount));
        let set = program.environment.iter();
        options.extend(set.map(|(name, value)| format!("--env={name}={value}")));
        options.push(format!("--entrypoint={}", program.command[0]));
        let words: Vec<&str> = program.command[1..].iter().map(String::as_str).collect();
        docker.run(short, &options, &self.image, &words)
    }

    /// Nothing is compared that is not alike.
    ///
    /// # Panics
    /// With both, when a flag or a mount differs.
    pub fn check(&self, bare: &Container) {
        let made = told(&bare.inspect()["HostConfig"]);
        assert_eq!(
            made, self.promised,
            "{} is not as the agent's are",
            bare.name
        );
    }
}

fn cpus(billionths: u64) -> String {
    format!(
        "{}.{:09}",
        billionths / 1_000_000_000,
        billionths % 1_000_000_000
    )
}

fn each(list: &Value, option: impl Fn(&Value) -> String) -> Vec<String> {
    list.as_array().into_iter().flatten().map(option).collect()
}

fn pairs(map: &Value, option: impl Fn(&str, &str) -> String) -> Vec<String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| option(name, value.as_str().unwrap_or_default()))
        .collect()
}

/// What is set, without names of volumes; what is empty is as good as not set, and no list has an order.
fn told(host: &Value) -> Value {
    let mut told = host.clone();
    let places = each(&host["Mounts"], |mount| mount["Target"].to_string());
    told["Mounts"] = Value::from(places);
    let Some(set) = told.as_object_mut() else {
        return Value::Null;
    };
    set.retain(|_, value| !is_empty(value));
    for list in set.values_mut().filter_map(Value::as_array_mut) {
        list.sort_by_key(ToString::to_string);
    }
    told
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Object(map) => map.values().all(is_empty),
    }
}
