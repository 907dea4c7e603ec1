# The host agent's image: the agent (dynamic glibc), the three programs beside it, certificates, and iptables for the rule
# that keeps bots from metadata addresses. It is root, as whoever may use Docker's socket is anyway.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN command -v iptables >/dev/null || { apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends ca-certificates iptables && rm -rf /var/lib/apt/lists/*; }
ADD agent.tar /

ENV THE0_DATA=/data
WORKDIR /data
VOLUME /data
EXPOSE 8080 9477
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/the0/bin/agent"]
CMD ["bot-runner"]

ARG VERSION
ARG BASE
ARG BASE_WORDS
ARG INPUTS
LABEL org.opencontainers.image.title="the0/agent" \
      org.opencontainers.image.description="Makes the bots that run on a host match what should run" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      the0.base="${BASE_WORDS}" \
      the0.inputs="${INPUTS}"
