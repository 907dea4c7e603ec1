//! What containers use, asked of the daemon without its own pause of a second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use contract::BotId;
use futures_util::StreamExt;

use super::Engine;
use crate::engine::usage::{APART, Sample, Usage};

/// Containers that are asked about at once.
const AT_ONCE: usize = 16;
/// Time for all of them: what has not come by then is left out.
const ENOUGH: Duration = Duration::from_secs(3);

impl Engine {
    /// What the first `most` bots that run have used so far.
    pub fn samples(&self, most: usize) -> impl Future<Output = HashMap<BotId, Sample>> + use<> {
        let docker = self.access.docker.clone();
        let mut running = self.running();
        running.sort_unstable();
        running.truncate(most);
        async move { samples(&docker, &running).await }
    }

    fn running(&self) -> Vec<(BotId, String)> {
        let running = self.slots.iter();
        running
            .filter_map(|(bot, slot)| Some((bot.clone(), slot.running.as_ref()?.id.clone())))
            .collect()
    }

    /// What the bots that run use now.
    pub fn usage(&self) -> impl Future<Output = HashMap<BotId, Usage>> + use<> {
        let docker = self.access.docker.clone();
        let running = self.running();
        async move {
            let first = samples(&docker, &running).await;
            tokio::time::sleep(APART).await;
            let last = samples(&docker, &running).await;
            let usage = last.into_iter().map(|(bot, last)| {
                let usage = Usage::between(first.get(&bot).copied(), last);
                (bot, usage)
            });
            usage.collect()
        }
    }
}

async fn samples(docker: &Docker, of: &[(BotId, String)]) -> HashMap<BotId, Sample> {
    let ask = |(bot, id): (BotId, String)| async move { Some((bot, sample(docker, &id).await?)) };
    let asked = futures_util::stream::iter(of.to_vec()).map(ask);
    let enough = Box::pin(tokio::time::sleep(ENOUGH));
    let came = asked.buffer_unordered(AT_ONCE).take_until(enough);
    came.filter_map(std::future::ready).collect().await
}

async fn sample(docker: &Docker, id: &str) -> Option<Sample> {
    let options = StatsOptionsBuilder::default()
        .stream(false)
        .one_shot(true)
        .build();
    let mut stats = std::pin::pin!(docker.stats(id, Some(options)));
    read(&stats.next().await?.ok()?)
}

fn read(stats: &ContainerStatsResponse) -> Option<Sample> {
    let cpu = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?;
    let memory = stats.memory_stats.as_ref()?;
    let used = memory.usage?;
    // What the kernel can take back at once is not used: as `docker stats` counts, in both versions of cgroups.
    let cached = memory.stats.as_ref().and_then(|all| {
        let value = |name: &str| all.get(name).copied();
        value("total_inactive_file").or_else(|| value("inactive_file"))
    });
    Some(Sample {
        cpu,
        memory: used.saturating_sub(cached.unwrap_or(0)),
        limit: memory.limit,
        at: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_versions_of_cgroups_are_read() {
        for name in ["total_inactive_file", "inactive_file"] {
            let stats = json!({
                "cpu_stats": {"cpu_usage": {"total_usage": 7}},
                "memory_stats": {"usage": 100, "limit": 512, "stats": {name: 40}},
            });
            let sample = read(&serde_json::from_value(stats).unwrap()).unwrap();
            assert_eq!(
                (sample.cpu, sample.memory, sample.limit),
                (7, 60, Some(512))
            );
        }
        assert_eq!(read(&ContainerStatsResponse::default()), None);
    }
}
