//! What the keys of one bot may do: all that its `sync` does, on that bot's objects, and nothing else.
//!
//! ```text
//! bucket of code     read the one bundle
//! bucket of states   read, write, remove <bot>/*        list what begins with <bot>/
//! bucket of logs     read, write, remove logs/<bot>/*   list what begins with logs/<bot>/
//! ```
//!
//! What only asks ([`Reach::Reads`]) may read the bundle and the states, and nothing more; what sends the answer
//! ([`Reach::Sends`]) may write that one object.
//!
//! Names of uploads that are not finished cannot be bounded by a prefix: of other bots, their keys can be seen while
//! they upload, and nothing done to them.

use contract::{BotId, ObjectKey};
use serde_json::{Value, json};
use thiserror::Error;

/// The longest session policy that stores take.
const LONGEST: usize = 2_048;
/// Characters that mean something else than themselves in the name of a resource.
const SPECIAL: [&str; 3] = ["*", "?", "${"];

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A bot that runs and is saved.
    Keeps,
    /// A question to its last state.
    Reads,
    /// The result of a question.
    Sends,
}

/// No policy can say what this bot's keys may do.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoPolicy {
    /// The name would stand for more than itself.
    #[error(
        "{0:?} has a *, a ? or a ${{, which in a policy of the store stand for other names too: rename it"
    )]
    Special(String),
    /// The names take more room than there is.
    #[error(
        "the policy for its keys takes {0} bytes and stores take {LONGEST}: shorten the key of the code, {1} bytes long"
    )]
    Long(usize, usize),
    /// Its states would be where the logs of all are.
    #[error(
        "states and logs are in one bucket, {0}, and a bot of this id would have those of all: give it another id, or \
         the logs a bucket of their own by MINIO_LOGS_BUCKET"
    )]
    Shared(String),
}

/// The session policy of `bot`; `object` is its code, or the result that is sent; `buckets` are those of code, states, logs
/// and results.
///
/// # Errors
/// The name that it cannot be written for, and the remedy.
pub fn policy(
    bot: &BotId,
    object: &ObjectKey,
    buckets: &[String; 4],
    reach: Reach,
) -> Result<String, NoPolicy> {
    let [code_bucket, state_bucket, logs_bucket, results_bucket] = buckets;
    let names = buckets.iter().map(String::as_str);
    let names = names.chain([object.as_str()]);
    for name in names {
        if SPECIAL.iter().any(|special| name.contains(special)) {
            return Err(NoPolicy::Special(name.to_owned()));
        }
    }
    if state_bucket == logs_bucket && bot.as_str() == "logs" {
        return Err(NoPolicy::Shared(logs_bucket.clone()));
    }
    let logs = format!("logs/{bot}/*");
    let state = format!("{bot}/*");
    let read = |resource: String| json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource});
    let bundle = read(arn(code_bucket, object.as_str()));
    let statements = match reach {
        Reach::Keeps => vec![
            bundle,
            objects(&[arn(state_bucket, &state), arn(logs_bucket, &logs)]),
            list(state_bucket, &state),
            list(logs_bucket, &logs),
            uploads(&[state_bucket, logs_bucket]),
        ],
        Reach::Reads => vec![
            bundle,
            read(arn(state_bucket, &state)),
            list(state_bucket, &state),
        ],
        Reach::Sends => {
            let policy = document([write(&arn(results_bucket, object.as_str()))].iter());
            return fitting(policy, object);
        }
    };
    // By which a store says that there is no such bundle, and not that it may not be read: done without where there is
    // no room for it.
    let told = list(code_bucket, object.as_str());
    let whole = document(statements.iter().chain([&told]));
    if whole.len() <= LONGEST {
        return Ok(whole);
    }
    fitting(document(statements.iter()), object)
}

fn fitting(policy: String, object: &ObjectKey) -> Result<String, NoPolicy> {
    if policy.len() <= LONGEST {
        return Ok(policy);
    }
    Err(NoPolicy::Long(policy.len(), object.as_str().len()))
}

