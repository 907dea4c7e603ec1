//! The values of a launch's variables, each read by its rule or refused with its name and the remedy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::{BotType, Confine, LaunchError, Question, Variables};
use crate::id::NameError;
use crate::paths::Paths;
use crate::secret::Secret;
use crate::vars;

/// Variables to read from; an empty one counts as not set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a>(pub(super) &'a Variables);

impl<'a> Values<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn required(self, name: &'static str) -> Result<&'a str, LaunchError> {
        self.get(name).ok_or(LaunchError::Missing(name))
    }

    pub(super) fn name<T: FromStr<Err = NameError>>(
        self,
        variable: &'static str,
    ) -> Result<Option<T>, LaunchError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|cause| LaunchError::Name { variable, cause })
        };
        self.get(variable).map(parse).transpose()
    }

    pub(super) fn path(self, name: &str, default: impl AsRef<Path>) -> PathBuf {
        self.get(name)
            .map_or(default.as_ref().to_owned(), PathBuf::from)
    }

    pub(super) fn paths(self) -> Paths {
        let state = self.path(vars::STATE_PATH, "/state");
        let var = self.path(vars::THE0_VAR_PATH, "/var/the0");
        Paths {
            code: self.path(vars::CODE_PATH, "/bot"),
            sdk_state: self.path(vars::STATE_DIR, state.join(".the0-state")),
            logs: self.path(vars::LOGS_PATH, var.join("logs")),
            state,
            var,
        }
    }

    pub(super) fn seconds(self, name: &'static str, default: u64) -> Result<Duration, LaunchError> {
        duration(name, self.get(name), Duration::from_secs(default))
    }

    /// A program's path inside the code.
    pub(super) fn entry(self, variable: &'static str) -> Result<Option<String>, LaunchError> {
        let Some(text) = self.get(variable) else {
            return Ok(None);
        };
        let leaves = text.starts_with('/')
            || text.split('/').any(|part| part == "..")
            || text.contains('\0');
        if leaves {
            let why = format!(
                "is {text:?}: give the program's path inside the code, relative and without .."
            );
            return Err(LaunchError::Value { variable, why });
        }
        Ok(Some(text.strip_prefix("./").unwrap_or(text).to_owned()))
    }

    /// The one question that the container is there for.
    pub(super) fn question(self) -> Result<Option<Question>, LaunchError> {
        let Some(path) = self.get(vars::QUERY_PATH) else {
            return Ok(None);
        };
        if path.contains('\0') {
            return Err(LaunchError::Value {
                variable: vars::QUERY_PATH,
                why: "has a NUL, which no variable can hold: leave it out".into(),
            });
        }
        let text = self.get(vars::QUERY_PARAMS).unwrap_or("{}");
        let refuse = |why: &str| LaunchError::Value {
            variable: vars::QUERY_PARAMS,
            why: format!("{why}: give a JSON object, as in {{\"symbol\":\"BTC/USD\"}}"),
        };
        match serde_json::from_str(text) {
            Ok(serde_json::Value::Object(params)) => Ok(Some(Question {
                path: path.to_owned(),
                params: params.into(),
                result_key: self.name(vars::QUERY_RESULT_KEY)?,
                result_file: self.get(vars::THE0_QUERY_RESULT_FILE).map(PathBuf::from),
            })),
            Ok(_) => Err(refuse("is JSON but not an object")),
            Err(err) => Err(refuse(&format!(
                "is not JSON (line {}, column {})",
                err.line(),
                err.column()
            ))),
        }
    }

    pub(super) fn config(self) -> Result<Secret, LaunchError> {
        let text = self.get(vars::BOT_CONFIG).unwrap_or("{}");
        let refuse = |why: String| LaunchError::Value {
            variable: vars::BOT_CONFIG,
            why,
        };
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(serde_json::Value::Object(_)) => Ok(Secret::new(text)),
            Ok(_) => Err(refuse(
                "is JSON but not an object: give an object, as in {\"symbol\":\"BTC/USD\"}".into(),
            )),
            // serde_json's message can quote the text, so only the position is told.
            Err(err) => Err(refuse(format!(
                "is not JSON (line {}, column {}): give a JSON object, as in {{\"symbol\":\"BTC/USD\"}}",
                err.line(),
                err.column()
            ))),
        }
    }

    pub(super) fn bot_type(self) -> Result<BotType, LaunchError> {
        let (given, is_scheduled) = (self.get(vars::BOT_TYPE), self.get(vars::IS_SCHEDULED));
        match (given, is_scheduled) {
            (Some("scheduled"), _) | (None, Some("true")) => Ok(BotType::Scheduled),
            (Some("realtime") | None, _) => Ok(BotType::Realtime),
            (Some(other), _) => Err(LaunchError::Value {
                variable: vars::BOT_TYPE,
                why: format!("is {other:?}: use realtime or scheduled"),
            }),
        }
    }

    pub(super) fn confine(self) -> Result<Confine, LaunchError> {
        let name = self.get(vars::THE0_CONFINE).unwrap_or("full");
        let all = [Confine::Full, Confine::Signals, Confine::Off];
        all.into_iter()
            .find(|c| c.name() == name)
            .ok_or_else(|| LaunchError::Value {
                variable: vars::THE0_CONFINE,
                why: format!("is {name:?}: use full, signals or off"),
            })
    }

    pub(super) fn address(
        self,
        variable: &'static str,
        default: &str,
    ) -> Result<SocketAddr, LaunchError> {
        let given = self.get(variable).unwrap_or(default);
        given.parse().map_err(|_| LaunchError::Value {
            variable,
            why: "is not an address: give host and port as in 0.0.0.0:9476, the host as a number"
                .into(),
        })
    }
}

/// A duration as `30s`, `1m30s` or `500ms`.
///
/// # Errors
/// The variable's name and the form that is understood.
pub fn duration(
    variable: &'static str,
    given: Option<&str>,
    default: Duration,
) -> Result<Duration, LaunchError> {
    given.map_or(Ok(default), |text| {
        humantime::parse_duration(text).map_err(|_| LaunchError::Value {
            variable,
            why: format!("is {text:?}: give a duration as in 30s or 1m30s"),
        })
    })
}
