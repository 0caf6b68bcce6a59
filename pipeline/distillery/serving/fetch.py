"""The files that a model server's pod needs before it starts: the base model's, and a student's, checked.

python -m distillery.serving.fetch --model MODEL [--revision COMMIT]
                                   [--artifact STAGE --student DIGEST --run IDENTITY --store URI --cache FOLDER
                                    [--endpoint-url URL]]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from distillery.core.artifacts import ArtifactError, Identity, store_at
from distillery.core.model_files import ModelNotFound, resolve


def main() -> None:
    """Fetch the files. Exit with code 78 if a model is not available, and with 1 if an artifact is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a repository or a folder")
    parser.add_argument("--revision", help="the commit of a repository")
    parser.add_argument("--artifact", help="the stage that trained the student")
    parser.add_argument("--student", default="", help="the digest of its adapter")
    parser.add_argument("--run", help="the identity of the run, UID-DIGEST")
    parser.add_argument("--store", help="URI of the artifacts of all runs of the name")
    parser.add_argument("--cache", type=Path, help="folder for artifacts that come from elsewhere")
    parser.add_argument("--endpoint-url", help="of an S3 server other than AWS's")
    options = parser.parse_args()
    try:
        print(resolve(options.model, options.revision))
        if options.artifact:
            run = Identity.parse(options.run)
            store = store_at(options.store, run, cache=options.cache, endpoint_url=options.endpoint_url)
            folder = store.open(options.artifact, student=options.student)[0]
            print(_link(options.cache / run.key / options.artifact, folder))
    except ModelNotFound as error:
        print(error, file=sys.stderr)
        sys.exit(78)
    except ArtifactError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _link(place: Path, folder: Path) -> Path:
    """Return the folder in which the server looks for an artifact; link it to one that an earlier version wrote."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another pod does the same
            place.symlink_to(folder)
    return place


if __name__ == "__main__":
    main()
