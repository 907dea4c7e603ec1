# The matrix of images/build.sh for `docker buildx bake`, on upstream bases, for who publishes the images:
#   make dist build && images/stage.sh runtimes agent && docker buildx bake --file images/docker-bake.hcl
# It was never executed where it was written (no buildx, no registry); build.sh is what is tested.

variable "PREFIX" { default = "the0" }
variable "TAG" { default = "latest" }
variable "VERSION" { default = "0.1.0" }

group "default" {
  targets = ["runtime", "agent"]
}

target "runtime" {
  matrix = {
    image = [
      { name = "python3.11", base = "python:3.11-slim-bookworm" },
      { name = "nodejs20", base = "node:20-bookworm-slim" },
      { name = "rust-stable", base = "debian:trixie-slim" },
      { name = "gcc13", base = "debian:trixie-slim" },
      { name = "dotnet8", base = "mcr.microsoft.com/dotnet/runtime:8.0-bookworm-slim" },
      { name = "scala3", base = "eclipse-temurin:21-jre" },
      { name = "ghc96", base = "debian:bookworm-slim" },
    ]
  }
  name       = "runtime-${replace(image.name, ".", "-")}"
  context    = ".cache/images"
  dockerfile = "../../images/Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${PREFIX}/${image.name}:${TAG}"]
  args = {
    BASE       = image.base
    BASE_WORDS = "${image.base}, the upstream image"
    RUNTIME    = image.name
    VERSION    = VERSION
  }
}

target "agent" {
  context    = ".cache/images"
  dockerfile = "../../images/agent.Dockerfile"
  platforms  = ["linux/amd64"]
  tags       = ["${PREFIX}/agent:${TAG}"]
  args = {
    BASE       = "debian:bookworm-slim"
    BASE_WORDS = "debian:bookworm-slim, the upstream image"
    VERSION    = VERSION
  }
}
