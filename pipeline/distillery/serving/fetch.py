"""Brings what a model server needs to its pod before it starts: the base model's files, and a student's, checked.

python -m distillery.serving.fetch --model MODEL [--revision COMMIT]
                                   [--artifact STAGE --store URI --cache FOLDER [--endpoint-url URL]]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from distillery.artifacts import ArtifactError, store_at
from distillery.models import ModelNotFound, resolve


def main() -> None:
    """Fetch. Exit code 78 where a model can't be had, 1 where an artifact can't."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a repository or a folder")
    parser.add_argument("--revision", help="the commit of a repository")
    parser.add_argument("--artifact", help="the stage that trained the student")
    parser.add_argument("--store", help="URI of the run's artifacts")
    parser.add_argument("--cache", type=Path, help="folder for artifacts that come from elsewhere")
    parser.add_argument("--endpoint-url", help="of an S3 server other than AWS's")
    options = parser.parse_args()
    try:
        print(resolve(options.model, options.revision))
        if options.artifact:
            store = store_at(options.store, cache=options.cache, endpoint_url=options.endpoint_url)
            print(store.open(options.artifact)[0])
    except ModelNotFound as error:
        print(error, file=sys.stderr)
        sys.exit(78)
    except ArtifactError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
