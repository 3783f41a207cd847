"""Checks rendered Kubernetes manifests against the schemas of the newest known version, strictly.

Reads a YAML file with any number of documents and writes a JSON list to standard output: for each document the document
itself, whether there is a schema for its kind, and what is wrong with it (or null).
"""

import json
import sys

import kubernetes_validate
import yaml


def checked(document):
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return {"document": document, "known": False, "wrong": None}
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(step) for step in error.absolute_path)
        return {"document": document, "known": True, "wrong": f"{place}: {error.message}"}
    return {"document": document, "known": True, "wrong": None}


with open(sys.argv[1], encoding="utf-8") as file:
    documents = [document for document in yaml.safe_load_all(file) if document is not None]
json.dump([checked(document) for document in documents], sys.stdout)
