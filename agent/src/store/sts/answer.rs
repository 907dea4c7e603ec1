//! What a store answers when it is asked for keys.

use std::time::SystemTime;

use contract::Secret;
use contract::launch::Keys;
use roxmltree::{Document, Node};

use super::{Session, StsError};

/// The longest text of a store that is passed on.
const LONGEST: usize = 200;

/// A refusal in the store's own words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// That it has this interface: others answer as for an object.
    sts: bool,
    code: String,
    message: String,
}

/// The session in an answer, or why there is none.
pub(super) fn read(status: u16, body: &str) -> Result<Session, StsError> {
    if (200..300).contains(&status) {
        return session(body).ok_or_else(|| {
            let why = "the answer is none of an object store: check MINIO_ENDPOINT and what is in between";
            StsError::Failed(why.into())
        });
    }
    let said = refusal(body);
    let why = said.text(status);
    if said.is_without(status) {
        return Err(StsError::Unsupported(why));
    }
    Err(match status {
        500 | 502..=504 => StsError::Silent(why),
        _ => StsError::Failed(why),
    })
}

fn session(body: &str) -> Option<Session> {
    let document = Document::parse(body).ok()?;
    let root = document.root_element();
    let credentials = child(child(root, "AssumeRoleResult")?, "Credentials")?;
    let text = |name| Some(child(credentials, name)?.text()?.trim().to_owned());
    let names = [
        ("MINIO_ACCESS_KEY", "AccessKeyId"),
        ("MINIO_SECRET_KEY", "SecretAccessKey"),
        ("MINIO_SESSION_TOKEN", "SessionToken"),
    ];
    let key = |(variable, name): (&str, _)| Some((variable.to_owned(), Secret::new(text(name)?)));
    let keys = names.into_iter().map(key).collect::<Option<Keys>>()?;
    let expires = expiry(&text("Expiration")?)?;
    Some(Session { keys, expires })
}

fn expiry(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

fn child<'a, 'input>(of: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    of.children().find(|node| node.tag_name().name() == name)
}

fn refusal(body: &str) -> Said {
    let Ok(document) = Document::parse(body) else {
        return Said::default();
    };
    let root = document.root_element();
    let sts = root.tag_name().name() == "ErrorResponse";
    let error = if sts {
        child(root, "Error")
    } else {
        Some(root)
    };
    let text = |name| {
        let found = error.and_then(|error| child(error, name)?.text());
        plain(found.unwrap_or_default())
    };
    Said {
        sts,
        code: text("Code"),
        message: text("Message"),
    }
}

/// As much of a store's text as belongs on a line.
fn plain(text: &str) -> String {
    let printable = text.trim().chars().filter(|c| !c.is_control());
    printable.take(LONGEST).collect()
}

impl Said {
    /// Whether asking again is of no use: the store has no such interface, or not for these keys.
    fn is_without(&self, status: u16) -> bool {
        match (status, self.code.as_str()) {
            (404 | 405 | 501, _) => true,
            (403, "AccessDenied") => self.is_plain_denial(),
            (400, code) => !self.sts && !code.is_empty() && !is_passing(code),
            _ => false,
        }
    }

    /// MinIO has one code for all it denies; where the signature, the keys or the clock are wrong, its message says so.
    fn is_plain_denial(&self) -> bool {
        let message = self.message.trim_end_matches('.');
        message.is_empty() || message.eq_ignore_ascii_case("access denied")
    }

    fn text(&self, status: u16) -> String {
        let mut text = format!("the store answered {status}");
        for (mark, part) in [(" ", &self.code), (": ", &self.message)] {
            if !part.is_empty() {
                text = format!("{text}{mark}{}", part.trim_end_matches('.'));
            }
        }
        match self.code.as_str() {
            "AccessDenied" if self.is_plain_denial() => {
                text + ": a service account's keys may not ask for others; give the agent those of a user"
            }
            "AccessDenied"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch" => {
                text + ": check MINIO_ACCESS_KEY, MINIO_SECRET_KEY and this machine's clock"
            }
            _ => text,
        }
    }
}

/// What a store says of a request that it may take another time.
fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "RequestTimeout" | "SlowDown" | "RequestTimeTooSkewed" | "ExpiredToken" | "InvalidToken"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser><Arn></Arn>
<AssumeRoleId></AssumeRoleId></AssumedRoleUser><Credentials><AccessKeyId>ID</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey>
<Expiration>2026-11-21T12:39:07Z</Expiration><SessionToken>a.b&amp;c</SessionToken></Credentials></AssumeRoleResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"#;

    #[test]
    fn keys_are_read_with_their_end_and_not_printed() {
        let session = read(200, GIVEN).unwrap();
        let told: Vec<_> = session.keys.values().map(Secret::reveal).collect();
        assert_eq!(told, ["ID", "hunter2", "a.b&c"]);
        assert_eq!(
            humantime::format_rfc3339(session.expires).to_string(),
            "2026-11-21T12:39:07Z"
        );
        let printed = format!("{session:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("a.b"),
            "{printed}"
        );
    }

    #[test]
    fn half_an_answer_is_none() {
        for body in [
            "",
            "<html>hello</html>",
            &GIVEN.replace("SessionToken", "Other"),
            &GIVEN.replace("2026-11-21T12:39:07Z", "soon"),
            &GIVEN[..GIVEN.len() - 30],
        ] {
            let failed = read(200, body).unwrap_err();
            assert!(
                matches!(&failed, StsError::Failed(why) if !why.contains("hunter2")),
                "{failed}"
            );
        }
    }

    fn sts(code: &str) -> String {
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type></Type><Code>{code}</Code>\
             <Message>No.</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        )
    }

    fn s3(code: &str) -> String {
        format!("<Error><Code>{code}</Code><Message>No.</Message></Error>")
    }

    #[test]
    fn a_store_without_this_interface_is_told_from_one_that_fails() {
        let without = [
            (405, s3("MethodNotAllowed")),
            (501, s3("NotImplemented")),
            (404, String::new()),
            (400, s3("InvalidRequest")),
            (403, sts("AccessDenied").replace("No.", "Access Denied.")),
        ];
        for (status, body) in without {
            let error = read(status, &body).unwrap_err();
            assert!(matches!(error, StsError::Unsupported(_)), "{status} {body}");
        }
        let failing = [
            (400, sts("InvalidParameterValue")),
            (400, s3("RequestTimeout")),
            (400, "<html>bad</html>".to_owned()),
            (
                403,
                sts("AccessDenied")
                    .replace("No.", "The request signature we calculated does not match"),
            ),
            (403, sts("InvalidClientTokenId")),
            (403, s3("SignatureDoesNotMatch")),
            (403, String::new()),
            (429, String::new()),
        ];
        for (status, body) in failing {
            let error = read(status, &body).unwrap_err();
            assert!(matches!(error, StsError::Failed(_)), "{status} {body}");
        }
        let silent = [
            (500, sts("InternalError")),
            (502, "<html>bad gateway</html>".to_owned()),
            (503, s3("SlowDown")),
        ];
        for (status, body) in silent {
            let error = read(status, &body).unwrap_err();
            assert!(matches!(error, StsError::Silent(_)), "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = read(403, &sts("SignatureDoesNotMatch"))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("403 SignatureDoesNotMatch: No: check MINIO_ACCESS_KEY"),
            "{text}"
        );
        let long = s3("X").replace("No.", &"é\n".repeat(4_000));
        assert!(read(500, &long).unwrap_err().to_string().len() < 600);
    }
}