fn document<'a>(statements: impl Iterator<Item = &'a Value>) -> String {
    let statements: Vec<_> = statements.collect();
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn arn(bucket: &str, key: &str) -> String {
    format!("arn:aws:s3:::{bucket}/{key}")
}

/// Parts of uploads, their beginning and their completion are writes too.
fn objects(resources: &[String]) -> Value {
    json!({
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
        "Resource": resources,
    })
}

fn write(resource: &str) -> Value {
    let actions = ["s3:PutObject", "s3:AbortMultipartUpload"];
    json!({"Effect": "Allow", "Action": actions, "Resource": resource})
}

fn list(bucket: &str, prefix: &str) -> Value {
    json!({
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": format!("arn:aws:s3:::{bucket}"),
        "Condition": {"StringLike": {"s3:prefix": prefix}},
    })
}

fn uploads(buckets: &[&String]) -> Value {
    let resources: Vec<_> = buckets
        .iter()
        .map(|bucket| format!("arn:aws:s3:::{bucket}"))
        .collect();
    json!({"Effect": "Allow", "Action": "s3:ListBucketMultipartUploads", "Resource": resources})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bot: &str, code: &str, [a, b, c]: [&str; 3]) -> Result<String, NoPolicy> {
        let (bot, code) = (bot.parse().unwrap(), code.parse().unwrap());
        let buckets = [a, b, c, "results"].map(String::from);
        policy(&bot, &code, &buckets, Reach::Keeps)
    }

    /// What each statement allows, on what, under which prefix.
    fn rows(text: &str) -> Vec<(String, String, String)> {
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!(document["Version"], "2012-10-17");
        let words = |value: &Value| match value {
            Value::String(word) => word.clone(),
            Value::Array(all) => all
                .iter()
                .map(|word| word.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" "),
            _ => String::new(),
        };
        let row = |statement: &Value| {
            assert_eq!(statement["Effect"], "Allow");
            let prefix = &statement["Condition"]["StringLike"]["s3:prefix"];
            (
                words(&statement["Action"]).replace("s3:", ""),
                words(&statement["Resource"]).replace("arn:aws:s3:::", ""),
                words(prefix),
            )
        };
        let statements = document["Statement"].as_array().unwrap();
        statements.iter().map(row).collect()
    }

    #[test]
    fn a_bot_may_have_its_own_objects_and_nothing_else() {
        let text = of("b1", "u1/watcher/1.0.0", ["code", "states", "logs"]).unwrap();
        let all = "GetObject PutObject DeleteObject AbortMultipartUpload ListMultipartUploadParts";
        let expected = [
            ("GetObject", "code/u1/watcher/1.0.0", ""),
            (all, "states/b1/* logs/logs/b1/*", ""),
            ("ListBucket", "states", "b1/*"),
            ("ListBucket", "logs", "logs/b1/*"),
            ("ListBucketMultipartUploads", "states logs", ""),
            ("ListBucket", "code", "u1/watcher/1.0.0"),
        ];
        let expected = expected.map(|(a, b, c)| (a.into(), b.into(), c.into()));
        assert_eq!(rows(&text), expected);
    }

    #[test]
    fn who_only_asks_reads_code_and_states() {
        let (bot, code) = ("b1".parse().unwrap(), "u1/b/1".parse().unwrap());
        let buckets = ["code", "states", "logs", "results"].map(String::from);
        let text = policy(&bot, &code, &buckets, Reach::Reads).unwrap();
        let expected = [
            ("GetObject", "code/u1/b/1", ""),
            ("GetObject", "states/b1/*", ""),
            ("ListBucket", "states", "b1/*"),
            ("ListBucket", "code", "u1/b/1"),
        ];
        let expected = expected.map(|(a, b, c)| (a.into(), b.into(), c.into()));
        assert_eq!(rows(&text), expected);
    }

    #[test]
    fn who_sends_an_answer_writes_that_and_reads_nothing() {
        let (bot, key) = (
            "b1".parse().unwrap(),
            "b1/7-ab/result.json".parse().unwrap(),
        );
        let buckets = ["code", "states", "logs", "results"].map(String::from);
        let text = policy(&bot, &key, &buckets, Reach::Sends).unwrap();
        let writes = "PutObject AbortMultipartUpload".to_owned();
        assert_eq!(
            rows(&text),
            [(
                writes,
                "results/b1/7-ab/result.json".to_owned(),
                String::new()
            )]
        );
    }

    #[test]
    fn long_names_fit_or_are_refused_with_the_remedy() {
        let id = "i".repeat(64);
        let bucket = "b".repeat(63);
        let with = |length: usize| of(&id, &"k".repeat(length), [&bucket, &bucket, &bucket]);
        let lists_code = |text: &str| rows(text).iter().any(|(_, _, p)| p.starts_with("kkk"));
        let platforms = with(28 + 1 + 64 + 1 + 32).unwrap();
        assert!(lists_code(&platforms));
        let long = with(500).unwrap();
        assert!(!lists_code(&long) && rows(&long)[0].0 == "GetObject");
        let text = with(1024).unwrap_err().to_string();
        assert!(text.contains("shorten the key of the code"), "{text}");
    }

    #[test]
    fn a_name_that_stands_for_others_is_refused() {
        for code in ["u/*/1", "u/b?/1", "u/${aws:username}/1", "*"] {
            let error = of("b1", code, ["code", "states", "logs"]).unwrap_err();
            assert_eq!(error, NoPolicy::Special(code.into()));
        }
        assert!(of("b1", "u/b/1", ["code", "st*", "logs"]).is_err());
        assert!(of("b1", "u/b$/1", ["code", "states", "logs"]).is_ok());
    }

    #[test]
    fn one_bucket_for_states_and_logs_gives_no_bot_the_logs_of_all() {
        assert!(of("b1", "u/b/1", ["code", "all", "all"]).is_ok());
        assert_eq!(
            of("logs", "u/b/1", ["code", "all", "all"]),
            Err(NoPolicy::Shared("all".into()))
        );
        assert!(of("logs", "u/b/1", ["code", "states", "logs"]).is_ok());
    }

    proptest! {
        #[test]
        fn a_policy_is_a_short_document_of_names_as_they_are(
            bot in "[A-Za-z0-9_][A-Za-z0-9_-]{0,63}",
            code in "[ -~é]{1,12}(/[ -~é]{1,300}){0,3}",
        ) {
            let (Ok(bot), Ok(code)) = (bot.parse::<BotId>(), code.parse::<ObjectKey>()) else { return Ok(()) };
            let buckets = ["custom-bots", "bot-state", "bot-logs", "query-results"].map(String::from);
            if let Ok(text) = policy(&bot, &code, &buckets, Reach::Keeps) {
                prop_assert!(text.len() <= LONGEST);
                let rows = rows(&text);
                let stars: usize = rows.iter().map(|(_, b, c)| b.matches(['*', '?']).count() + c.matches(['*', '?']).count()).sum();
                prop_assert_eq!(stars, 4);
                prop_assert_eq!(&rows[0].1, &format!("custom-bots/{code}"));
            }
        }
    }
}
