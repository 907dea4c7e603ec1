//! Answers about run-to-end jobs.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Asked, COUNT, Loop, ask};
use crate::jobs::document::Job;
use crate::request::{NoJob, Request};

/// The latest.
pub async fn list(asked: &str, to: &Loop) -> Result<Answer, Answer> {
    let asked = Asked::read(asked, &["count"])?;
    let count = asked.count.unwrap_or(COUNT);
    let jobs = ask(to, |to| Request::Jobs(count, to)).await?;
    let jobs: Vec<Value> = jobs.map_err(refused)?.iter().map(shown).collect();
    Ok(Answer::ok(json!({"jobs": jobs})))
}

/// One.
pub async fn show(id: String, to: &Loop) -> Result<Answer, Answer> {
    let job = ask(to, |to| Request::Job(id, to)).await?;
    Ok(Answer::ok(shown(&job.map_err(refused)?)))
}

/// Cancels one.
pub async fn cancel(id: String, to: &Loop) -> Result<Answer, Answer> {
    let job = ask(to, |to| Request::CancelJob(id, to)).await?;
    Ok(Answer::ok(shown(&job.map_err(refused)?)))
}

/// What is known of it, and nothing of its parameters.
fn shown(job: &Job) -> Value {
    let mut shown = job.shown();
    if let Value::Object(fields) = &mut shown {
        fields.retain(|_, value| !value.is_null());
    }
    shown
}

fn refused(why: NoJob) -> Answer {
    let (status, why) = match why {
        NoJob::Nowhere(why) => (StatusCode::NOT_FOUND, why),
        NoJob::Over(why) => (StatusCode::CONFLICT, why),
        NoJob::Away(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    Answer::error(status, &why)
}
