"""Judges an OpenAPI document from stdin by openapi-spec-validator; tells the first thing that is wrong, if any."""

import json
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

errors = [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in OpenAPIV31SpecValidator(json.load(sys.stdin)).iter_errors()]
print("\n".join(errors[:20]))
sys.exit(1 if errors else 0)
