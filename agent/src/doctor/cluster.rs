//! The cluster: whether the API server answers, what may be done in the namespace of the bots, and whether a bot's Pod would
//! be taken there.

use std::cell::RefCell;

use contract::Runtime;

use super::sheet::{Part, Sheet};
use crate::engine::kubernetes::template::Template;
use crate::engine::kubernetes::{connect, trial};

const KUBERNETES: Part = Part::Kubernetes;
/// The first minor version with containers that start before a bot's and end after it.
const SIDECARS: (u32, u32) = (1, 29);
const ROLE: &str = "bind a Role that has it to the agent's account: the chart's has all (images/chart/templates/rbac.yaml)";

/// Looks at the cluster around us, or that of the kubeconfig; `clock` is whether CronJobs are made there.
pub async fn look(
    namespace: Option<&str>,
    template: Option<&Template>,
    clock: bool,
    sheet: &RefCell<Sheet>,
) {
    let connected = match connect().await {
        Ok((client, own)) => trial::version(&client).await.map(|is| (client, own, is)),
        Err(err) => Err(format!("{err:#}")),
    };
    let (client, own, is) = match connected {
        Ok(connected) => connected,
        Err(why) => {
            let remedy =
                "name a kubeconfig that works in KUBECONFIG, or run this where the agent runs";
            return sheet.borrow_mut().failed(KUBERNETES, "server", why, remedy);
        }
    };
    let namespace = namespace.unwrap_or(&own);
    server(is, namespace, &mut sheet.borrow_mut());
    let missing = trial::missing(&client, namespace, clock).await;
    rights(missing, &mut sheet.borrow_mut());
    let Some(template) = template else { return };
    let runtime = Runtime::ALL[0];
    let taken = trial::admission(&client, namespace, template, runtime).await;
    admission(taken, namespace, &mut sheet.borrow_mut());
    let image = template.image_for(runtime);
    let how = match template.pull.as_str() {
        "Never" => "nodes must have them",
        _ => "nodes pull them",
    };
    let found = format!(
        "{how} ({}), as in {image}: not looked at from here",
        template.pull
    );
    sheet.borrow_mut().ok(KUBERNETES, "images", found);
}

/// Pure.
fn server(is: (u32, u32), namespace: &str, sheet: &mut Sheet) {
    let found = format!("{}.{}, namespace {namespace}", is.0, is.1);
    if is < SIDECARS {
        let remedy = "a bot's Pod needs sidecar containers: a cluster from 1.29 on has them";
        sheet.failed(KUBERNETES, "server", found, remedy);
    } else {
        sheet.ok(KUBERNETES, "server", found);
    }
}

/// Pure.
fn rights(missing: Result<String, String>, sheet: &mut Sheet) {
    match missing {
        Ok(none) if none.is_empty() => sheet.ok(KUBERNETES, "rights", "all that are needed"),
        Ok(missing) => sheet.failed(
            KUBERNETES,
            "rights",
            format!("not allowed: {missing}"),
            ROLE,
        ),
        Err(why) => {
            let remedy = "whoever is known to the cluster may usually ask what they may do (system:basic-user)";
            sheet.warning(KUBERNETES, "rights", format!("not known: {why}"), remedy);
        }
    }
}

/// Pure.
fn admission(taken: Result<(), String>, namespace: &str, sheet: &mut Sheet) {
    match taken {
        Ok(()) => sheet.ok(KUBERNETES, "pods", "a bot's Pod would be taken"),
        Err(why) => {
            let remedy =
                format!("bots do not start: mend what it says for the namespace {namespace}");
            sheet.failed(
                KUBERNETES,
                "pods",
                format!("would not be taken: {why}"),
                remedy,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;

    #[test]
    fn each_trouble_of_a_cluster_has_a_word_and_a_remedy() {
        let mut sheet = Sheet::default();
        server((1, 34), "bots", &mut sheet);
        rights(Ok(String::new()), &mut sheet);
        admission(Ok(()), "bots", &mut sheet);
        assert!(sheet.is_well());
        server((1, 28), "bots", &mut sheet);
        rights(Ok("pods: delete".into()), &mut sheet);
        rights(
            Err("the API server did not answer in time".into()),
            &mut sheet,
        );
        admission(
            Err("a Pod: violates PodSecurity".into()),
            "bots",
            &mut sheet,
        );
        let text = sheet.table(Colours::Off);
        assert!(text.ends_with("3 failed, 1 to look at"), "{text}");
        for word in [
            "1.28, namespace bots",
            "not allowed: pods: delete",
            "violates PodSecurity",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
