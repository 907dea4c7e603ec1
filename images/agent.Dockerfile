# The host agent's image: the agent (dynamic glibc), the three programs beside it, certificates from the base. It is root,
# as whoever may use Docker's socket is anyway.
ARG BASE=gcr.io/distroless/cc-debian12
FROM ${BASE}
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
