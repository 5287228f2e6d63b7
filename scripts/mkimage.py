#!/usr/bin/env python3
"""Writes an image of one static binary as an OCI layout in a tar.

containerd (ctr images import), podman and docker load it, older dockers by the manifest.json that
is there too. The same input gives the same bytes."""

import argparse
import hashlib
import io
import json
import os
import platform
import tarfile

EPOCH = "2026-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def add(tar, name, data, mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def add_parents(tar, name, done):
    parts = name.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        directory = "/".join(parts[:end])
        if directory not in done:
            done.add(directory)
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)


def layer(files):
    """A layer with each (path, source, mode)."""
    out, directories = io.BytesIO(), set()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, source, mode in files:
            with open(source, "rb") as file:
                add_parents(tar, path, directories)
                add(tar, path, file.read(), mode)
    return out.getvalue()


class Blobs:
    def __init__(self):
        self.files = {}

    def add(self, media_type, data):
        """Keeps the data, and returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.files["blobs/sha256/" + digest] = data
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    def add_json(self, media_type, value):
        return self.add(media_type, json.dumps(value).encode())


def path_of(descriptor):
    return descriptor["digest"].replace("sha256:", "blobs/sha256/")


def write(args):
    files = [(args.entrypoint.lstrip("/"), args.binary, 0o755)]
    files += [(path.lstrip("/"), source, 0o644) for path, source in args.file]
    blobs = Blobs()
    content = blobs.add("application/vnd.oci.image.layer.v1.tar", layer(files))
    config = blobs.add_json("application/vnd.oci.image.config.v1+json", {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": EPOCH,
        "config": {"Entrypoint": [args.entrypoint], "User": args.user, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [content["digest"]]},
        "history": [{"created": EPOCH, "created_by": "l4way/scripts/mkimage.py"}],
    })
    manifest = blobs.add_json("application/vnd.oci.image.manifest.v1+json", {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [content],
    })
    index = {"schemaVersion": 2, "manifests": [
        {**manifest, "annotations": {
            "io.containerd.image.name": tag,
            "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
        }} for tag in args.tags]}
    docker = [{"Config": path_of(config), "RepoTags": args.tags, "Layers": [path_of(content)]}]
    with tarfile.open(args.out + ".new", "w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add(tar, "index.json", json.dumps(index).encode())
        add(tar, "manifest.json", json.dumps(docker).encode())
        for name, data in blobs.files.items():
            add(tar, name, data)
    os.rename(args.out + ".new", args.out)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out", help="the tar to write")
parser.add_argument("binary", help="the static binary")
parser.add_argument("tags", nargs="+", help="full names, as docker.io/l4way/l4way:dev")
parser.add_argument("--entrypoint", required=True, help="where the binary is in the image")
parser.add_argument("--user", default="65532:65532", help="numbers, as 65532:65532")
parser.add_argument("--file", nargs=2, action="append", default=[], metavar=("PATH", "SOURCE"))
write(parser.parse_args())
