"""Lays out an installed .NET runtime from an application that carries its own: APP MUXER OUT.

APP is the folder of a self-contained publish. Its deps.json says which of its files belong to the runtime pack: they
become `shared/Microsoft.NETCore.App/VERSION` with a deps.json of their own, `libhostfxr.so` goes to
`host/fxr/VERSION`, and MUXER becomes `dotnet`.
"""

import json
import shutil
import sys
from pathlib import Path

PACK = "runtimepack.Microsoft.NETCore.App.Runtime"
FXR = "libhostfxr.so"


def runtime_pack(app):
    """The platform's name, the version and the files (managed and native) of the runtime that APP carries."""
    deps = json.loads(next(app.glob("*.deps.json")).read_text(encoding="utf-8-sig"))
    target = deps["runtimeTarget"]["name"]
    for name, pack in deps["targets"][target].items():
        if name.startswith(PACK):
            return target, name.rsplit("/", 1)[1], pack["runtime"], pack["native"]
    raise SystemExit(f"dotnet: {app} carries no runtime of its own")


def framework_deps(target, version, managed, native):
    platform = target.rsplit("/", 1)[1]
    library = f"Microsoft.NETCore.App.Runtime.{platform}/{version}"
    return {
        "runtimeTarget": {"name": target, "signature": ""},
        "compilationOptions": {},
        "targets": {target.split("/")[0]: {}, target: {library: {"runtime": managed, "native": native}}},
        "libraries": {library: {"type": "package", "serviceable": True, "sha512": ""}},
    }


def lay_out(app, muxer, out):
    target, version, managed, native = runtime_pack(app)
    framework = out / "shared" / "Microsoft.NETCore.App" / version
    resolver = out / "host" / "fxr" / version
    framework.mkdir(parents=True)
    resolver.mkdir(parents=True)
    native = {name: about for name, about in native.items() if name != FXR}
    for name in (*managed, *native):
        shutil.copyfile(app / Path(name).name, framework / Path(name).name)
    deps = framework_deps(target, version, managed, native)
    (framework / "Microsoft.NETCore.App.deps.json").write_text(json.dumps(deps))
    (framework / ".version").write_text(f"0\n{version}\n")
    shutil.copyfile(app / FXR, resolver / FXR)
    shutil.copyfile(muxer, out / "dotnet")
    (out / "dotnet").chmod(0o755)


if __name__ == "__main__":
    lay_out(*map(Path, sys.argv[1:]))
