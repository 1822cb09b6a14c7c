"""Saves coremltools models as .mlpackage directories whose bytes do not change from run to run.

coremltools gives every package item a random UUID, stamps the conversion date into the metadata and
writes protobuf maps in hash order. None of that carries meaning, so it is replaced by stable values.
"""

import json
import shutil
import uuid
from pathlib import Path

import coremltools as ct

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:ane-manager:mlpackage")
UNSTABLE_METADATA = ("com.github.apple.coremltools.conversion_date",)


def save(model: ct.models.MLModel, path: Path) -> None:
    """Writes `model` to `path`, replacing what is there, in a form that a second run repeats."""
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(str(path))
    _remove_empty_folders(path)
    _stabilise_spec(path / "Data" / "com.apple.CoreML" / "model.mlmodel")
    _stabilise_manifest(path)
    for file in path.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def _remove_empty_folders(path: Path) -> None:
    """A model without big constants has an empty weights folder, which git would not keep."""
    for folder in [x for x in path.rglob("*") if x.is_dir()]:
        if not any(folder.iterdir()):
            folder.rmdir()


def _stabilise_spec(path: Path) -> None:
    spec = ct.proto.Model_pb2.Model.FromString(path.read_bytes())
    for key in UNSTABLE_METADATA:
        spec.description.metadata.userDefined.pop(key, None)
    path.write_bytes(spec.SerializeToString(deterministic=True))


def _stabilise_manifest(package: Path) -> None:
    path = package / "Manifest.json"
    manifest = json.loads(path.read_text())
    entries = {
        old: entry
        for old, entry in manifest["itemInfoEntries"].items()
        if (package / "Data" / entry["path"]).exists()
    }
    stable = {old: str(uuid.uuid5(NAMESPACE, entry["path"])).upper() for old, entry in entries.items()}
    manifest["itemInfoEntries"] = {stable[old]: entry for old, entry in entries.items()}
    manifest["rootModelIdentifier"] = stable[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")
