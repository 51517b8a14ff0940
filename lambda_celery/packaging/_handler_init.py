"""Initialise a handler as Lambda does, and tell what tasks there are then.

Run as a script: ``python -I -S -X importtime _handler_init.py RUNTIME_PACKAGES HANDLER``, where
RUNTIME_PACKAGES is a JSON list of paths, in the unpacked package. The last line of its standard
output is a JSON object; the import times are on its standard error.
"""

import importlib
import json
import os
import sys

if __name__ == "__main__":
    sys.path[:0] = [os.getcwd(), *json.loads(sys.argv[1])]
    importlib.import_module(sys.argv[2].replace("/", ".").rpartition(".")[0])
    # After the module: it is no part of what is measured.
    tasks = sorted(importlib.import_module("celery").current_app.tasks)
    sys.stdout.write("\n" + json.dumps({"tasks": tasks}) + "\n")
