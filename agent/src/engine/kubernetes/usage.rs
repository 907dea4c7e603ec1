//! What Pods use, as the cluster's own metrics have it (`metrics.k8s.io`), where it has some.
//!
//! It is asked when a person asks, in one request for all. What a kubelet knows beyond that is not asked: who may ask it
//! that may do anything on its node.

use std::collections::HashMap;
use std::time::Duration;

use contract::BotId;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Error};
use serde_json::Value;
use tokio::time::timeout;

use super::refusal::{has_status, said};
use super::{Engine, names};
use crate::engine::usage::{Usage, Used};
use crate::quantity;

/// Time for the answer.
const ENOUGH: Duration = Duration::from_secs(3);

impl Engine {
    /// What the bots whose Pods run use now, with the programs around them.
    pub fn usage(&self) -> impl Future<Output = Used> + use<> {
        let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
        let kind = ApiResource::from_gvk_with_plural(&kind, "pods");
        let (client, namespace) = (self.access.client.clone(), &self.access.namespace);
        let metrics: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
        let selector = names::selector(&self.access.template.stack);
        let running = self.slots.iter();
        let running: HashMap<String, BotId> = running
            .filter_map(|(bot, slot)| Some((slot.pod.as_ref()?.name.clone(), bot.clone())))
            .collect();
        async move {
            if running.is_empty() {
                return Used::default();
            }
            let params = ListParams::default().labels(&selector);
            match timeout(ENOUGH, metrics.list(&params)).await {
                Ok(Ok(pods)) => Used::from(of_bots(pods.items, &running)),
                Ok(Err(err)) => Used::unknown(why(&err)),
                Err(_) => Used::unknown(format!(
                    "the cluster's metrics have not come in {} s",
                    ENOUGH.as_secs()
                )),
            }
        }
    }
}

fn of_bots(pods: Vec<DynamicObject>, running: &HashMap<String, BotId>) -> HashMap<BotId, Usage> {
    let usage = |pod: DynamicObject| {
        let bot = running.get(pod.metadata.name.as_ref()?)?;
        Some((bot.clone(), usage(&pod.data)?))
    };
    pods.into_iter().filter_map(usage).collect()
}

/// Of all containers of a Pod.
fn usage(pod: &Value) -> Option<Usage> {
    let containers = pod["containers"].as_array().filter(|all| !all.is_empty())?;
    let sum = |name: &str, read: fn(&Value) -> Result<u64, quantity::BadQuantity>| {
        let amounts = containers.iter().map(|container| &container["usage"][name]);
        // Nothing used is no amount above zero.
        amounts.map(|amount| read(amount).unwrap_or(0)).sum::<u64>()
    };
    #[expect(clippy::cast_precision_loss, reason = "a share is no exact number")]
    let cpu = sum("cpu", quantity::cpu) as f64 / 1e9;
    Some(Usage {
        cpu: Some((cpu * 1000.0).round() / 10.0),
        memory: sum("memory", quantity::memory),
        memory_limit: None,
    })
}

/// Why it is not known, and what would change that.
fn why(err: &Error) -> String {
    match err {
        err if has_status(err, 404) => {
            "the cluster serves no metrics.k8s.io (metrics-server does, for one)".to_owned()
        }
        err if has_status(err, 401) || has_status(err, 403) => {
            "the agent may not read them: its Role needs `list` of `pods` of metrics.k8s.io (the chart's rbac.metrics)"
                .to_owned()
        }
        err => format!("the cluster's metrics.k8s.io does not answer: {}", said(err)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::docker::tests::{block_on, bot};
    use crate::engine::kubernetes::tests::{Stage, list, pod, running, stage};

    const PATH: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/bots/pods";

    /// What is known of one bot whose Pod runs, where the metrics are answered like this.
    fn used(answer: Option<(u16, Value)>) -> (Used, Vec<String>) {
        block_on(async {
            let script = move |request: &crate::engine::kubernetes::tests::Request| {
                request.path.starts_with(PATH).then(|| answer.clone())?
            };
            let Stage {
                mut engine,
                cluster,
                ..
            } = stage(script);
            let pod = pod(&bot("b1"), "u1", None, &running());
            list(&mut engine, &[&pod], Duration::ZERO);
            let used = engine.usage().await;
            let asked = cluster.requests().into_iter().map(|request| request.path);
            (used, asked.filter(|path| path.starts_with(PATH)).collect())
        })
    }

    fn metrics(name: &str, containers: &Value) -> Value {
        json!({"metadata": {"name": name}, "window": "10s", "containers": containers})
    }

    #[test]
    fn all_containers_of_a_pod_count_and_pods_of_nobody_do_not() {
        let own = json!([
            {"name": "bot", "usage": {"cpu": "120500000n", "memory": "20Mi"}},
            {"name": "sync", "usage": {"cpu": "0", "memory": "1024Ki"}},
        ]);
        let other = json!([{"name": "a", "usage": {"cpu": "1", "memory": "1Gi"}}]);
        let items = [
            metrics("default-b1", &own),
            metrics("default-b2", &other),
            metrics("default-b1", &json!([])),
        ];
        let (used, asked) = used(Some((200, json!({"metadata": {}, "items": items}))));
        let usage = Usage {
            cpu: Some(12.1),
            memory: 21 << 20,
            memory_limit: None,
        };
        let b1: BotId = "b1".parse().unwrap();
        assert_eq!((used.by, used.but), ([(b1, usage)].into(), None));
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].contains("labelSelector="), "{asked:?}");
    }

    #[test]
    fn where_nothing_is_known_it_is_said_why() {
        let status = |code: u16| {
            let body =
                json!({"kind": "Status", "status": "Failure", "message": "no", "code": code});
            Some((code, body))
        };
        for (answer, expected) in [
            (status(404), "serves no metrics.k8s.io"),
            (status(403), "rbac.metrics"),
            (status(503), "does not answer: no"),
            (None, "have not come in 3 s"),
        ] {
            let (used, _) = used(answer);
            assert!(used.by.is_empty());
            let but = used.but.unwrap();
            assert!(but.contains(expected), "{but}");
        }
    }

    #[test]
    fn nobody_is_asked_where_nothing_runs() {
        let Stage {
            engine, cluster, ..
        } = block_on(async { stage(|_| None) });
        let used = block_on(engine.usage());
        assert!(used.by.is_empty() && used.but.is_none());
        let mut asked = cluster.requests().into_iter();
        assert!(!asked.any(|request| request.path.contains("metrics")));
    }
}
